"""A published plan makes nobody run out of memory by its network alone."""

from __future__ import annotations

import pytest

from policies.network_arguments import Arguments
from policies.training import Network
from tasks.train import networks
from tasks.train.networks.errors import NetworkSizeError
from tests.tasks.train.networks.covered import image_data


@pytest.mark.parametrize(
    ("arguments", "sides"),
    [
        ({"channels": [20000, 20000], "strides": [2]}, (64, 64)),
        ({"channels": [2048, 4], "strides": [2], "kernel_size": 1, "up_kernel_size": 1}, (2048, 2048)),
    ],
    ids=["weights", "activations"],
)
def test_a_network_that_is_too_large_is_refused_before_memory_is_taken(
    arguments: Arguments, sides: tuple[int, int]
) -> None:
    with pytest.raises(NetworkSizeError) as caught:
        networks.build(Network(name="UNet", arguments=arguments), image_data(*sides, mask=True))
    assert caught.value.code == "network.too-large"
