"""A class of `monai.networks.nets` by name: the plan's arguments, and those that follow from the data contract.

What follows is found by the names of the constructor's parameters, so that a class of a later MONAI works without
being listed here. Nothing is ever fetched: weights that somebody trained elsewhere are not part of a plan.
"""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Callable, Mapping
from typing import Final, get_args

from torch import nn

from policies.data_contract import DataContract
from policies.network_arguments import ArgumentName
from policies.training import Network
from tasks.train.networks.errors import (
    NetworkArgumentError,
    NetworkSizeError,
    NetworkUnavailableError,
    NetworkUnknownError,
)

Value = object
RESNET: Final = re.compile(r"^ResNet(10|18|34|50|101|152|200)$")
"""MONAI makes them by functions in lower case."""
FETCHING: Final = frozenset(
    {"BertPreTrainedModel", "MILModel", "MultiModal", "NetAdapter", "TorchVisionFCModel", "Transchex"}
)
"""Classes that are made of another network, or download one."""
HOUSE: Final[dict[str, dict[str, Value]]] = {
    # Tanh, because bounded activations keep gradients near the clip and lose less to it (Papernot et al. 2021,
    # arXiv:2007.14191). The batch norm becomes a group norm like any other.
    "Classifier": {"num_res_units": 0, "act": "tanh", "norm": "batch"},
    "ViT": {"post_activation": None},  # else a tanh, and no logit
}
"""Our own defaults, where the class's are not for this use."""


def construct(network: Network, data: DataContract) -> nn.Module:
    """The class's module as MONAI makes it, one logit an item or a pixel; weights from torch's generator."""
    make = _found(network.name)
    if data.image is None:
        raise NetworkUnknownError(
            f"{network.name} learns from images, and the plan's data are a table",
            remedy="Name LogisticRegression or MLP.",
        )
    known = _parameters(make)
    given: dict[str, Value] = {name: _tuples(value) for name, value in network.arguments.items()}
    wrong = sorted(set(given) - set(known))
    follows = _follows(known, data)
    required = {
        name
        for name, one in known.items()
        if one.default is inspect.Parameter.empty and one.kind is not inspect.Parameter.VAR_KEYWORD
    }
    house = HOUSE.get(network.name, {})
    missing = sorted(required - set(given) - set(follows) - set(house))
    if wrong or missing:
        open_to_plans = sorted((set(known) & set(get_args(ArgumentName))) - set(follows))
        sentences = [f"takes no {', '.join(wrong)}"] if wrong else []
        sentences += [f"needs {', '.join(missing)}"] if missing else []
        raise NetworkArgumentError(
            f"{network.name} {' and '.join(sentences)}",
            remedy=f"A plan may write: {', '.join(open_to_plans) or 'nothing'}.",
        )
    return _made(network.name, make, {**house, **given, **follows})


def _found(name: str) -> Callable[..., nn.Module]:
    from monai.networks import nets  # takes seconds, so only where it is used

    classes = {
        key: value
        for key, value in vars(nets).items()
        if inspect.isclass(value) and issubclass(value, nn.Module) and key[0].isupper()
    }
    if name in FETCHING:
        raise NetworkUnavailableError(
            f"{name} fetches weights or is made of another network",
            remedy="Name a network that stands alone.",
        )
    if RESNET.match(name):
        make: Callable[..., nn.Module] = getattr(nets, name.lower())
        return make
    if name not in classes:
        near = difflib.get_close_matches(
            name, [*classes, *(f"ResNet{depth}" for depth in (10, 18, 34, 50))], n=3
        )
        raise NetworkUnknownError(
            f"there is no network {name} in monai.networks.nets",
            remedy=f"Did you mean {' or '.join(near)}?" if near else "See docs/networks.md.",
        )
    return classes[name]


def _parameters(make: Callable[..., nn.Module]) -> dict[str, inspect.Parameter]:
    """By name: what the constructor takes, with what it passes on to the class that it extends."""
    if inspect.isclass(make):
        constructors: list[Callable[..., object]] = [
            vars(one)["__init__"] for one in make.__mro__ if "__init__" in vars(one)
        ]
    else:
        from monai.networks.nets.resnet import ResNet

        constructors = [make, ResNet.__init__]
    known: dict[str, inspect.Parameter] = {}
    for position, constructor in enumerate(constructors):
        taken = list(inspect.signature(constructor).parameters.values())
        for one in taken:
            if one.kind in (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY):
                # What an extended class requires, its extension has settled.
                settled = one.replace(default=None) if position and one.default is one.empty else one
                known.setdefault(one.name, settled)
        if not any(one.kind is inspect.Parameter.VAR_KEYWORD for one in taken):
            break
    known.pop("self", None)
    return known


def _follows(known: Mapping[str, inspect.Parameter], data: DataContract) -> dict[str, Value]:
    """Of the parameters that the class has, those that the data contract settles."""
    channels, *spatial = data.shape
    settled: dict[str, Value] = {}
    for name in ("spatial_dims", "dimensions"):
        settled[name] = len(spatial)
    for name in ("in_channels", "n_input_channels"):
        settled[name] = channels
    for name in ("out_channels", "num_classes", "classes"):
        settled[name] = 1
    for name in ("img_size", "input_image_size", "input_size", "image_size"):
        settled[name] = tuple(spatial)
    settled |= {"in_shape": data.shape, "out_shape": (1,)}
    settled |= {"classification": data.target == "label", "pretrained": False, "progress": False}
    return {name: value for name, value in settled.items() if name in known}


def _made(name: str, make: Callable[..., nn.Module], arguments: Mapping[str, Value]) -> nn.Module:
    from monai.utils import OptionalImportError

    try:
        return make(**arguments)
    except (OptionalImportError, ImportError) as error:
        raise NetworkUnavailableError(
            f"{name} needs a package that is not installed here",
            remedy="Name another network.",
            diagnostics=str(error),
        ) from None
    except NetworkSizeError:
        raise
    except Exception as error:  # whatever the class makes of arguments that it does not like
        raise NetworkArgumentError(
            f"{name} cannot be made with these arguments for items of this shape",
            remedy="See MONAI's description of the class.",
            diagnostics=f"{type(error).__name__}: {error}",
        ) from None


def _tuples(value: object) -> object:
    """Sequences of a plan as the tuples that MONAI's classes expect."""
    if isinstance(value, list | tuple):
        return tuple(_tuples(one) for one in value)
    return value
