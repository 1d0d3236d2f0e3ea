"""What can go wrong while gradients are clipped. Messages name layers of the network, never values or patients."""

from __future__ import annotations

from collections.abc import Sequence

from ledger.errors import InputError


class UnsupportedNetworkError(InputError):
    """Parts of the network whose gradients cannot be told apart by patient; all of them are named."""

    code = "clipping.unsupported"

    def __init__(self, parts: Sequence[str]) -> None:
        self.parts = tuple(parts)
        super().__init__(
            f"these parts of the network cannot be trained privately: {'; '.join(parts)}",
            remedy="Freeze them, or replace them by layers that are covered (docs/networks.md).",
        )


class BatchInvalidError(InputError):
    """Items, patients and losses that do not fit each other."""

    code = "clipping.batch"
