"""Every kind of layer, in float64, against every patient alone; both where gradients are kept and where only norms
are taken."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor, nn

from privacy.clipping import choice, norm
from privacy.clipping.clipped_sum import ClippedSum
from tests.privacy.clipping import by_hand

COUNTS = ([1, 1, 1, 1], [2, 2], [1, 3], [3, 1], [4])


class Twice(nn.Module):
    """One layer used twice: the two gradients of its weight add up before the norm."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, inputs: Tensor) -> Tensor:
        found: Tensor = self.layer(torch.tanh(self.layer(inputs)))
        return found


class Tied(nn.Module):
    """One weight in two modules."""

    def __init__(self) -> None:
        super().__init__()
        self.look_up = nn.Embedding(7, 5)
        self.score = nn.Linear(5, 7)
        self.score.weight = self.look_up.weight

    def forward(self, inputs: Tensor) -> Tensor:
        found: Tensor = self.score(self.look_up(inputs))
        return found


class Residual(nn.Module):
    """What breaks hooks: changes in place, of a layer's output and of a sum."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(2, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.norm, self.last = nn.GroupNorm(2, 4), nn.Linear(4, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        start = torch.relu_(self.first(inputs))
        found = self.norm(self.second(start))
        found += start
        found = self.last(torch.relu_(found).mean((2, 3)))
        found *= 2.0
        return torch.relu_(found)


class Between(nn.Module):
    """A layer between two others, so that its input gradient counts."""

    def __init__(self, before: nn.Module, layer: nn.Module) -> None:
        super().__init__()
        self.before, self.layer = before, layer

    def forward(self, inputs: Tensor) -> Tensor:
        found: Tensor = self.layer(torch.tanh(self.before(inputs)))
        return found


class Strided(nn.Module):
    """Inputs and output gradients that do not lie in memory as the kernels like them."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = Between(nn.PReLU(), layer)

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.layer(inputs.transpose(1, -1))
        spread = outputs.mean(-1)  # Its gradient is one number, repeated without memory.
        return spread.flatten(1) + outputs.transpose(1, -1).flatten(1)[:, : spread[0].numel()]


def image(*sides: int, channels: int = 3) -> Tensor:
    return torch.randn(4, channels, *sides)


