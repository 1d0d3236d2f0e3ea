"""What every covered layer can do, and the pass through it that autograd sees.

A layer takes part through a function of its own, whose backward computes the input gradient and hands the output
gradient to the clipping; the parameters are no inputs of it, so autograd forms no ordinary weight gradient. A
parameter that is used past its layer's `forward` is still an ordinary leaf, and its gradient gives it away
(`clipped_sum`).

Opacus' registration points (`register_grad_sampler`, `register_norm_sampler`) do not serve here: behind them stand
module backward hooks, which break on results that are changed in place, keep every per-sample gradient or run
backward twice, and know samples, not patients.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Generic, Protocol, TypeVar

import torch
from torch import Tensor, nn

from privacy.clipping.contribution import Contribution
from privacy.clipping.patients import Band

M = TypeVar("M", bound=nn.Module)


class Layer(ABC, Generic[M]):
    """One covered module of the network. Inputs and outputs have the batch's items as their first dimension."""

    def __init__(self, module: M) -> None:
        self.module = module

    def prepare(self, inputs: Tensor) -> Tensor:
        """The inputs as the layer's arithmetic takes them: padded, or in the type that autocast asks for."""
        return inputs

    @abstractmethod
    def run(self, inputs: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The layer's outputs, and what besides its inputs `backward` needs."""

    @abstractmethod
    def backward(
        self, outputs_gradient: Tensor, inputs: Tensor, extras: tuple[Tensor, ...], wanted: Wanted
    ) -> tuple[Tensor | None, list[Contribution]]:
        """The gradient of the inputs, if wanted, and what the layer's trainable parameters contribute."""


class Wanted:
    """What a pass wants of one layer's backward.

    `alone`: no other call in this pass uses the same parameters, so that norms may be taken of this call's gradient.
    """

    __slots__ = ("alone", "bands", "input_gradient")

    def __init__(self, bands: Sequence[Band], *, alone: bool, input_gradient: bool) -> None:
        self.bands, self.alone, self.input_gradient = bands, alone, input_gradient


class Recorder(Protocol):
    """Takes what the layers contribute in one pass."""

    bands: Sequence[Band]

    def called(self, layer: Layer[nn.Module], inputs: Tensor) -> None: ...

    def alone(self, layer: Layer[nn.Module]) -> bool: ...

    def receive(self, contributions: Sequence[Contribution]) -> None: ...


def tapped(layer: Layer[nn.Module], recorder: Recorder, anchor: Tensor) -> Callable[[Tensor], Tensor]:
    """A `forward` for the layer's module. `anchor` is any tensor that requires a gradient: it makes autograd come by
    even where the inputs need none, and none is computed for them then."""

    def forward(inputs: Tensor) -> Tensor:
        ready = layer.prepare(inputs)
        recorder.called(layer, ready)
        outputs: Tensor = _Tap.apply(ready, anchor, layer, recorder)  # type: ignore[no-untyped-call]
        return outputs

    return forward


def autocast_type(inputs: Tensor) -> torch.dtype | None:
    """The type that autocast, if it is on, wants matrix products in."""
    kind = inputs.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None


def exact(values: Tensor) -> Tensor:
    """Half precision in float32, everything else as it is: what gradients and norms are formed of."""
    return values.float() if values.dtype in (torch.bfloat16, torch.float16) else values


class _Tap(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: torch.autograd.function.FunctionCtx,
        inputs: Tensor,
        anchor: Tensor,
        layer: Layer[nn.Module],
        recorder: Recorder,
    ) -> Tensor:
        if torch.is_autocast_enabled(inputs.device.type):
            with torch.autocast(inputs.device.type, enabled=False):
                outputs, extras = layer.run(inputs)
        else:
            outputs, extras = layer.run(inputs)
        ctx.save_for_backward(inputs, *extras)
        ctx.layer, ctx.recorder = layer, recorder  # type: ignore[attr-defined]
        # Detached, since a view that was made in here could not be changed in place afterwards.
        return outputs.detach()

    @staticmethod
    def backward(
        ctx: torch.autograd.function.FunctionCtx, *gradients: Tensor
    ) -> tuple[Tensor | None, None, None, None]:
        layer: Layer[nn.Module] = ctx.layer  # type: ignore[attr-defined]
        recorder: Recorder = ctx.recorder  # type: ignore[attr-defined]
        inputs, *extras = ctx.saved_tensors  # type: ignore[attr-defined] # refuses what was changed in place since
        wanted = Wanted(
            recorder.bands,
            alone=recorder.alone(layer),
            input_gradient=ctx.needs_input_grad[0],  # type: ignore[attr-defined]
        )
        inputs_gradient, contributions = layer.backward(gradients[0], inputs, tuple(extras), wanted)
        recorder.receive(contributions)
        return inputs_gradient, None, None, None
