"""On which device a network runs."""

from __future__ import annotations

import torch


def device_of(wanted: str) -> str:
    """As wanted; of `auto` the GPU where there is one."""
    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return wanted
