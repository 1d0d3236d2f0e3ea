"""What every network of a plan is given and gives: the preprocessing before it, the logits after it.

Both are part of the module, so that an exported model takes the same images as one that was trained. Each image is
centred on its own mean, which takes out a device's brightness, and scaled by a constant: a statistic over several
patients would be an undeclared release. Values of tables come scaled already (`policies.data_contract`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from policies.data_contract import DataContract
from tasks.train.networks.errors import NetworkShapeError

# About the standard deviation within an image whose values fill [0, 1].
_SCALE: Final = 0.2

_OUT_OF_PLACE: Final[dict[object, Callable[..., object]]] = {
    Tensor.add_: torch.add,
    Tensor.sub_: torch.sub,
    Tensor.mul_: torch.mul,
    Tensor.div_: torch.div,
    Tensor.__iadd__: torch.add,
    Tensor.__isub__: torch.sub,
    Tensor.__imul__: torch.mul,
    Tensor.__itruediv__: torch.div,
}


class OutOfPlace(TorchFunctionMode):
    """Makes `x += y` a new tensor: per-patient gradients need what a layer was given and gave as it was.

    Where the result of `x.add_(y)` is thrown away this changes the network, which `make_ready` notices.
    """

    def __init__(self) -> None:
        super().__init__()
        self.met = 0
        """How many operations were replaced."""

    def __torch_function__(
        self,
        func: Callable[..., object],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> object:
        instead = _OUT_OF_PLACE.get(func)
        if instead is not None:
            self.met += 1
        return (instead or func)(*args, **(kwargs or {}))


class ItemNetwork(nn.Module):
    """Maps items of the data contract, float32 (n, *shape), to logits of the second label: (n,) for a label,
    (n, 1, *spatial) for a mask."""

    def __init__(self, classifier: nn.Module, data: DataContract) -> None:
        super().__init__()
        # Of items or of pixels. The name stands in the names of all weights: a study's models keep theirs.
        self.classifier = classifier
        self.item_shape = data.shape
        self.masks = data.target == "mask"
        self.images = data.image is not None
        self.out_of_place = False
        """Whether operations in place are replaced in the forward pass, which costs a little where there are none."""
        self.standardised: dict[str, Tensor | None] = {}
        """Weights of the classifier that are standardised (`standardised`); within a step, their raw values."""

    def forward(self, items: Tensor) -> Tensor:
        if self.images:
            items = items - items.mean(dim=tuple(range(1, items.dim())), keepdim=True)
            items = items / _SCALE
        with OutOfPlace() if self.out_of_place else nullcontext():
            output = self._classified(items)
        return self.logits(output, len(items))

    def _classified(self, items: Tensor) -> object:
        closed = [name for name, raw in self.standardised.items() if raw is None]
        if not closed:
            return self.classifier(items)
        if torch.is_grad_enabled() and self.training:
            # The gradient would be of the raw weights, whose norm nobody clips.
            raise RuntimeError("standardised weights are trained between refresh_all and pull_back_all")
        from tasks.train.networks.standardised import effective  # which knows of this class

        weights = {name: effective(self.classifier.get_parameter(name)) for name in closed}
        return torch.func.functional_call(self.classifier, weights, (items,))

    def logits(self, output: object, items: int) -> Tensor:
        """What the class returned as logits; NetworkShapeError where it is something else."""
        if isinstance(output, tuple | list):
            # ViT returns its hidden states too, in a list; several tensors side by side have several meanings.
            tensors = [one for one in output if isinstance(one, Tensor)]
            output = tensors[0] if len(tensors) == 1 else None
        if not isinstance(output, Tensor):
            raise NetworkShapeError(
                "the network gives several outputs",
                remedy="Write deep_supervision: false, or name a network with one output.",
            )
        wanted = (items, 1, *self.item_shape[1:]) if self.masks else (items, 1)
        if not self.masks and len(output) == items == output.numel():
            output = output.reshape(wanted)
        if tuple(output.shape) != wanted:
            # Both without the number of items.
            given, needed = (" x ".join(map(str, shape[1:])) for shape in (tuple(output.shape), wanted))
            raise NetworkShapeError(
                f"the network makes {given or 'one number'} of an item, where the plan needs {needed}",
                remedy="Name a network that gives a mask of the image's size, and sides that its strides divide."
                if self.masks
                else "Name a network that classifies, or learn a mask (data.target: mask).",
            )
        return output if self.masks else output.squeeze(1)