CASES: list[tuple[str, Callable[[], nn.Module], Callable[[], Tensor]]] = [
    ("linear", lambda: nn.Linear(3, 5), lambda: torch.randn(4, 3)),
    ("linear, no bias", lambda: nn.Linear(3, 5, bias=False), lambda: torch.randn(4, 3)),
    ("linear, many positions", lambda: nn.Linear(3, 5), lambda: torch.randn(4, 2, 3, 3)),
    ("1-D", lambda: nn.Conv1d(3, 4, 3, stride=2, padding=1), lambda: image(9)),
    ("2-D", lambda: nn.Conv2d(3, 4, 3), lambda: image(6, 7)),
    ("2-D, place by place", lambda: nn.Conv2d(3, 4, 1), lambda: image(5, 4)),
    ("2-D, place by place, stride", lambda: nn.Conv2d(3, 4, 1, stride=2), lambda: image(5, 4)),
    ("2-D, stride", lambda: nn.Conv2d(3, 4, (3, 2), stride=(2, 3), padding=(2, 1)), lambda: image(8, 9)),
    ("2-D, dilation", lambda: nn.Conv2d(3, 4, 3, dilation=2, padding=2, bias=False), lambda: image(7, 7)),
    ("2-D, groups", lambda: nn.Conv2d(4, 6, 3, groups=2, padding=1), lambda: image(5, 5, channels=4)),
    ("2-D, depthwise", lambda: nn.Conv2d(4, 4, 3, groups=4, stride=2), lambda: image(7, 7, channels=4)),
    ("2-D, same", lambda: nn.Conv2d(3, 4, (4, 3), padding="same"), lambda: image(6, 6)),
    ("2-D, circular", lambda: nn.Conv2d(3, 4, 3, padding=1, padding_mode="circular"), lambda: image(5, 5)),
    ("2-D, in tiles", lambda: nn.Conv2d(3, 4, (3, 2), stride=(3, 2)), lambda: image(7, 6)),
    ("2-D, nearly in tiles", lambda: nn.Conv2d(3, 4, 2, stride=2, dilation=2), lambda: image(7, 6)),
    ("3-D, in tiles", lambda: nn.Conv3d(2, 3, 2, stride=2), lambda: image(4, 5, 2, channels=2)),
    (
        "2-D, transposed, in tiles",
        lambda: nn.ConvTranspose2d(3, 4, (2, 3), stride=(2, 3), output_padding=(1, 2)),
        lambda: image(3, 2),
    ),
    ("3-D", lambda: nn.Conv3d(2, 3, 3, padding=1), lambda: image(4, 5, 3, channels=2)),
    ("3-D, stride", lambda: nn.Conv3d(2, 3, 3, stride=2, padding=1), lambda: image(5, 5, 4, channels=2)),
    ("1-D, transposed", lambda: nn.ConvTranspose1d(3, 2, 3, stride=2), lambda: image(5)),
    (
        "2-D, transposed",
        lambda: nn.ConvTranspose2d(3, 4, 3, stride=2, padding=1, output_padding=1),
        lambda: image(4, 5),
    ),
    (
        "2-D, transposed, groups and dilation",
        lambda: nn.ConvTranspose2d(4, 6, 2, groups=2, dilation=2),
        lambda: image(4, 4, channels=4),
    ),
    (
        "3-D, transposed",
        lambda: nn.ConvTranspose3d(2, 3, 3, stride=2, padding=1, output_padding=1),
        lambda: image(3, 2, 3, channels=2),
    ),
    ("group norm", lambda: nn.GroupNorm(2, 4), lambda: image(3, 3, channels=4)),
    (
        "group norm between, channels last",
        lambda: Between(nn.Conv2d(3, 4, 1), nn.GroupNorm(2, 4)),
        lambda: image(3, 3).to(memory_format=torch.channels_last),
    ),
    ("instance norm", lambda: nn.InstanceNorm2d(3, affine=True), lambda: image(3, 3)),
    ("instance norm, 3-D", lambda: nn.InstanceNorm3d(3, affine=True), lambda: image(3, 2, 3)),
    ("layer norm", lambda: nn.LayerNorm(5), lambda: torch.randn(4, 2, 5)),
    ("layer norm, two sides", lambda: nn.LayerNorm((2, 5)), lambda: torch.randn(4, 2, 5)),
    ("slope", lambda: nn.PReLU(), lambda: image(3, 3)),
    ("slope a channel", lambda: nn.PReLU(3), lambda: image(3, 3)),
    ("slope of a vector", lambda: nn.PReLU(3), lambda: torch.randn(4, 3)),
    ("embedding", lambda: nn.Embedding(7, 5, padding_idx=2), lambda: torch.randint(0, 7, (4, 6))),
    ("embedding, one a patient", lambda: nn.Embedding(7, 5), lambda: torch.randint(0, 7, (4,))),
    ("used twice", lambda: Twice(nn.Linear(3, 3)), lambda: torch.randn(4, 3)),
    ("convolution used twice", lambda: Twice(nn.Conv2d(3, 3, 3, padding=1)), lambda: image(4, 4)),
    ("tied", Tied, lambda: torch.randint(0, 7, (4, 3))),
    ("residual, in place", Residual, lambda: image(5, 5, channels=2)),
    *(
        (f"strided {name}", lambda layer=layer: Strided(layer()), lambda sides=sides: torch.randn(4, *sides))
        for name, layer, sides in (
            ("linear", lambda: nn.Linear(3, 5), (3, 2, 4)),
            ("convolution", lambda: nn.Conv2d(4, 3, 3, padding=1), (3, 3, 4)),
            ("transposed convolution", lambda: nn.ConvTranspose2d(4, 3, 3), (3, 3, 4)),
            ("group norm", lambda: nn.GroupNorm(2, 4), (3, 3, 4)),
            ("instance norm", lambda: nn.InstanceNorm1d(4, affine=True), (3, 4)),
            ("layer norm", lambda: nn.LayerNorm(3), (3, 2, 4)),
            ("slope", lambda: nn.PReLU(4), (3, 3, 4)),
        )
    ),
    (
        "instance norm between",
        lambda: Between(nn.Conv2d(3, 4, 1), nn.InstanceNorm2d(4, affine=True)),
        lambda: image(3, 3),
    ),
    ("layer norm between", lambda: Between(nn.Linear(3, 4), nn.LayerNorm(4)), lambda: torch.randn(4, 2, 3)),
    ("slope between", lambda: Between(nn.Conv2d(3, 4, 1), nn.PReLU(4)), lambda: image(3, 3)),
]


