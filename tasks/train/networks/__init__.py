"""The network that a plan names: any of MONAI's that can be private, or a small one for tables.

building        a plan's network as a module, its first weights, and how its weights go in and out
monai_network   a class of `monai.networks.nets` by name
small           one for small images under much noise
tabular         networks for rows of values
item_network    what every network is given and gives: scaled items, logits
dp_ready        from a network to one whose gradient belongs to one patient
separation      the trial that shows that it does
standardised    convolutions whose weights are standardised
"""

from __future__ import annotations

from tasks.train.networks.building import build, examine, extract, initial, load, loaded, template, trained
from tasks.train.networks.dp_ready import Change, Readiness, make_ready
from tasks.train.networks.errors import (
    NetworkArgumentError,
    NetworkNotPrivateError,
    NetworkShapeError,
    NetworkUnavailableError,
    NetworkUnknownError,
)
from tasks.train.networks.item_network import ItemNetwork
from tasks.train.networks.standardised import pull_back_all, refresh_all
from tasks.train.weights import flatten, unflatten

__all__ = [
    "Change", "ItemNetwork", "NetworkArgumentError", "NetworkNotPrivateError", "NetworkShapeError",
    "NetworkUnavailableError", "NetworkUnknownError", "Readiness", "build", "examine", "extract", "flatten",
    "initial", "load", "loaded", "make_ready", "pull_back_all", "refresh_all", "template", "trained", "unflatten",
]  # fmt: skip
