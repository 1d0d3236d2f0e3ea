"""What the clipped sum promises whoever calls it: sensitivity, equal weight, all or nothing, and clear refusals."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from privacy.clipping.clipped_sum import ClippedSum
from privacy.clipping.contribution import Ghost
from privacy.clipping.errors import BatchInvalidError, UnsupportedNetworkError
from tests.privacy.clipping import by_hand


def small(dtype: torch.dtype = torch.float64) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.GroupNorm(2, 4),
        nn.ReLU(inplace=True),
        nn.Conv2d(4, 8, 3, stride=2),
        nn.PReLU(8),
        nn.Flatten(),
        nn.Linear(72, 1),
    ).to(dtype)


def squares(outputs: Tensor) -> Tensor:
    return outputs.flatten(1).square().sum(1)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    exponent=st.integers(-12, 12),
    clip_l2=st.sampled_from([1e-3, 0.1, 1.0, 3.0, 77.0]),
    items=st.integers(1, 3),
)
def test_no_patient_moves_the_sum_by_more_than_the_clip(
    seed: int, exponent: int, clip_l2: float, items: int
) -> None:
    module = small(torch.float32)
    inputs = torch.randn(items, 1, 8, 8, generator=torch.Generator().manual_seed(seed))
    total = ClippedSum(module, clip_l2=clip_l2)
    total.add(inputs, lambda outputs: squares(outputs) * 10.0**exponent, [items])
    assert by_hand.norm(total.take()) <= clip_l2
    total.add_one(inputs.split(1), lambda outputs: squares(outputs) * 10.0**exponent, items)
    assert by_hand.norm(total.take()) <= clip_l2


def test_a_patient_with_one_image_and_one_with_500_weigh_the_same() -> None:
    module, one = small(), torch.randn(1, 1, 8, 8, dtype=torch.float64)
    total = ClippedSum(module, clip_l2=1e9)
    total.add(one, squares, [1])
    alone = total.take()
    total.add(torch.cat([one.expand(500, -1, -1, -1), -one]), squares, [500, 1])
    both = total.take()
    total.add(-one, squares, [1])
    other = total.take()
    expected = [first + second for first, second in zip(alone, other, strict=True)]
    assert by_hand.distance(both, expected) < 1e-12


def test_the_order_of_patients_and_of_passes_means_nothing() -> None:
    module, inputs = small(), torch.randn(9, 1, 8, 8, dtype=torch.float64)
    losses_of = by_hand.squared_losses(9, scale=100.0)
    patients = [3, 1, 2, 1, 2]
    expected = by_hand.clipped_sum(by_hand.gradients(module, inputs, losses_of, patients), 0.5)
    total = ClippedSum(module, clip_l2=0.5)
    total.add(inputs, losses_of(slice(None)), patients)
    found = total.take()
    assert by_hand.distance(found, expected) < 1e-12
    assert not any(part.requires_grad for part in found)
    total.add(inputs[:4], losses_of(slice(0, 4)), [3, 1])
    total.add(inputs[6:], losses_of(slice(6, 9)), [1, 2])
    total.add_one(iter([inputs[4:5], inputs[5:6]]), chunked(losses_of, start=4), 2)
    assert by_hand.distance(total.take(), expected) < 1e-12


def chunked(losses_of: by_hand.LossesOf, *, start: int) -> Callable[[Tensor], Tensor]:
    """The losses of one chunk after the other."""

    def losses(outputs: Tensor) -> Tensor:
        nonlocal start
        part = slice(start, start + len(outputs))
        start = part.stop
        return losses_of(part)(outputs)

    return losses


@pytest.mark.parametrize("spoilt", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_patient_without_a_finite_gradient_is_not_seen_in_the_sum(
    spoilt: float, dtype: torch.dtype
) -> None:
    """A patient whose features overflow would otherwise be told by whether the hospital reports at all."""
    module, inputs = small(dtype), torch.randn(20, 1, 8, 8, dtype=dtype)
    total = ClippedSum(module, clip_l2=0.5)
    total.add(torch.cat([inputs[:7], inputs[8:]]), squares, [1] * 19)
    expected = total.take()
    inputs[7, 0, 3, 3] = spoilt
    total.add(inputs, squares, [1] * 20)
    assert by_hand.distance(total.take(), expected) < (1e-12 if dtype == torch.float64 else 1e-5)
    total.add_one(iter(inputs[6:9].split(1)), squares, 3)
    assert by_hand.norm(total.take()) == 0.0


@pytest.mark.parametrize("spoilt", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_no_number_concerns_its_own_patient(spoilt: float) -> None:
    module, inputs = small(), torch.randn(4, 1, 8, 8, dtype=torch.float64)
    total = ClippedSum(module, clip_l2=0.5)
    total.add(inputs[:3], squares, [1] * 3)
    expected = total.take()
    total.add(inputs, lambda outputs: squares(outputs) * torch.tensor([1.0, 1.0, 1.0, spoilt]), [1] * 4)
    assert by_hand.distance(total.take(), expected) < 1e-12
    total.add_one(iter([inputs]), lambda outputs: squares(outputs) * spoilt, 4)
    assert by_hand.norm(total.take()) == 0.0


def test_terms_that_cancel_do_not_pass_the_clip_by_their_rounding() -> None:
    """The gradient of a weight is next to nothing in exact arithmetic, its terms are enormous: float32 leaves far
    more than the clip of them, and a norm that is taken without forming the gradient does not see it."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(64, 64, bias=False))
    rows = torch.randn(1, 1, 64) * 1e8
    inputs = rows + torch.randn(1, 16, 64)

    def cancelling(outputs: Tensor) -> Tensor:
        signs = torch.tensor([1.0, -1.0]).repeat(8)[:, None]
        return (outputs * signs * torch.linspace(0.9, 1.1, 64)).sum((1, 2))

    total = ClippedSum(module, clip_l2=1.0)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("privacy.clipping.linear.ghost_is_cheaper", lambda **_: True)
        total.add(inputs, cancelling, [1])
    assert by_hand.norm(total.take()) <= 1.0


