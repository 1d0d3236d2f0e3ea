"""The rings in which masks are added: Z_2^w for lanes, Z_t for the slots of a ciphertext.

Lives here: residues in arrays, and adding or taking away the streams of keys. In both rings a mask is uniform and a
masked residue tells nothing. No key is derived here.

A stream's elements, little-endian words in stream order:

    Z_2^w   word k, of w bits, is element k
    Z_t     word k, of 64 bits, cut to the bits of t - 1, is element k where it is below t. Where it is not, the
            element is drawn again from the words behind the n-th: the first of them for the first such k, and so on,
            until all are below t. Exactly uniform. For the t of `privacy.packing` 6 words in 10^9 are drawn again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from ledger.errors import InputError
from privacy.masking.keystream import CHUNK_BYTES, Keystream

Residues: TypeAlias = (
    npt.NDArray[np.uint8] | npt.NDArray[np.uint16] | npt.NDArray[np.uint32] | npt.NDArray[np.int64]
)
Integers: TypeAlias = (
    npt.NDArray[np.int8] | npt.NDArray[np.int16] | npt.NDArray[np.int32] | npt.NDArray[np.int64]
)

_Word = TypeVar("_Word", bound=np.generic)


class RingValuesError(InputError):
    """Values that are not residues of this ring, or lie where they cannot be changed in place."""

    code = "privacy.ring-values"


class Ring(Protocol):
    """Arithmetic on (n,) arrays, in place."""

    @property
    def name(self) -> str:
        """Enters the derivation of mask keys: two rings never share a stream."""

    def check(self, values: Residues) -> None:
        """Refuse what is not (n,) residues, contiguous and writeable; raises `RingValuesError`."""

    def reduce(self, integers: Integers, *, out: Residues) -> None:
        """Signed integers, absolutely below the ring's size, to residues; `out` may be `integers` itself."""

    def centred(self, values: Residues) -> Integers:
        """Residues as signed integers around zero, in the same memory: `values` is used up."""

    def add(self, total: Residues, values: Residues) -> None:
        """Add `values` to `total`."""

    def shift(self, values: Residues, *, plus: Sequence[bytes], minus: Sequence[bytes]) -> None:
        """Add the streams of the 32-byte keys in `plus`, subtract those of the keys in `minus`.

        One pass over the values, all streams a chunk: extra memory is bounded by the chunk and the number of keys.
        """


@dataclass(frozen=True, slots=True)
class PowerOfTwo:
    """Z_2^bits: unsigned little-endian words that wrap around."""

    bits: Literal[8, 16, 32]

    @property
    def name(self) -> str:
        return f"Z_2^{self.bits}"

    @property
    def dtype(self) -> np.dtype[np.uint8] | np.dtype[np.uint16] | np.dtype[np.uint32]:
        return np.dtype(f"<u{self.bits // 8}")

    def view(self, data: bytes | memoryview, *, offset: int) -> Residues:
        """The residues that lie in `data` from `offset` on, where they lie."""
        residues: Residues = np.frombuffer(data, dtype=np.uint8, offset=offset).view(self.dtype)
        return residues

    def check(self, values: Residues) -> None:
        if values.dtype != self.dtype:
            raise RingValuesError(f"residues modulo 2^{self.bits} are unsigned integers of {self.bits} bits")
        _check_layout(values)

    def reduce(self, integers: Integers, *, out: Residues) -> None:
        self.check(out)
        np.copyto(out, integers, casting="unsafe")

    def centred(self, values: Residues) -> Integers:
        self.check(values)
        signed: Integers = values.view(f"<i{self.bits // 8}")
        return signed

    def add(self, total: Residues, values: Residues) -> None:
        np.add(total, values, out=total)

    def shift(self, values: Residues, *, plus: Sequence[bytes], minus: Sequence[bytes]) -> None:
        self.check(values)
        adding, taking = [Keystream(key) for key in plus], [Keystream(key) for key in minus]
        buffer = np.empty(CHUNK_BYTES, dtype=np.uint8)
        for part in _chunks(values):
            drawn = buffer[: part.nbytes]
            words = drawn.view(self.dtype)
            for stream in adding:
                stream.fill(drawn)
                np.add(part, words, out=part)
            for stream in taking:
                stream.fill(drawn)
                np.subtract(part, words, out=part)


