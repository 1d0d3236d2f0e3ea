"""The trial that patients are separate in a network: random items, no patient's data.

An item's output must be the same alone and in company, wherever it stands and whoever the company is, in training as
in use; a training pass must leave nothing behind; and every gradient must have come through its layer, where clipping
sees it, and be what clipping sums up. Reading a network's layers cannot show this: a forward method may do anything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import torch
from torch import Tensor, nn

from ledger.errors import CodedError
from privacy.clipping.clipped_sum import ClippedSum
from privacy.clipping.errors import UnsupportedNetworkError
from tasks.train.networks.errors import NetworkShapeError
from tasks.train.networks.item_network import ItemNetwork, OutOfPlace

_ROUNDING: Final = 1e-6
"""Relative, between passes of the same shapes."""
_OTHER_ROUNDING: Final = 1e-3
"""Between passes of different shapes, for which torch picks different algorithms, amplified by many norms."""
ITEMS: Final = 5
"""Of the largest batch that is tried: what begins with a third item, or with groups of four, shows in it."""
_LOUD: Final = 1e3
"""How many times larger than the others one item is made: what mixes in a little of it shows in them."""
_SEED: Final = 1
_NO_CLIP: Final = 2.0**50
_CLIPPED_ROUNDING: Final = 1e-2
"""Of the whole gradient; layers sum in other orders, and many norms amplify that."""


def random_items(shape: tuple[int, ...]) -> Tensor:
    """In [0, 1], (ITEMS, *shape)."""
    return torch.rand(ITEMS, *shape)


def outputs(network: ItemNetwork, items: Tensor) -> Tensor:
    """Logits without gradients, under a fixed seed; NetworkShapeError where items do not go through."""
    with torch.no_grad(), _drawn_alike():
        return logits(network, items)


def logits(network: ItemNetwork, items: Tensor) -> Tensor:
    try:
        result: Tensor = network(items)
    except CodedError:
        raise
    except Exception as error:  # whatever the class makes of items that it does not like
        shape = " x ".join(str(length) for length in network.item_shape)
        raise NetworkShapeError(
            f"items of {shape} do not go through the network",
            remedy="They may be too small for its strides, or not divisible by them: change the sides, or strides, "
            "layers and patches.",
            diagnostics=f"{type(error).__name__}: {error}",
        ) from None
    return result


@contextmanager
def _drawn_alike() -> Iterator[None]:
    """Dropout and its like draw the same in every pass."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_SEED)
        yield


