"""The small network for small images: its published size, and what it refuses."""

from __future__ import annotations

import pytest

from ledger.errors import CodedError
from policies.network_arguments import Arguments
from policies.training import Network
from tasks.train import networks
from tests.tasks.train.networks.covered import image_data


def test_it_has_as_many_weights_as_the_one_that_was_published() -> None:
    """26,010 with ten classes, of which nine are not here (Tramèr and Boneh 2021, table 8)."""
    template = networks.template(Network(name="SmallConvNet"), image_data(28, 28))
    assert sum(tensor.size for tensor in template.values()) == 26_010 - 9 * 33


@pytest.mark.parametrize(
    ("sides", "arguments", "code"),
    [
        ((12, 28), {}, "network.shape"),
        ((28, 28, 28), {}, "network.unknown"),
        ((28, 28), {"channels": [16]}, "network.argument"),
        ((28, 28), {"channels": [16, 0]}, "network.argument"),
        ((28, 28), {"hidden": [16, 8]}, "network.argument"),
        ((28, 28), {"strides": [2, 2]}, "network.argument"),
    ],
)
def test_what_it_cannot_take_is_refused(sides: tuple[int, ...], arguments: Arguments, code: str) -> None:
    with pytest.raises(CodedError) as refused:
        networks.build(Network(name="SmallConvNet", arguments=arguments), image_data(*sides))
    assert refused.value.code == code
