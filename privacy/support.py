"""Which coordinates of an update are sent, when a plan says `compression: {keep: 0.01}`: the same at every site.

Lives here: drawing that support, and moving vectors on and off it. What a site does with the coordinates that it did
not send is `privacy.error_feedback`; no patient's value is ever an input here.

Why the support is shared. Under a protected sum each site's values are hidden among the others' at the same
coordinate. If each site chose its own largest coordinates, one that a single site chose would open as that site's
value, and the choice itself would tell of its patients. So the support follows from what everybody holds already:
the previous opened sum (which is released, so that using it again is post-processing) and a public seed. Of k
coordinates, the floor(k/2) whose previous sum was largest go again, as far as they are not zero; the rest is drawn
from all others, so that every coordinate comes round: after r rounds one has not been drawn with probability at most
about (1 - keep/2)^r. This is top-k (Stich, Cordonnier, Jaggi 2018) of the last sum beside random-k, not of the
present one, which nobody knows before it is sent.

Every party draws the same support, bit for bit. With d the dimension and x_1, x_2, ... the AES-256-CTR keystream
(NIST SP 800-38A) under the seed, read as little-endian 32-bit words from counter zero:

    x_i at or above floor(2^32 / d) d is passed over;  x_i mod d is drawn, unless it was drawn or kept before

until as many are drawn as are wanted. Where more than half of the remaining coordinates are wanted, those to leave
out are drawn instead.
"""

from __future__ import annotations

import hashlib
import math
from typing import Final, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from ledger import canonical
from ledger.errors import InputError
from privacy.packing import Lanes

Support: TypeAlias = npt.NDArray[np.int64]
"""(k,) coordinates, each once, in rising order."""
_Scalar = TypeVar("_Scalar", bound=np.generic)

SEED_BYTES: Final = 32
LARGEST_DIMENSION: Final = 2**31
_FEWEST_WORDS: Final = 1 << 10
_MOST_WORDS: Final = 1 << 20


class SupportInvalidError(InputError):
    """A support that does not exist, or values that do not lie on it."""

    code = "privacy.support-invalid"


def support_seed(plan_digest: str, round_number: int) -> bytes:
    """32 bytes that everybody knows and that change with every round of every plan."""
    return hashlib.sha256(
        canonical.encode({"wardround": "support/v1", "plan": plan_digest, "round": round_number})
    ).digest()


def support_size(dimension: int, keep: float) -> int:
    """k = max(1, ceil(keep dimension)), the product as a double."""
    if not 1 <= dimension <= LARGEST_DIMENSION:
        raise SupportInvalidError(f"a vector to compress has 1 to {LARGEST_DIMENSION} coordinates")
    if not 0 < keep <= 1:
        raise SupportInvalidError("the part of an update to keep is above 0 and at most 1")
    return min(dimension, max(1, math.ceil(keep * dimension)))


def support(dimension: int, keep: float, *, seed: bytes, previous: Lanes | None) -> Support:
    """(k,) coordinates of (dimension,) to send; see the module's text.

    `seed` is `support_seed` of this round; `previous` the last opened sum of this plan at full length, zero where
    nothing was sent, or None before there is one. Takes one byte a coordinate beside the result.
    """
    size = support_size(dimension, keep)
    if len(seed) != SEED_BYTES:
        raise SupportInvalidError(f"a support's seed has {SEED_BYTES} bytes")
    if size == dimension:
        return np.arange(dimension, dtype=np.int64)
    taken = np.zeros(dimension, dtype=np.bool_)
    if previous is not None:
        if previous.shape != (dimension,) or previous.dtype != np.int32:
            raise SupportInvalidError(f"the previous sum is one row of {dimension} 32-bit lanes")
        again = _largest(previous, size // 2)
        taken[again] = True
        size -= len(again)
        free = dimension - len(again)
    else:
        free = dimension
    if size <= free // 2:
        _draw(taken, size, seed)
    else:
        kept = taken.copy()
        _draw(taken, free - size, seed)
        # Drawn were those to leave out: what is in neither set goes too.
        np.equal(taken, kept, out=taken)
    return np.flatnonzero(taken)


def gather(vector: npt.NDArray[_Scalar], chosen: Support) -> npt.NDArray[_Scalar]:
    """(k,) values of (d,) at the support, in its order; a copy."""
    if vector.ndim != 1:
        raise SupportInvalidError("what lies on a support is one row")
    check_support(chosen, len(vector))
    return vector[chosen]


def scatter(values: npt.NDArray[_Scalar], chosen: Support, dimension: int) -> npt.NDArray[_Scalar]:
    """(dimension,) with (k,) values at the support and zero elsewhere."""
    check_support(chosen, dimension)
    if values.shape != chosen.shape:
        raise SupportInvalidError(f"{len(chosen)} values lie on this support")
    whole = np.zeros(dimension, dtype=values.dtype)
    whole[chosen] = values
    return whole


def check_support(chosen: Support, dimension: int) -> None:
    """Refuse what is not a support of (dimension,)."""
    if chosen.ndim != 1 or chosen.dtype != np.int64 or not len(chosen):
        raise SupportInvalidError("a support is one row of 64-bit coordinates")
    if int(chosen[0]) < 0 or int(chosen[-1]) >= dimension or not bool((chosen[1:] > chosen[:-1]).all()):
        raise SupportInvalidError(f"a support lists rising coordinates below {dimension}, each once")


def _largest(previous: Lanes, count: int) -> Support:
    """The up to `count` coordinates that are largest in magnitude and not zero; of equal ones, the first."""
    found = np.flatnonzero(previous)
    if len(found) <= count:
        return found
    if count == 0:
        return found[:0]
    # As an unsigned number, because the magnitude of -2^31 is none of an int32.
    magnitudes = np.abs(previous[found]).view(np.uint32)
    edge = np.partition(magnitudes, len(found) - count)[len(found) - count]
    above = magnitudes > edge
    ties = np.flatnonzero(magnitudes == edge)[: count - int(np.count_nonzero(above))]
    above[ties] = True
    chosen: Support = found[above]
    return chosen


def _draw(taken: npt.NDArray[np.bool_], count: int, seed: bytes) -> None:
    """Mark `count` more coordinates, in the order of the keystream. Batches only save time: the result is that of
    taking one word after the other."""
    dimension = len(taken)
    usable = 2**32 // dimension * dimension
    keystream = Cipher(algorithms.AES(seed), modes.CTR(bytes(16))).encryptor()
    while count:
        asked = min(_MOST_WORDS, max(_FEWEST_WORDS, 2 * count))
        words = np.frombuffer(keystream.update(bytes(4 * asked)), dtype="<u4")
        drawn = (words[words < usable] if usable < 2**32 else words) % np.uint32(dimension)
        drawn = drawn[~taken[drawn]]
        fresh, first = np.unique(drawn, return_index=True)
        if len(fresh) > count:
            fresh = fresh[np.argpartition(first, count)[:count]]
        taken[fresh] = True
        count -= len(fresh)
