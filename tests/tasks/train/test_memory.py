"""How many items a pass holds, and what a clipped pass takes, counted and not timed."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from policies.network_arguments import Arguments
from policies.training import Network
from privacy.clipping.clipped_sum import ClippedSum
from tasks.train import memory, networks
from tasks.train.losses import item_losses
from tasks.train.memory import OutOfMemoryError, PassLimit
from tasks.train.metering import Meter
from tests.tasks.train.networks.covered import image_data

_VIT: Arguments = {"patch_size": 16, "hidden_size": 768, "mlp_dim": 96, "num_layers": 1, "num_heads": 4}


def _weights(module: nn.Module) -> int:
    """Sums are in double precision, for which each weight takes four bytes more."""
    return sum(one.numel() for one in module.parameters())


def test_the_meter_counts_what_lives_and_forgets_what_died() -> None:
    weights = torch.zeros(7)
    with Meter() as meter:
        kept = torch.zeros(1000) + 1.0
        view, _mine = kept.view(10, 100), weights.view(7, 1)
        del kept
        assert (meter.live_bytes, meter.peak_bytes) == (4000, 8000)
        del view
        assert meter.live_bytes == 0


@pytest.mark.parametrize("patients", [[1, 1, 1, 1], [4]], ids=str)
def test_a_patch_embedding_is_clipped_in_about_the_memory_of_a_plain_step(patients: list[int]) -> None:
    """48 x 48 pixels under a kernel of 16 x 16: a Gram matrix over all pixels would take 42 MB a patient."""
    data = image_data(48, 48)
    module = networks.build(Network(name="ViT", norm_groups=4, arguments=_VIT), data).train()
    items, targets = torch.rand(4, *data.shape), torch.ones(4)
    with Meter() as plain:
        item_losses(module(items), targets).mean().backward()
    module.zero_grad(set_to_none=True)
    total = ClippedSum(module, clip_l2=1.0)
    with Meter() as private:
        total.add(items, lambda logits: item_losses(logits, targets), patients)
    assert private.peak_bytes < 1.5 * plain.peak_bytes + 4 * _weights(module)


def test_a_volume_in_patches_is_clipped_in_about_the_memory_of_a_plain_step() -> None:
    data = image_data(32, 32, 32, mask=True)
    arguments: Arguments = {"feature_size": 4, "hidden_size": 48, "mlp_dim": 96, "num_heads": 4}
    module = networks.build(Network(name="UNETR", norm_groups=4, arguments=arguments), data).train()
    items, targets = torch.rand(1, *data.shape), torch.ones(1, *data.shape)
    with Meter() as plain:
        item_losses(module(items), targets).mean().backward()
    module.zero_grad(set_to_none=True)
    with Meter() as private:
        ClippedSum(module, clip_l2=1.0).add(items, lambda logits: item_losses(logits, targets), [1])
    assert private.peak_bytes < 1.5 * plain.peak_bytes + 4 * _weights(module)


def test_weights_are_not_counted_with_every_item(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forty megabytes of weights, a kilobyte of activations: a pass is as long as any may be."""
    module = nn.Sequential(
        nn.Flatten(), nn.Linear(16, 3000), nn.ReLU(), nn.Linear(3000, 3000), nn.Linear(3000, 1)
    )
    monkeypatch.setattr(memory, "_CPU_BYTES", 2**26)
    assert PassLimit.for_module(module, (16,), "cpu").items == 256


def test_what_an_item_takes_bounds_the_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    module = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(16 * 64 * 64, 1)
    )
    monkeypatch.setattr(memory, "_CPU_BYTES", 2**24)
    items = PassLimit.for_module(module, (1, 64, 64), "cpu").items
    total = ClippedSum(module, clip_l2=1.0)
    with Meter() as meter:
        total.add(torch.zeros(items, 1, 64, 64), lambda logits: logits.squeeze(1).square(), [1] * items)
    assert 2**23 < meter.peak_bytes < 1.5 * 2**24


class Hungry(nn.Module):
    """Runs out of memory with more than so many items."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most, self.last = most, nn.Linear(3, 1)

    def forward(self, items: torch.Tensor) -> torch.Tensor:
        if len(items) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1.00 GiB")
        found: torch.Tensor = self.last(items)
        return found


def test_memory_that_runs_out_while_it_is_measured_is_named_or_makes_passes_smaller() -> None:
    for most in (1, 2):
        module = Hungry(most)
        assert PassLimit.for_module(module, (3,), "cpu").items == most
        assert module.training
    with pytest.raises(OutOfMemoryError) as caught:
        PassLimit.for_module(Hungry(0), (3,), "cpu")
    assert caught.value.code == "train.memory"
