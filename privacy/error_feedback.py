"""What a site did not send of its updates, kept at the site and added to its next one.

Lives here: the residual of one site in one plan, its bytes, and the rule when it may be used at all. Which
coordinates are sent is `privacy.support`; where the bytes lie, encrypted, is the site's business. They never cross.

    corrected = update + e        take
    sent      = what the lanes on the support decode to, after clipping and rounding
    e         = corrected, less sent on the support        keep

so that nothing is lost but delayed: what was sent so far and e add up to all updates so far. This is memory (Stich,
Cordonnier, Jaggi 2018, algorithm 1) or error feedback (Karimireddy, Rebjock, Stich, Jaggi 2019, algorithm 2), which
converges as fast as sending everything up to higher-order terms, and without which a biased compressor need not
converge at all. As there, the residual does not decay by default.

Privacy. With `noise: local` every update is the output of a differentially private mechanism before it comes here,
its noise included; the residual is a function of such outputs, so that sending it later is post-processing and costs
nothing more (Dwork and Roth 2014, proposition 2.1). With distributed noise it is not: a site's own share of noise is
too small for its patients, only the sum over sites carries enough, and what stays here would be sent in a later
round under that round's noise, unaccounted. `check_residual` refuses this. A residual belongs to one plan and ends
with it: another plan starts at zero, so that no patient's past outlives the approval.

Bytes, for storage at the site:

    "wardround/error-feedback/v1\n"     28 bytes
    SHA-256 of the plan                 32 bytes
    rounds kept so far                  unsigned 32 bits, little-endian
    d                                   unsigned 32 bits, little-endian
    e                                   d float32, little-endian
"""

from __future__ import annotations

import struct
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from ledger.errors import InputError
from privacy.support import Support, check_support

Residual = npt.NDArray[np.float32]
NoiseSource = Literal["local", "distributed"]

_MAGIC: Final = b"wardround/error-feedback/v1\n"
_HEADER: Final = struct.Struct("<28s32sII")
_CHUNK: Final = 1 << 20


class ResidualInvalidError(InputError):
    """Bytes or vectors that are not this plan's."""

    code = "privacy.residual-invalid"


class ResidualUnaccountedError(InputError):
    """The residual would carry patients' values past the noise that was accounted for."""

    code = "privacy.residual-unaccounted"


def check_residual(noise: NoiseSource) -> None:
    """Refuse error feedback together with noise that is complete only in the sum over sites."""
    if noise != "local":
        raise ResidualUnaccountedError(
            "what error feedback carries over would be sent under a later round's noise, unaccounted",
            remedy="Use `noise: local`, or compress without error feedback.",
        )


class ErrorFeedback:
    """The residual of one site in one plan; zero at first. `plan_digest` is SHA-256 in hex."""

    def __init__(self, dimension: int, *, plan_digest: str, noise: NoiseSource) -> None:
        check_residual(noise)
        if not 1 <= dimension < 2**32:
            raise ResidualInvalidError("a residual has at least one coordinate")
        self._plan = _digest_bytes(plan_digest)
        self._rounds = 0
        self._residual: Residual = np.zeros(dimension, dtype=np.float32)

    @property
    def rounds(self) -> int:
        """How many updates were kept: a site that finds another number than it sent has lost or doubled one."""
        return self._rounds

    def take(self, update: npt.NDArray[np.float32]) -> Residual:
        """(d,) update plus what was not sent yet; a new vector. Changes nothing: `keep` does."""
        self._check(update)
        return update + self._residual

    def keep(self, corrected: Residual, sent: npt.NDArray[np.floating], support: Support | None) -> None:
        """Keep of `corrected` (d,) what `sent` (k,) at `support` did not carry; None where all d were sent.

        `sent` is what others read: `Encoding.decode_sum` of this site's own lanes, so that what clipping and rounding
        took is sent another time. Takes `corrected` over: the caller does not use it any more.
        """
        self._check(corrected)
        if support is None:
            if sent.shape != corrected.shape:
                raise ResidualInvalidError("what was sent is not as long as the update")
            for start in range(0, len(sent), _CHUNK):
                corrected[start : start + _CHUNK] -= sent[start : start + _CHUNK]
        else:
            _check_on(support, sent, len(corrected))
            corrected[support] -= sent
        self._residual = corrected
        self._rounds += 1

    def to_bytes(self) -> bytes:
        """What `from_bytes` reads. Patients' values: never out of the site, and encrypted where it lies."""
        header = _HEADER.pack(_MAGIC, self._plan, self._rounds, len(self._residual))
        return b"".join((header, self._residual.astype("<f4", copy=False).data))

    @classmethod
    def from_bytes(
        cls, data: bytes, *, dimension: int, plan_digest: str, noise: NoiseSource
    ) -> ErrorFeedback:
        """The residual of that plan; bytes of another plan, length or version, or numbers that are not finite, are
        refused (`ResidualInvalidError`)."""
        kept = cls(dimension, plan_digest=plan_digest, noise=noise)
        if len(data) != _HEADER.size + 4 * dimension:
            raise ResidualInvalidError(f"a residual of {dimension} coordinates has another length")
        magic, plan, rounds, length = _HEADER.unpack_from(data)
        if magic != _MAGIC or length != dimension:
            raise ResidualInvalidError("the bytes are not a residual of this version and dimension")
        if plan != kept._plan:
            raise ResidualInvalidError("the residual is another plan's, and ended with it")
        read = np.frombuffer(data, dtype="<f4", offset=_HEADER.size)
        kept._residual[:] = read
        kept._rounds = rounds
        kept._check(kept._residual)
        return kept

    def _check(self, vector: npt.NDArray[np.float32]) -> None:
        if vector.shape != self._residual.shape or vector.dtype != np.float32:
            raise ResidualInvalidError(f"an update is one row of {len(self._residual)} float32")
        # The sum of all squares is not needed: NaN and infinity show in the extremes.
        if not (np.isfinite(vector.max()) and np.isfinite(vector.min())):
            raise ResidualInvalidError("an update or a residual holds what is not a finite number")


def _check_on(support: Support, sent: npt.NDArray[np.floating], dimension: int) -> None:
    if sent.shape != support.shape:
        raise ResidualInvalidError("what was sent is not as long as its support")
    check_support(support, dimension)


def _digest_bytes(digest: str) -> bytes:
    try:
        raw = bytes.fromhex(digest)
    except ValueError:
        raw = b""
    if len(raw) != 32:
        raise ResidualInvalidError("a plan's digest is SHA-256 in hex")
    return raw