@pytest.mark.parametrize("size", [1e30, 1e36, 3e38])
def test_a_factor_too_small_for_single_precision_is_none(size: float) -> None:
    module = nn.Linear(4, 1, bias=False)
    total = ClippedSum(module, clip_l2=5e-7)
    total.add(torch.full((1, 4), size), lambda outputs: outputs.flatten(), [1])
    assert by_hand.norm(total.take()) <= 5e-7
    total.add_one(iter([torch.full((1, 4), size)]), lambda outputs: outputs.flatten(), 1)
    assert by_hand.norm(total.take()) <= 5e-7


def test_many_passes_add_up_without_rounding() -> None:
    """In single precision a large sum swallows what is small beside it, and with it how much one patient moves it."""
    module = nn.Linear(1, 1, bias=False)
    total = ClippedSum(module, clip_l2=1.0)
    for size in (1e9, *[1e-8] * 100):
        total.add(torch.full((1, 1), size), lambda outputs: outputs.flatten(), [1])
    (found,) = total.take()
    assert found.dtype == torch.float64
    assert float(found) - (1 - 2.0**-8) == pytest.approx(1e-6, rel=1e-3)


def test_memory_that_runs_out_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    module, inputs = small(), torch.randn(3, 1, 8, 8, dtype=torch.float64)
    total = ClippedSum(module, clip_l2=1.0)
    total.add(inputs[:1], squares, [1])
    calls = 0

    def out_of_memory(*_: object) -> Tensor:
        nonlocal calls
        calls += 1
        if calls == 4:
            raise RuntimeError("can't allocate memory")
        return torch.zeros(())

    with monkeypatch.context() as patched, pytest.raises(RuntimeError, match="allocate"):
        patched.setattr("privacy.clipping.contribution.Kept.weighted", out_of_memory)
        total.add(inputs, squares, [1, 1, 1])
    expected = by_hand.clipped_sum(by_hand.gradients(module, inputs, lambda _: squares, [1]), 1.0)
    assert by_hand.distance(total.take(), expected) < 1e-12


