"""Networks that cannot be private are refused, each for its reason, whatever hides it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from policies.training import Network
from tasks.train import networks
from tasks.train.networks import ItemNetwork, NetworkNotPrivateError, make_ready
from tests.tasks.train.networks.covered import image_data

DATA = image_data(8, 8)


class Wrapped(nn.Module):
    """A small network whose last hidden layer goes through `between`."""

    def __init__(self, between: nn.Module) -> None:
        super().__init__()
        self.first, self.between, self.last = nn.Conv2d(1, 4, 3), between, nn.Linear(4 * 36, 1)

    def forward(self, images: Tensor) -> Tensor:
        hidden = self.between(self.first(images))
        logits: Tensor = self.last(hidden.flatten(1))
        return logits


class Mixing(nn.Module):
    def forward(self, hidden: Tensor) -> Tensor:
        return hidden - hidden.mean(dim=0)


class MixingInUse(nn.Module):
    def forward(self, hidden: Tensor) -> Tensor:
        return hidden if self.training else hidden - hidden.mean(dim=0)


class MixingInTraining(nn.Module):
    def forward(self, hidden: Tensor) -> Tensor:
        return hidden - 1e-4 * hidden.mean(dim=0) if self.training else hidden


class Handing(nn.Module):
    """In training each item hands something to the next: the first is like alone, and so is whoever looks back."""

    def forward(self, hidden: Tensor) -> Tensor:
        return hidden + torch.cat([hidden[:1] * 0, hidden[:-1]]) if self.training else hidden


class Summing(nn.Module):
    def forward(self, hidden: Tensor) -> Tensor:
        return torch.cumsum(hidden, 0) if self.training else hidden


class MixingInCompany(nn.Module):
    """A pair is separate, three are not."""

    def forward(self, hidden: Tensor) -> Tensor:
        return hidden - hidden.mean(dim=0) if len(hidden) > 2 else hidden


class MixingByFour(nn.Module):
    def forward(self, hidden: Tensor) -> Tensor:
        if not self.training or len(hidden) < 4:
            return hidden
        return torch.cat([hidden[:4] - hidden[:4].mean(dim=0), hidden[4:]])


class HandingALittle(nn.Module):
    def forward(self, hidden: Tensor) -> Tensor:
        return hidden + 3e-4 * torch.cat([hidden[:1] * 0, hidden[:-1]])


class Remembering(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, hidden: Tensor) -> Tensor:
        if self.training:
            self.seen = self.seen + hidden.detach().mean()
        return hidden


class RememberingUnsaved(Remembering):
    """In a buffer that `state_dict` does not show."""

    def __init__(self) -> None:
        super().__init__()
        del self.seen
        self.register_buffer("seen", torch.zeros(()), persistent=False)


class RememberingAside(Remembering):
    """In a tensor that torch knows nothing of."""

    def __init__(self) -> None:
        super().__init__()
        del self.seen
        self.seen = torch.zeros(())


class Functional(nn.Module):
    """Its layer's weight is used without the layer."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(4, 4, 1)

    def forward(self, hidden: Tensor) -> Tensor:
        return nn.functional.conv2d(hidden, self.layer.weight, self.layer.bias)


class Shared(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)
        self.two.weight = self.one.weight

    def forward(self, hidden: Tensor) -> Tensor:
        return self.two(torch.tanh(self.one(hidden)))