class Trial:
    """Passes of one network in which no operation in place is let through; modules' own flags must be off already."""

    def __init__(self, network: ItemNetwork) -> None:
        self._network = network
        self._mode = OutOfPlace()

    @property
    def met_in_place(self) -> bool:
        """Whether any pass so far would have changed a tensor in place."""
        return self._mode.met > 0

    def outputs(self, items: Tensor) -> Tensor:
        with self._mode:
            return outputs(self._network, items)

    def run(self, items: Tensor) -> tuple[list[str], list[str]]:
        """(parameters that take no part, reasons why the network cannot be private)."""
        reasons = [*self._mixes_in_use(items), *self._mixes_in_training(items)]
        unused, hidden = self._gradients(items[:2])
        return unused, reasons + hidden

    def _mixes_in_use(self, items: Tensor) -> list[str]:
        self._network.eval()
        alone = torch.cat([self.outputs(one[None]) for one in items])
        if _same(alone, self.outputs(items), _OTHER_ROUNDING) and self._keep_to_themselves(items):
            return []
        return ["an item's output depends on the other items of its batch"]

    def _mixes_in_training(self, items: Tensor) -> list[str]:
        """And what a training pass leaves behind, which no noise would protect."""
        self._network.train()
        before = {name: one.clone() for name, one in _held(self._network).items()}
        self.outputs(items[:2])
        after = _held(self._network)
        found = [
            f"{name}: changes in a training pass, without noise"
            for name in sorted(before.keys() | after.keys())
            if not (name in before and name in after and torch.equal(before[name], after[name]))
        ]
        if not self._keep_to_themselves(items):
            found.append("in training an item's output depends on the other items of its batch")
        return found

    def _keep_to_themselves(self, items: Tensor) -> bool:
        """Whether, in a pair and in the whole batch, no item's output changes when another is exchanged or made loud,
        before it or after it."""
        return all(self._are_separate(batch) for batch in (items[:2], items))

    def _are_separate(self, batch: Tensor) -> bool:
        expected = self.outputs(batch)
        for place, item in enumerate(batch):
            others = [one for one in range(len(batch)) if one != place]
            for instead in (1.0 - item, _LOUD * item):
                changed = batch.clone()
                changed[place] = instead
                if not _same(self.outputs(changed)[others], expected[others], _ROUNDING):
                    return False
        return True

    def _gradients(self, pair: Tensor) -> tuple[list[str], list[str]]:
        network = self._network.train()
        given: list[tuple[str, Tensor, int]] = []

        def hook(path: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
            def keep(_module: nn.Module, inputs: tuple[Tensor, ...], _output: Tensor) -> None:
                given.append((path, inputs[0], inputs[0]._version))

            return keep

        handles = [
            module.register_forward_hook(hook(path))
            for path, module in network.named_modules()
            if any(one.requires_grad for one in module.parameters(recurse=False))
        ]
        try:
            with self._mode, _drawn_alike():
                result = logits(network, pair)
        finally:
            for handle in handles:
                handle.remove()
        overwritten = sorted({path for path, tensor, version in given if tensor._version != version})
        if overwritten:
            return [], [f"{path}: what it was given is overwritten later" for path in overwritten]
        torch.autograd.backward(_losses(result).sum())
        reasons = self._clipped(pair)
        called = {path for path, _, _ in given}
        unused = []
        for name, parameter in network.named_parameters():
            if not parameter.requires_grad:
                continue
            if parameter.grad is None:
                unused.append(name)
            elif name.rpartition(".")[0] not in called:
                reasons.append(f"{name}: is used outside its layer")
            parameter.grad = None
        return unused, reasons

    def _clipped(self, pair: Tensor) -> list[str]:
        """A pass as in training, of two patients and under a clip that is never met: its sum is the gradient that
        parameters have already, or the network cannot be clipped."""
        network = self._network
        out_of_place, network.out_of_place = network.out_of_place, self.met_in_place
        try:
            total = ClippedSum(network, clip_l2=_NO_CLIP)
            with _drawn_alike():
                total.add(pair, _losses, [1, 1])
        except UnsupportedNetworkError as error:
            return list(error.parts)
        except Exception as error:  # whatever a class' forward makes of layers that are clipped
            return [f"a clipped pass of it fails ({type(error).__name__})"]
        finally:
            network.out_of_place = out_of_place
        found = total.take()
        wanted = [
            torch.zeros_like(one) if one.grad is None else one.grad
            for one in network.parameters()
            if one.requires_grad
        ]
        far, scale = (
            float(torch.stack([one.double().square().sum() for one in parts]).sum().sqrt())
            for parts in ([one - other for one, other in zip(found, wanted, strict=True)], wanted)
        )
        if not far <= _CLIPPED_ROUNDING * scale:
            return ["its per-patient gradients do not add up to its gradient"]
        return []


def _losses(logits: Tensor) -> Tensor:
    """(n,), by items."""
    return logits.flatten(1).square().sum(1) if logits.dim() > 1 else logits.square()


def _held(network: nn.Module) -> dict[str, Tensor]:
    """All tensors that modules hold: parameters, buffers, those that are not saved too, and plain attributes."""
    held: dict[str, Tensor] = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    for path, module in network.named_modules():
        for name, value in vars(module).items():
            if isinstance(value, Tensor):
                held[f"{path}.{name}" if path else name] = value
    return held


def _same(one: Tensor, other: Tensor, tolerance: float) -> bool:
    scale = max(1.0, float(other.abs().max()))
    return bool((one - other).abs().max() <= tolerance * scale)