def test_nobody_adds_nothing_and_taking_starts_anew() -> None:
    total = ClippedSum(small(), clip_l2=1.0)
    total.add(torch.zeros(0, 1, 8, 8, dtype=torch.float64), squares, [])
    assert all(float(part.abs().max()) == 0.0 for part in total.take())
    total.add(torch.ones(1, 1, 8, 8, dtype=torch.float64), squares, [1])
    assert by_hand.norm(total.take()) > 0.0
    assert by_hand.norm(total.take()) == 0.0


def test_a_pass_leaves_the_module_and_its_gradients_as_they_were() -> None:
    module = small()
    module[0].weight.grad = marker = torch.ones_like(module[0].weight)
    before = {name: set(vars(part)) for name, part in module.named_modules()}
    total = ClippedSum(module, clip_l2=1.0)
    total.add(torch.ones(1, 1, 8, 8, dtype=torch.float64), squares, [1])
    with pytest.raises(ZeroDivisionError):
        total.add(torch.ones(1, 1, 8, 8, dtype=torch.float64), lambda _: 1 / 0, [1])
    assert module[0].weight.grad is marker and float(marker.sum()) == marker.numel()
    assert all(value.grad is None for name, value in module.named_parameters() if name != "0.weight")
    assert {name: set(vars(part)) for name, part in module.named_modules()} == before
    total.close()


def test_frozen_parameters_take_no_part() -> None:
    module, inputs = small(), torch.randn(2, 1, 8, 8, dtype=torch.float64)
    for value in (*module[0].parameters(), module[1].bias, module[3].weight):
        value.requires_grad_(False)
    losses_of = by_hand.squared_losses(2, scale=9.0)
    total = ClippedSum(module, clip_l2=0.3)
    total.add(inputs, losses_of(slice(None)), [1, 1])
    expected = by_hand.clipped_sum(by_hand.gradients(module, inputs, losses_of, [1, 1]), 0.3)
    found = total.take()
    assert len(found) == len([value for value in module.parameters() if value.requires_grad])
    assert by_hand.distance(found, expected) < 1e-12


def test_channels_last_is_clipped_alike() -> None:
    module = small().to(memory_format=torch.channels_last)
    inputs = torch.randn(3, 1, 8, 8, dtype=torch.float64).to(memory_format=torch.channels_last)
    losses_of = by_hand.squared_losses(3, scale=9.0)
    total = ClippedSum(module, clip_l2=0.3)
    total.add(inputs, losses_of(slice(None)), [1, 2])
    expected = by_hand.clipped_sum(by_hand.gradients(module, inputs, losses_of, [1, 2]), 0.3)
    assert by_hand.distance(total.take(), expected) < 1e-12


