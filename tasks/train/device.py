"""On which device a network runs at a site, and in which precision."""

from __future__ import annotations

from typing import Literal, TypeAlias

import torch

from ledger.errors import InputError

Precision: TypeAlias = Literal["float32", "bfloat16"]


class PrecisionError(InputError):
    """A precision that this device gains nothing from."""

    code = "device.precision"


def device_of(wanted: str) -> str:
    """As wanted; of `auto` the GPU where there is one."""
    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return wanted


def precision_of(wanted: Precision, device: str) -> Precision:
    """As wanted; refuses half precision off the GPU, where it costs accuracy and time and gains neither."""
    if wanted != "float32" and torch.device(device).type != "cuda":
        raise PrecisionError(
            f"{wanted} is for training on a GPU, and this site trains on its CPU",
            remedy="Write precision: float32 in institution.yaml, or leave it out.",
        )
    return wanted
