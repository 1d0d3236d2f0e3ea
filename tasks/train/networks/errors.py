"""Why a plan's network cannot be had. What a library said stands in the diagnostics alone."""

from __future__ import annotations

from ledger.errors import InputError


class NetworkUnknownError(InputError):
    """No class of that name, or none that learns from this kind of data."""

    code = "network.unknown"


class NetworkUnavailableError(InputError):
    """A class that fetches weights or needs what is not installed here."""

    code = "network.unavailable"


class NetworkArgumentError(InputError):
    """An argument that the class does not take, lacks, or finds wrong."""

    code = "network.argument"


class NetworkShapeError(InputError):
    """Items of the data contract do not go through, or what comes out is not one logit an item or a pixel."""

    code = "network.shape"


class NetworkNotPrivateError(InputError):
    """Something in it cannot be trained privately."""

    code = "network.not-private"


class NetworkSizeError(InputError):
    """More weights or activations than any plan may ask a site for."""

    code = "network.too-large"