class Overwriting(nn.Module):
    """What the layer was given is overwritten after the layer has read it, by an operation that stays in place."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(4, 4, 1)

    def forward(self, hidden: Tensor) -> Tensor:
        kept = hidden.detach().clone()
        read = self.layer(kept)
        kept.clamp_(-0.1, 0.1)
        return hidden + 0 * kept.mean() + read


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cells = nn.GRU(36, 36, batch_first=True)

    def forward(self, hidden: Tensor) -> Tensor:
        return self.cells(hidden.flatten(2))[0]


class Discarding(nn.Module):
    """Relies on a change in place whose result it throws away."""

    def forward(self, hidden: Tensor) -> Tensor:
        changed = hidden.clone()
        changed.add_(1.0)
        return changed


class OwnMatrix(nn.Module):
    """Nearly all of the network is a parameter of no known layer."""

    def __init__(self) -> None:
        super().__init__()
        self.matrix = nn.Parameter(torch.randn(36, 36))

    def forward(self, hidden: Tensor) -> Tensor:
        return (hidden.flatten(2) @ self.matrix).reshape(hidden.shape)


REFUSED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "mixing": (Mixing, "an item's output depends on the other items"),
    "mixing in use": (MixingInUse, "an item's output depends on the other items"),
    "mixing in training": (MixingInTraining, "in training an item's output depends"),
    "handing on in training": (Handing, "in training an item's output depends"),
    "a running sum": (Summing, "in training an item's output depends"),
    "mixing three": (MixingInCompany, "an item's output depends on the other items"),
    "mixing by four": (MixingByFour, "in training an item's output depends"),
    "handing on a little": (HandingALittle, "an item's output depends on the other items"),
    "remembering": (Remembering, "between.seen: changes in a training pass"),
    "remembering what is not saved": (RememberingUnsaved, "between.seen: changes in a training pass"),
    "remembering in an attribute": (RememberingAside, "between.seen: changes in a training pass"),
    "functional": (Functional, "between.layer.weight: is used outside its layer"),
    "shared": (Shared, "is shared with classifier.between.one.weight"),
    "overwriting": (Overwriting, "between.layer: what it was given is overwritten"),
    "recurrent": (Recurrent, "between.cells: per-patient gradients of GRU are not known"),
    "discarding": (Discarding, "something relies on them"),
    "own matrix": (OwnMatrix, "most of its parameters would have to be frozen"),
    "attention": (lambda: nn.MultiheadAttention(4, 2), "per-patient gradients of MultiheadAttention"),
    "spectral": (
        lambda: nn.utils.parametrizations.spectral_norm(nn.Conv2d(4, 4, 1)),
        "are computed from others",
    ),
    "spectral, the older way": (
        lambda: nn.utils.spectral_norm(nn.Conv2d(4, 4, 1)),
        "are computed from others",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_it_is_refused_and_named(what: str) -> None:
    make, reason = REFUSED[what]
    with pytest.raises(NetworkNotPrivateError) as caught:
        make_ready(ItemNetwork(Wrapped(make()), DATA), norm_groups=2)
    assert caught.value.code == "network.not-private" and reason in str(caught.value)


@pytest.mark.parametrize("seed", range(12))
def test_a_little_of_the_others_shows_whatever_the_weights(seed: int) -> None:
    """A network is as it is drawn: beside quiet company alone, one in twenty of these passed as separate."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = ItemNetwork(Wrapped(MixingInTraining()), DATA)
    with pytest.raises(NetworkNotPrivateError):
        make_ready(network, norm_groups=2)


def test_a_network_that_cannot_be_clipped_is_refused_before_anything_is_trained() -> None:
    """Windows and patches of several items side by side, where clipping looks for items."""
    network = Network(name="SwinUNETR", arguments={"feature_size": 12})
    with pytest.raises(NetworkNotPrivateError) as caught:
        networks.build(network, image_data(64, 64, mask=True))
    assert "do not begin with the items of the batch" in str(caught.value)


def test_every_reason_is_named_at_once() -> None:
    between = nn.Sequential(nn.utils.spectral_norm(nn.Conv2d(4, 4, 1)), Recurrent())
    with pytest.raises(NetworkNotPrivateError) as caught:
        make_ready(ItemNetwork(Wrapped(between), DATA), norm_groups=2)
    assert "between.0" in str(caught.value) and "between.1.cells" in str(caught.value)


def test_a_network_whose_batch_norm_is_replaced_is_not_refused() -> None:
    network = ItemNetwork(Wrapped(nn.BatchNorm2d(4)), DATA)
    network.classifier.get_parameter("between.weight").data.mul_(3.0)
    readiness = make_ready(network, norm_groups=3)
    (change,) = readiness.replaced
    assert change.path == "classifier.between" and "GroupNorm of 2 groups" in change.what
    norm = network.classifier.get_submodule("between")
    assert isinstance(norm, nn.GroupNorm) and torch.equal(norm.weight, torch.full((4,), 3.0))


def test_instance_norm_forgets_its_running_statistics() -> None:
    network = ItemNetwork(Wrapped(nn.InstanceNorm2d(4, affine=True, track_running_stats=True)), DATA)
    readiness = make_ready(network, norm_groups=2)
    assert [change.path for change in readiness.replaced] == ["classifier.between"]
    assert not any("running" in name for name in network.state_dict())


def test_what_takes_no_part_is_not_trained() -> None:
    class Idle(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.idle = nn.Linear(3, 3)

        def forward(self, hidden: Tensor) -> Tensor:
            return hidden

    network = ItemNetwork(Wrapped(Idle()), DATA)
    readiness = make_ready(network, norm_groups=2)
    assert [change.path.rpartition(".")[2] for change in readiness.frozen] == ["weight", "bias"]
    assert all(parameter.grad is None for parameter in network.parameters())


def test_a_network_that_is_built_keeps_back_what_the_trial_found() -> None:
    network = Network(name="BasicUNetPlusPlus", arguments={"features": [4] * 6})
    data = image_data(32, 32, mask=True)
    frozen = {change.path for change in networks.examine(network, data).frozen}
    module = networks.build(network, data)
    assert "classifier.final_conv_0_1.weight" in frozen
    assert {name for name, one in module.named_parameters() if not one.requires_grad} == frozen


def test_the_trial_draws_nothing_from_the_generator_that_others_use() -> None:
    torch.manual_seed(1)
    network = ItemNetwork(Wrapped(nn.Dropout(0.5)), DATA)
    before = torch.get_rng_state()
    make_ready(network, norm_groups=2)
    assert torch.equal(torch.get_rng_state(), before)