@dataclass(frozen=True, slots=True)
class Prime:
    """Z_t for any 2 <= t <= 2^62: int64 arrays of residues from 0 to t - 1. It need not be prime to be exact."""

    modulus: int

    def __post_init__(self) -> None:
        if not 2 <= self.modulus <= 1 << 62:
            raise RingValuesError("a modulus lies between 2 and 2^62")

    @property
    def name(self) -> str:
        return f"Z_{self.modulus}"

    def check(self, values: Residues) -> None:
        if values.dtype != np.int64:
            raise RingValuesError("residues modulo a prime are 64-bit integers")
        _check_layout(values)
        if values.size and (int(values.min()) < 0 or int(values.max()) >= self.modulus):
            raise RingValuesError("residues lie between 0 and the modulus")

    def reduce(self, integers: Integers, *, out: Residues) -> None:
        if integers.size and max(int(integers.max()), -int(integers.min())) >= self.modulus:
            raise RingValuesError("integers to be reduced are absolutely below the modulus")
        if out is not integers:
            np.copyto(out, integers)
        # The sign bit, spread over the word, picks the modulus for negative ones.
        out += (out >> 63) & self.modulus

    def centred(self, values: Residues) -> Integers:
        self.check(values)
        signed: npt.NDArray[np.int64] = values.view(np.int64)
        signed -= np.where(signed > self.modulus // 2, np.int64(self.modulus), np.int64(0))
        return signed

    def add(self, total: Residues, values: Residues) -> None:
        self._plus(total.view(np.uint64), values.view(np.uint64))

    def shift(self, values: Residues, *, plus: Sequence[bytes], minus: Sequence[bytes]) -> None:
        self.check(values)
        residues = values.view(np.uint64)
        streams = [(Keystream(key), self._plus) for key in plus]
        streams += [(Keystream(key), self._minus) for key in minus]
        refused: list[list[npt.NDArray[np.intp]]] = [[] for _ in streams]
        buffer = np.empty(CHUNK_BYTES, dtype=np.uint8)
        start = 0
        for part in _chunks(residues):
            for number, (stream, combine) in enumerate(streams):
                words = self._words(stream, buffer[: part.nbytes])
                if part.size and int(words.max()) >= self.modulus:
                    high = np.flatnonzero(words >= self.modulus)
                    words[high] = 0
                    refused[number].append(high + start)
                combine(part, words)
            start += len(part)
        for (stream, combine), found in zip(streams, refused, strict=True):
            waiting = np.concatenate(found) if found else np.empty(0, dtype=np.intp)
            while len(waiting):
                words = np.concatenate(
                    [self._words(stream, buffer[: part.nbytes]).copy() for part in _chunks(waiting)]
                )
                good = words < self.modulus
                at = waiting[good]
                drawn = residues[at]
                combine(drawn, words[good])
                residues[at] = drawn
                waiting = waiting[~good]

    def _words(self, stream: Keystream, drawn: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint64]:
        stream.fill(drawn)
        words: npt.NDArray[np.uint64] = drawn.view("<u8")
        words &= np.uint64((1 << (self.modulus - 1).bit_length()) - 1)
        return words

    # Both below the modulus; what leaves [0, t) wraps to a number above t and is the larger of the two.
    def _plus(self, total: npt.NDArray[np.uint64], words: npt.NDArray[np.uint64]) -> None:
        total += words
        np.minimum(total, total - np.uint64(self.modulus), out=total)

    def _minus(self, total: npt.NDArray[np.uint64], words: npt.NDArray[np.uint64]) -> None:
        total -= words
        np.minimum(total, total + np.uint64(self.modulus), out=total)


def _check_layout(values: Residues) -> None:
    if values.ndim != 1 or not values.flags.c_contiguous or not values.flags.writeable:
        raise RingValuesError("residues are one contiguous row that may be written to")


def _chunks(values: npt.NDArray[_Word]) -> Iterator[npt.NDArray[_Word]]:
    step = CHUNK_BYTES // values.itemsize
    for start in range(0, len(values), step):
        yield values[start : start + step]