@pytest.fixture(params=["kept", "ghost", "chosen"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param != "chosen":
        always = request.param == "ghost"
        for module in ("linear", "convolution"):
            monkeypatch.setattr(
                f"privacy.clipping.{module}.ghost_is_cheaper",
                lambda *, gram, pairs, weights, activations: always,
            )
    return str(request.param)


@pytest.mark.parametrize(("make", "inputs"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
@pytest.mark.parametrize("patients", COUNTS, ids=str)
def test_a_layer_agrees_with_every_patient_alone(
    make: Callable[[], nn.Module], inputs: Callable[[], Tensor], patients: Sequence[int], way: str
) -> None:
    torch.manual_seed(0)
    module, batch = make().double(), inputs()
    batch = batch.double() if batch.is_floating_point() else batch
    for value in module.parameters():  # Scales of one and shifts of zero would hide what is swapped.
        nn.init.normal_(value)
    losses_of = by_hand.squared_losses(4)
    each = by_hand.gradients(module, batch, losses_of, patients)
    middle = sorted(by_hand.norm(parts) for parts in each)[len(each) // 2]
    clip_l2 = 0.9 * middle  # Some are clipped and some, mostly, are not.
    total = ClippedSum(module, clip_l2=clip_l2)
    total.add(batch, losses_of(slice(None)), patients)
    assert by_hand.distance(total.take(), by_hand.clipped_sum(each, clip_l2)) < 1e-10


@pytest.mark.parametrize(("make", "inputs"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
@pytest.mark.parametrize("patients", [[1, 1, 1, 1], [2, 2], [1, 3]], ids=str)
@pytest.mark.parametrize("spoiled", ["inputs", "loss"])
def test_a_patient_whose_gradient_is_not_finite_adds_nothing_to_the_others(
    make: Callable[[], nn.Module],
    inputs: Callable[[], Tensor],
    patients: Sequence[int],
    spoiled: str,
    way: str,
) -> None:
    torch.manual_seed(0)
    module, batch = make().double(), inputs()
    for value in module.parameters():
        nn.init.normal_(value)
    if batch.is_floating_point():
        batch = batch.double()
    elif spoiled == "inputs":
        pytest.skip("indices are always finite")
    losses_of = by_hand.squared_losses(4)
    clean = batch.clone()
    if spoiled == "inputs":
        sides = batch[-1].dim()
        batch[-1][(0,) * sides], batch[-1][(-1,) * sides] = torch.nan, torch.inf

    def losses(outputs: Tensor) -> Tensor:
        each = losses_of(slice(None))(outputs)
        worse = torch.where(torch.arange(4) == 3, torch.nan, 1.0)
        return each * worse if spoiled == "loss" else each

    counts = list(patients[:-1])
    others = slice(0, sum(counts))
    each = by_hand.gradients(module, clean[others], losses_of, counts)
    clip_l2 = 0.9 * by_hand.norm(each[0])
    total = ClippedSum(module, clip_l2=clip_l2)
    total.add(batch, losses, patients)
    assert by_hand.distance(total.take(), by_hand.clipped_sum(each, clip_l2)) < 1e-10


def test_group_norm_takes_channels_last_on_a_cpu_alone() -> None:
    """Elsewhere torch's kernel does not ask how its inputs lie."""
    inputs = image(3, 3).to(memory_format=torch.channels_last)
    assert norm._layout(inputs) == torch.channels_last
    assert norm._layout(inputs.to("meta")) == torch.contiguous_format


def test_norms_are_cheaper_where_positions_are_few_and_weights_many() -> None:
    def deep(positions: int, channels: int) -> bool:
        return choice.ghost_is_cheaper(
            gram=positions**2 * (2 * channels + 9),
            pairs=2 * positions**2,
            weights=9 * channels**2,
            activations=2 * positions * channels,
        )

    assert deep(16, 512) and deep(64, 256)
    assert not deep(1024, 64) and not deep(256, 128)


def test_weights_that_dwarf_the_activations_are_not_kept() -> None:
    assert choice.ghost_is_cheaper(gram=10**9, pairs=10**5, weights=10**6, activations=10**5)


def test_gram_matrices_that_dwarf_both_are_not_formed() -> None:
    for gram in (1, 10**9):
        assert not choice.ghost_is_cheaper(gram=gram, pairs=10**6, weights=10**6, activations=10**5)
