"""What every scheme that hides updates inside a sum can do. Schemes live in modules of their own.

Integer lanes go in, the exact sum of lanes comes out, and no scheme saturates or wraps: what does not fit is
refused. Encoding floats is not a scheme's business (`privacy.encoding`), nor is deciding who may open what.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from privacy.packing import Lanes


class ProtectedSum(Protocol):
    """One party's end of a scheme, for one study."""

    @property
    def scheme(self) -> str:
        """The word by which a plan picks it."""

    def protect(self, lanes: Lanes) -> bytes:
        """(n,) lanes of one site to the bytes that leave it."""

    def combine(self, updates: Sequence[bytes]) -> bytes:
        """Protected updates to their protected sum, reading none; deterministic, byte for byte."""

    def open(self, combined: bytes, *, sites: int) -> Lanes:
        """The (n,) summed lanes of exactly `sites` updates; refused to whoever may not open."""
