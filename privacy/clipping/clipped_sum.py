"""The sum over patients of clipped gradients, in one forward and one backward pass (book-keeping, Bu et al. 2023,
arXiv:2210.00038, Algorithm 1, with patients in the place of samples).

The loss of a pass is the sum over patients of the mean over the patient's items, so output gradients carry one over
the number of items, and a patient's gradient in a layer is the plain sum over the patient's items. Norms are over all
trainable parameters together and in float64; the factor of a patient is min(1, C (1 - slack) / norm).

**Nothing about one patient shows but within that bound.** A patient whose gradient is not finite, or so long that its
factor would be no ordinary float32, adds exactly zero: whether somebody's gradient overflows is as much that
patient's as the gradient is, so it must not decide what happens to the others' sum, nor raise an error.

What rounding does to the sensitivity C:
(1) A patient's own part is at most C (1 - slack) (1 + 2^-12) long: norms are of what is summed (`Kept`), or count
    the rounding of what is formed later (`Ghost`).
(2) Passes add up in float64, so that neither their number nor C itself makes a sum inexact or infinite.
(3) Within a pass the parts of at most a few hundred patients are summed in float32, and one patient more or less
    changes the order, and which kernels compute the others' gradients. The slack, 2^-8 for float32, is left for that:
    with it the sum moves by C at the most, to which the noise is tuned. Sums of the others moved by less than 2^-14 C
    in the networks measured (`tests/privacy/clipping/test_rounding.py`), and a single activation that rounding turned
    over moved one by 2^-10 C. This is a measurement, no proof: for weights that are chosen to amplify the last bit of
    the others' gradients, arithmetic in batches has none.

A pass leaves the module as it was: layers are tapped only while it runs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import torch
from torch import Tensor, nn

from privacy.clipping.contribution import Contribution, Factors, Kept
from privacy.clipping.errors import BatchInvalidError, UnsupportedNetworkError
from privacy.clipping.layer import Layer, tapped
from privacy.clipping.patients import Band, Patients
from privacy.clipping.registry import layers_of, mixing

Losses = Callable[[Tensor], Tensor]

_SLACK: Final = 2.0**-8
"""The one place that leaves room for rounding: point 3 above. A plan's multiplier and sensitivity are those of C."""
_SLACK_DOUBLE: Final = 2.0**-40
_LEAST_FACTOR: Final = 2.0**-100
"""Smaller ones lose digits in float32, and a patient might pass the clip."""
_CLIPS: Final = (2.0**-60, 2.0**60)
"""In which everything below stays within float32."""


