"""Networks for tables, by name like any other."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ledger.errors import InputError
from policies.data_contract import DataContract, FeatureTable, NumberFeature, WordFeature
from policies.training import Network
from tasks.train import networks
from tests.tasks.train.networks.covered import image_data

DATA = DataContract(
    table=FeatureTable(
        features=(
            NumberFeature(kind="number", name="age", lower=0, upper=120),
            WordFeature(kind="word", name="pain", categories=("none", "typical", "other")),
        ),
        label="disease",
    ),
    labels=(0, 1),
    minimum_patients=1,
    held_out_fraction=0.2,
)
GOOD = (
    ("LogisticRegression", {}, 5),
    ("MLP", {}, 4 * 16 + 16 + 16 * 8 + 8 + 8 + 1),
    ("MLP", {"hidden": [3], "act": "relu"}, 4 * 3 + 3 + 3 + 1),
    ("MLP", {"hidden": [6], "norm": "group"}, 4 * 6 + 6 + 12 + 6 + 1),
)


@pytest.mark.parametrize(("name", "arguments", "parameters"), GOOD)
def test_one_logit_a_row(name: str, arguments: dict[str, object], parameters: int) -> None:
    network = Network.from_value({"name": name, **arguments}, what="network")
    module = networks.build(network, DATA)
    assert module(torch.zeros(3, 4)).shape == (3,)
    assert sum(one.numel() for one in module.parameters()) == parameters
    assert networks.examine(network, DATA).frozen == ()


def test_logistic_regression_begins_where_every_row_is_a_coin_toss() -> None:
    module = networks.build(Network(name="LogisticRegression"), DATA)
    networks.load(module, networks.initial(Network(name="LogisticRegression"), DATA, 3))
    rows = torch.randn(4, 4)
    assert torch.equal(module(rows), torch.zeros(4))
    weights = networks.initial(Network(name="LogisticRegression"), DATA, 3)
    weights["classifier.linear.weight"] = np.array([[1, 2, 3, 4]], np.float32)
    networks.load(module, weights)
    torch.testing.assert_close(module(rows), rows @ torch.tensor([1.0, 2, 3, 4]))


def test_a_known_prevalence_is_where_logistic_regression_begins() -> None:
    network = Network.from_value({"name": "LogisticRegression", "prevalence": 0.11}, what="network")
    module = networks.loaded(network, DATA, networks.initial(network, DATA, 3))
    torch.testing.assert_close(torch.sigmoid(module(torch.zeros(2, 4))), torch.full((2,), 0.11))


WRONG = (
    ("LogisticRegression", {"prevalence": 0.0}, DATA, "network.argument", "prevalence"),
    ("LogisticRegression", {"prevalence": 1.0}, DATA, "network.argument", "prevalence"),
    ("MLP", {"prevalence": 0.5}, DATA, "network.argument", "prevalence"),
    ("LogisticRegression", {"hidden": [2]}, DATA, "network.argument", "hidden"),
    ("MLP", {"hidden": []}, DATA, "network.argument", "hidden"),
    ("MLP", {"hidden": [0]}, DATA, "network.argument", "widths"),
    ("MLP", {"act": "gelu"}, DATA, "network.argument", "act"),
    ("MLP", {}, image_data(16, 16), "network.unknown", "learns from a table"),
    ("DenseNet121", {}, DATA, "network.unknown", "learns from images"),
)


@pytest.mark.parametrize(("name", "arguments", "data", "code", "words"), WRONG)
def test_it_is_refused_with_what_to_write(
    name: str, arguments: dict[str, object], data: DataContract, code: str, words: str
) -> None:
    with pytest.raises(InputError) as caught:
        networks.build(Network.from_value({"name": name, **arguments}, what="network"), data)
    assert caught.value.code == code and words in str(caught.value) and caught.value.remedy
