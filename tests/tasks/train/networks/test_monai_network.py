"""What a plan may write of a network, and what it is told where it may not."""

from __future__ import annotations

import pytest

from ledger.errors import InputError
from policies.data_contract import DataContract
from policies.training import Network
from tasks.train import networks
from tests.tasks.train.networks.covered import image_data

LABEL, MASK = image_data(32, 32), image_data(32, 32, mask=True)
WRONG: dict[str, tuple[str, dict[str, object], DataContract, str, str]] = {
    "a slip": ("DensNet121", {}, LABEL, "network.unknown", "Did you mean DenseNet121"),
    "no network": ("Generator", {}, LABEL, "network.argument", "Generator needs channels, latent_shape"),
    "a block": ("ResNetBlock", {}, LABEL, "network.argument", "needs"),
    "what is no class": ("Norm", {}, LABEL, "network.unknown", "there is no network Norm"),
    "fetched weights": ("TorchVisionFCModel", {}, LABEL, "network.unavailable", "fetches weights"),
    "an argument of another": (
        "DenseNet121",
        {"strides": [2]},
        LABEL,
        "network.argument",
        "takes no strides",
    ),
    "a missing argument": ("UNet", {"channels": [4, 8]}, MASK, "network.argument", "needs strides"),
    "a value": ("EfficientNetBN", {"model_name": "b9"}, LABEL, "network.argument", "cannot be made"),
    "too small": ("DenseNet121", {}, image_data(16, 16), "network.shape", "do not go through"),
    "not divisible": (
        "SegResNet",
        {"init_filters": 8},
        image_data(20, 20, mask=True),
        "network.shape",
        "do not go through",
    ),
    "a mask of a classifier": ("DenseNet121", {}, MASK, "network.shape", "where the plan needs 1 x 32 x 32"),
    "a label of a mask network": (
        "BasicUNet",
        {"features": [4] * 6},
        LABEL,
        "network.shape",
        "makes 1 x 32 x 32 of an item",
    ),
    "several outputs": (
        "BasicUNetPlusPlus",
        {"features": [4] * 6, "deep_supervision": True},
        MASK,
        "network.shape",
        "several outputs",
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_it_is_refused_with_what_to_write(what: str) -> None:
    name, arguments, data, code, words = WRONG[what]
    network = Network.from_value({"name": name, **arguments}, what="network")
    with pytest.raises(InputError) as caught:
        networks.build(network, data)
    assert (caught.value.code, words in str(caught.value)) == (code, True), str(caught.value)
    assert caught.value.remedy


def test_what_a_plan_may_write_is_listed() -> None:
    with pytest.raises(InputError) as caught:
        networks.build(Network(name="DenseNet121", arguments={"strides": [2]}), LABEL)
    assert "growth_rate" in caught.value.remedy and "spatial_dims" not in caught.value.remedy


def test_what_passes_through_to_the_class_it_extends_is_taken() -> None:
    arguments = {"init_features": 8, "growth_rate": 4, "block_config": [1, 1], "dropout_prob": 0.1}
    small = networks.template(Network.from_value({"name": "DenseNet121", **arguments}, what="network"), LABEL)
    assert sum(one.size for one in small.values()) < 5_000


def test_nothing_is_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Classes whose default is to fetch weights are told not to."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr("socket.socket.connect", refuse)
    networks.initial(Network(name="EfficientNetBN", arguments={"model_name": "efficientnet-b0"}), LABEL, 0)