class ClippedSum:
    """Per-patient clipped gradient sum of one logical batch, given in as many physical ones as memory asks for.

    Which parameters are trainable is settled when it is made. Raises `UnsupportedNetworkError` for a module with
    trainable parameters whose gradients cannot be told apart by patient.
    """

    def __init__(self, module: nn.Module, *, clip_l2: float) -> None:
        if not _CLIPS[0] <= clip_l2 <= _CLIPS[1]:
            raise BatchInvalidError("a clipping norm lies between 2^-60 and 2^60")
        self._module, self._clip_l2 = module, clip_l2
        self._layers = layers_of(module)
        self._parameters = [value for value in module.parameters() if value.requires_grad]
        if not self._parameters:
            raise UnsupportedNetworkError(["the network, which has no trainable parameter"])
        self._places: dict[Tensor, int] = {value: place for place, value in enumerate(self._parameters)}
        self._sums: list[Tensor] | None = None

    def add(self, inputs: Tensor, losses: Losses, patients: Sequence[int]) -> None:
        """Add sum_p clip(gradient of the mean over p's items of the loss, clip_l2).

        `inputs` (n_items, ...), a patient's items side by side; `patients`: the number of items of each patient;
        `losses(outputs)` one loss an item, (n_items,), with outputs in the order of the inputs. A patient whose
        gradient or loss is not finite adds nothing. All or nothing where it raises.
        """
        if not patients and inputs.shape[0] == 0:
            return
        grouped = Patients.of(patients, items=inputs.shape[0])
        self._refuse_mixing()
        recording = _Recording(grouped)
        with self._passing(recording):
            outputs = grouped.restore(self._module(grouped.arrange(inputs)))
            each = _checked(losses(outputs), items=inputs.shape[0])
            shares = grouped.restore(grouped.shares()).to(each.device, _summed_type(each))
            total = (each * shares).sum()
            with _changes_named(), torch.autocast(inputs.device.type, enabled=False):
                torch.autograd.backward(total)
        with _arithmetic(inputs.device):
            parts = self._clipped(recording.contributions(), len(patients))
        self._commit(parts)

    def add_one(self, chunks: Iterable[Tensor], losses: Losses, items: int) -> None:
        """Add one patient whose `items` items are too many for one pass, a chunk (n, ...) at a time.

        `losses` is called with every chunk's outputs, in order.
        """
        self._refuse_mixing()
        gradients = [_zero(value) for value in self._parameters]
        seen = 0
        for chunk in chunks:
            with torch.enable_grad():
                each = _checked(losses(self._module(chunk)), items=chunk.shape[0])
                total = each.sum(dtype=_summed_type(each)) / items
            with _changes_named(), torch.autocast(chunk.device.type, enabled=False):
                found = torch.autograd.grad(total, self._parameters, allow_unused=True)
            for gradient, part in zip(gradients, found, strict=True):
                if part is not None:
                    gradient.add_(part)
            seen += chunk.shape[0]
        if items < 1 or seen != items:
            raise BatchInvalidError("a patient's chunks hold the patient's items, no more and no fewer")
        squares = sum(
            (torch.linalg.vector_norm(gradient, dtype=torch.float64).square() for gradient in gradients),
            start=torch.zeros((), dtype=torch.float64, device=gradients[0].device),
        )
        factors = self._factors(squares.view(1))
        self._commit([factors.times(gradient.unsqueeze(0)).squeeze(0) for gradient in gradients])

    def _clipped(self, contributions: list[Contribution], patients: int) -> list[Tensor | None]:
        """The sums of one pass; takes the contributions, and frees each as soon as it is summed."""
        squares = torch.zeros(patients, dtype=torch.float64, device=self._parameters[0].device)
        for one in contributions:
            squares[one.rows] += one.squares()
        factors = self._factors(squares)
        parts: list[Tensor | None] = [None] * len(self._parameters)
        while contributions:
            one = contributions.pop()
            place, part = self._places[one.parameter], one.weighted(factors.of(one.rows))
            before = parts[place]
            parts[place] = part.double() if before is None else before.add_(part)
        return parts

    def take(self) -> list[Tensor]:
        """The sums, one a trainable parameter in `module.parameters()` order, float64; starts anew."""
        taken, self._sums = self._sums, None
        return [_zero(value) for value in self._parameters] if taken is None else taken

    def close(self) -> None:
        """Forget the sums. The module is as before after every pass anyway."""
        self._sums = None

    def _commit(self, parts: Sequence[Tensor | None]) -> None:
        """Add a pass, from here on without allocating: memory that ran out before has left nothing behind."""
        if self._sums is None:
            self._sums = [
                _zero(value) if part is None else part
                for value, part in zip(self._parameters, parts, strict=True)
            ]
            return
        for total, part in zip(self._sums, parts, strict=True):
            if part is not None:
                total.add_(part)

    def _refuse_mixing(self) -> None:
        """Before every pass: a module's mode changes."""
        if found := mixing(self._module):
            raise UnsupportedNetworkError(found)

    def _factors(self, squares: Tensor) -> Factors:
        """Of each patient, from (patients,) float64 squared norms; zero for those that count nothing."""
        double = all(value.dtype == torch.float64 for value in self._parameters)
        most = self._clip_l2 * (1.0 - (_SLACK_DOUBLE if double else _SLACK))
        factors = (most / squares.sqrt()).clamp(max=1.0)
        # What is not finite compares false: NaN always, and infinity has a factor of zero.
        counts = factors >= _LEAST_FACTOR
        return Factors(factors.where(counts, 0.0), None if bool(counts.all()) else ~counts)

    @contextmanager
    def _passing(self, recording: _Recording) -> Iterator[None]:
        """Layers tapped, gradients of the caller's own put aside."""
        aside = [value.grad for value in self._parameters]
        anchor = torch.zeros((), device=self._parameters[0].device, requires_grad=True)
        try:
            for value in self._parameters:
                value.grad = None
            for module, layer in self._layers.items():
                vars(module)["forward"] = tapped(layer, recording, anchor)
            with torch.enable_grad():
                yield
            self._refuse_bypassed()
        finally:
            for module in self._layers:
                vars(module).pop("forward", None)
            for value, gradient in zip(self._parameters, aside, strict=True):
                value.grad = gradient

    def _refuse_bypassed(self) -> None:
        """A parameter that got an ordinary gradient was used outside its layer, unclipped."""
        names = [
            f"{name}, used outside its layer"
            for name, value in self._module.named_parameters()
            if value in self._places and value.grad is not None
        ]
        if names:
            raise UnsupportedNetworkError(names)


