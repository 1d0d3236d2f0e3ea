"""From a network as its library makes it to one that can be trained privately, or a refusal with every reason.

What is done, and reported: operations in place become ordinary ones, which changes no output. Batch norm, which mixes
patients, becomes group norm (Wu and He 2018, arXiv:1803.08494), its channels' weights carried over. Instance norm
loses its running statistics, which are patients' data that no noise protects. Parameters that are not of a layer
whose per-patient gradients are known (`privacy.clipping`) keep their first values. Whether patients then are separate
is tried out, not only read off: `separation`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm
from torch.nn.utils import parametrize

from privacy.clipping.registry import COVERED
from tasks.train.networks.errors import NetworkNotPrivateError
from tasks.train.networks.item_network import ItemNetwork
from tasks.train.networks.separation import Trial, outputs, random_items
from tasks.train.networks.tabular import divisor

_TOLERANCE: Final = 1e-6
_MOST_FROZEN: Final = 0.5


@dataclass(frozen=True, slots=True)
class Change:
    path: str
    what: str


@dataclass(frozen=True, slots=True)
class Readiness:
    """What was done to a network, by the paths of its modules and parameters."""

    replaced: tuple[Change, ...]
    """Layers by others."""
    in_place: tuple[Change, ...]
    """Modules that were told not to work in place."""
    frozen: tuple[Change, ...]
    out_of_place: bool
    """Whether its forward pass changes tensors in place, and has to be kept from it."""

    def apply(self, network: ItemNetwork, *, norm_groups: int) -> None:
        """The same to another instance of the network, untried."""
        _without_place(network)
        _replace_norms(network, norm_groups)
        network.out_of_place = self.out_of_place
        for one in self.frozen:
            network.get_parameter(one.path).requires_grad_(False)


def make_ready(network: ItemNetwork, *, norm_groups: int) -> Readiness:
    """Change `network` in place into an equivalent that can be trained privately, and try it on random items.

    Before norms are replaced its outputs are those of the original to 1e-6. Raises `NetworkNotPrivateError`, which
    names all that stands in the way, and `NetworkShapeError` where an item does not go through.
    """
    reasons = _unsupported(network)
    if reasons:
        raise _not_private(reasons)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        items = random_items(network.item_shape)
        original = outputs(network.eval(), items[:2])
        in_place = _without_place(network)
        trial = Trial(network)
        if not _equal(trial.outputs(items[:2]), original):
            raise _not_private(["its operations in place cannot be replaced: something relies on them"])
        replaced = _replace_norms(network, norm_groups)
        frozen = _freeze(network)
        unused, reasons = trial.run(items)
        if reasons:
            raise _not_private(reasons)
        for path in unused:
            network.get_parameter(path).requires_grad_(False)
            frozen.append(Change(path, "takes no part in the output"))
        network.out_of_place = trial.met_in_place
        network.train()
    _enough_left(network, frozen)
    return Readiness(tuple(replaced), tuple(in_place), tuple(frozen), network.out_of_place)


def _unsupported(network: nn.Module) -> list[str]:
    """Trainable layers that cannot be frozen without losing what the network is, and shared or derived weights."""
    found: list[str] = []
    seen: dict[nn.Parameter, str] = {}
    for path, module in network.named_modules():
        if isinstance(module, parametrize.ParametrizationList) or _is_reparametrised(module):
            found.append(f"{path}: its weights are computed from others (spectral or weight norm)")
            continue
        own = [(name, one) for name, one in module.named_parameters(recurse=False) if one.requires_grad]
        for name, one in own:
            if one in seen:
                found.append(f"{path}.{name}: is shared with {seen[one]}")
            seen[one] = f"{path}.{name}"
        ours = (*COVERED, _BatchNorm)
        if own and type(module).__module__.startswith("torch.nn.") and not isinstance(module, ours):
            found.append(f"{path}: per-patient gradients of {type(module).__name__} are not known")
    return found


def _is_reparametrised(module: nn.Module) -> bool:
    """torch's older way, by a hook that recomputes the weight before each pass."""
    names = {name for name, _ in module.named_parameters(recurse=False)}
    return bool(names & {"weight_orig", "weight_g", "weight_v"})


def _without_place(network: nn.Module) -> list[Change]:
    changes: list[Change] = []
    for path, module in network.named_modules():
        if not hasattr(module, "inplace"):
            continue
        if module.inplace:
            changes.append(Change(path, f"{type(module).__name__} in place by an ordinary one"))
        module.inplace = False  # whatever class it is, this is a flag
    return changes


def _replace_norms(network: nn.Module, norm_groups: int) -> list[Change]:
    changes: list[Change] = []
    for path, module in list(network.named_modules(remove_duplicate=False)):
        if isinstance(module, _BatchNorm):
            instead: nn.Module = _group_norm(module, norm_groups)
            groups = divisor(module.num_features, norm_groups)
            noun = "group" if groups == 1 else "groups"
            changes.append(Change(path, f"{type(module).__name__} by GroupNorm of {groups} {noun}"))
        elif isinstance(module, _InstanceNorm) and module.track_running_stats:
            instead = _plain_instance_norm(module)
            changes.append(Change(path, f"{type(module).__name__} by one without running statistics"))
        else:
            continue
        parent, _, name = path.rpartition(".")
        setattr(network.get_submodule(parent), name, instead)
    return changes


def _group_norm(batch_norm: _BatchNorm, norm_groups: int) -> nn.Module:
    channels = batch_norm.num_features
    norm = nn.GroupNorm(
        divisor(channels, norm_groups), channels, eps=batch_norm.eps, affine=batch_norm.affine
    )
    return norm if not batch_norm.affine else _carried(norm, batch_norm)


def _plain_instance_norm(norm: _InstanceNorm) -> nn.Module:
    plain = type(norm)(norm.num_features, eps=norm.eps, affine=norm.affine)
    return plain if not norm.affine else _carried(plain, norm)


def _carried(norm: nn.Module, from_norm: nn.Module) -> nn.Module:
    norm.load_state_dict({name: one for name, one in from_norm.named_parameters()})
    for parameter in norm.parameters():
        like = from_norm.get_parameter("weight")
        parameter.data = parameter.data.to(like.device, like.dtype)
    return norm


def _freeze(network: nn.Module) -> list[Change]:
    """Parameters of no layer that clipping knows: of MONAI's own modules."""
    frozen: list[Change] = []
    for path, module in network.named_modules():
        known = isinstance(module, COVERED)
        for name, parameter in module.named_parameters(prefix=path, recurse=False):
            if not parameter.requires_grad or (known and name.rpartition(".")[2] in ("weight", "bias")):
                continue
            parameter.requires_grad_(False)
            frozen.append(Change(name, f"{type(module).__name__} has no per-patient gradient"))
    return frozen


def _enough_left(network: nn.Module, frozen: list[Change]) -> None:
    total = sum(one.numel() for one in network.parameters())
    held = sum(network.get_parameter(one.path).numel() for one in frozen)
    if held > _MOST_FROZEN * total:
        paths = ", ".join(one.path for one in frozen)
        raise _not_private([f"most of its parameters would have to be frozen: {paths}"])


def _equal(one: torch.Tensor, other: torch.Tensor) -> bool:
    scale = max(1.0, float(other.abs().max()))
    return one.shape == other.shape and float((one - other).abs().max()) <= _TOLERANCE * scale


def _not_private(reasons: list[str]) -> NetworkNotPrivateError:
    return NetworkNotPrivateError(
        f"the network cannot be trained privately: {'; '.join(reasons)}",
        remedy="Name a network or arguments without these.",
    )