def test_half_precision_in_the_network_leaves_the_clip_exact() -> None:
    module, inputs = small(torch.float32), torch.randn(4, 1, 8, 8)
    total = ClippedSum(module, clip_l2=0.5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        for start in range(4):
            total.add(inputs[start : start + 1], lambda outputs: 1e3 * squares(outputs), [1])
            found = total.take()
            assert all(part.dtype == torch.float64 for part in found)
            assert 0.49 < by_hand.norm(found) <= 0.5
        total.add(inputs, lambda outputs: 1e3 * squares(outputs), [1] * 4)
    expected = by_hand.clipped_sum(
        by_hand.gradients(module, inputs, lambda _: lambda outputs: 1e3 * squares(outputs), [1] * 4), 0.5
    )
    assert by_hand.distance(total.take(), expected) < 0.05


class Bypassing(nn.Module):
    """Uses a layer's weight past the layer, where no clipping would see it."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        found: Tensor = self.layer(inputs) @ self.layer.weight
        return found


class Overwriting(nn.Module):
    """Changes what a layer has read."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.layer = nn.Linear(3, 3), nn.Linear(3, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        found = self.first(inputs)
        scored: Tensor = self.layer(found)
        found *= 2.0
        return scored


class Folding(nn.Module):
    """Items no longer come first."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        found: Tensor = self.layer(inputs.flatten(0, 1)).view(inputs.shape)
        return found


@pytest.mark.parametrize("make", [Bypassing, Overwriting, Folding])
def test_a_network_that_would_get_a_wrong_gradient_is_refused(make: Callable[[], nn.Module]) -> None:
    module = make()
    total = ClippedSum(module, clip_l2=1.0)
    with pytest.raises(UnsupportedNetworkError) as refused:
        total.add(torch.randn(2, 4, 3), squares, [1, 1])
    assert refused.value.code == "clipping.unsupported"
    assert by_hand.norm(total.take()) == 0.0
    assert all(value.grad is None for value in module.parameters())


class Weighted(nn.Linear):
    """A layer that is not what its class says."""

    def forward(self, inputs: Tensor) -> Tensor:
        return super().forward(inputs) * 2.0


class Loose(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs * self.scale


def test_everything_that_cannot_be_private_is_named_at_once() -> None:
    module = nn.Sequential(
        nn.Linear(3, 3),
        nn.BatchNorm1d(3, affine=False),
        Weighted(3, 3),
        Loose(),
        nn.LSTM(3, 3),
        nn.InstanceNorm1d(3, affine=True, track_running_stats=True),
        nn.Embedding(3, 3, max_norm=1.0),
    )
    with pytest.raises(UnsupportedNetworkError) as refused:
        ClippedSum(module, clip_l2=1.0)
    for named in ("1, BatchNorm1d", "2.weight", "3.scale", "4.weight_ih_l0", "5.weight", "6.weight"):
        assert named in str(refused.value)
    assert "0.weight" not in str(refused.value)


def test_a_module_that_begins_to_mix_patients_is_refused_then() -> None:
    module = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3, affine=False)).eval()
    total = ClippedSum(module, clip_l2=1.0)
    total.add(torch.ones(2, 3), squares, [1, 1])
    module.train()
    with pytest.raises(UnsupportedNetworkError):
        total.add(torch.ones(2, 3), squares, [1, 1])
    with pytest.raises(UnsupportedNetworkError):
        total.add_one(iter([torch.ones(2, 3)]), squares, 2)


def test_items_patients_and_losses_must_fit() -> None:
    total = ClippedSum(nn.Linear(3, 1), clip_l2=1.0)
    for patients in ([1], [2, 0], [1, 2], []):
        with pytest.raises(BatchInvalidError):
            total.add(torch.ones(2, 3), squares, patients)
    with pytest.raises(BatchInvalidError):
        total.add(torch.ones(2, 3), torch.sum, [1, 1])
    with pytest.raises(BatchInvalidError):
        total.add_one(iter([torch.ones(2, 3)]), squares, 3)
    for clip_l2 in (0.0, -1.0, math.nan, math.inf, 1e-30, 1e30):
        with pytest.raises(BatchInvalidError):
            ClippedSum(nn.Linear(3, 1), clip_l2=clip_l2)
    with pytest.raises(UnsupportedNetworkError):
        ClippedSum(nn.ReLU(), clip_l2=1.0)


def test_a_norm_that_rounding_left_below_zero_is_none() -> None:
    module = nn.Linear(2, 1)
    below, nothing = torch.tensor([-1e-18, 4.0], dtype=torch.float64), torch.zeros(2, dtype=torch.float64)
    ghost = Ghost(module.weight, slice(0, 2), below, nothing, lambda _: module.weight)
    factors = ClippedSum(module, clip_l2=1.0)._factors(ghost.squares())
    assert factors.each.tolist() == [1.0, 0.5 * (1 - 2.0**-8)] and factors.nobody is None