class _Recording:
    """What the layers contribute in one pass. Calls that share a parameter add up before any norm is taken."""

    def __init__(self, patients: Patients) -> None:
        self.bands: Sequence[Band] = patients.bands
        self._items = patients.items
        self._calls: Counter[Tensor] = Counter()
        self._found: dict[tuple[Tensor, int], Contribution] = {}

    def called(self, layer: Layer[nn.Module], inputs: Tensor) -> None:
        if inputs.dim() < 1 or inputs.shape[0] != self._items:
            raise UnsupportedNetworkError(
                [f"{type(layer.module).__name__}, whose inputs do not begin with the items of the batch"]
            )
        self._calls.update(layer.module.parameters(recurse=False))

    def alone(self, layer: Layer[nn.Module]) -> bool:
        return all(self._calls[value] == 1 for value in layer.module.parameters(recurse=False))

    def receive(self, contributions: Sequence[Contribution]) -> None:
        for one in contributions:
            key = (one.parameter, one.rows.start)
            before = self._found.get(key)
            if isinstance(before, Kept) and isinstance(one, Kept):
                before.gradients = before.gradients + one.gradients
            elif before is None:
                self._found[key] = one
            else:
                raise AssertionError("norms of several calls were taken apart")

    def contributions(self) -> list[Contribution]:
        """All of them; the recording forgets them."""
        found = list(self._found.values())
        self._found.clear()
        return found


def _zero(value: Tensor) -> Tensor:
    """The sum of nobody's gradients of a parameter."""
    return torch.zeros_like(value, dtype=torch.float64, requires_grad=False)


def _summed_type(value: Tensor) -> torch.dtype:
    return torch.promote_types(value.dtype, torch.float32)


@contextmanager
def _arithmetic(device: torch.device) -> Iterator[None]:
    """A weighted sum must be of the gradients whose norms were taken: not in half precision under the caller's
    autocast, and on CUDA not in TF32, to which convolutions may round unasked."""
    if device.type != "cuda":
        with torch.no_grad(), torch.autocast(device.type, enabled=False):
            yield
        return
    backend = torch.backends.cudnn
    matmul = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        flags = backend.flags(
            enabled=backend.enabled,
            benchmark=backend.benchmark,
            deterministic=backend.deterministic,
            allow_tf32=False,
        )
        with flags, torch.no_grad(), torch.autocast(device.type, enabled=False):
            yield
    finally:
        torch.set_float32_matmul_precision(matmul)


def _checked(each: Tensor, *, items: int) -> Tensor:
    if each.shape != (items,):
        raise BatchInvalidError("losses are one number an item")
    return each


@contextmanager
def _changes_named() -> Iterator[None]:
    """Autograd refuses inputs that were changed in place after a layer used them; say so in our words."""
    try:
        yield
    except RuntimeError as error:
        if "modified by an inplace operation" not in str(error):
            raise
        raise UnsupportedNetworkError(["a layer's input that is changed in place after its use"]) from None
