"""Cryptographic randomness for everything that protects a patient: noise, sampling, stochastic rounding.

The bytes are the AES-256-CTR keystream (NIST SP 800-38A) under a key that the operating system draws for this
object alone and that is never kept: there is no seed, no state to save, no way back. numpy's and torch's
generators must not be used for any of this; they are predictable from their output.

Floating-point Gaussians leak the value that they hide through the gaps between representable numbers (Mironov
2012; Jin, McMurtry, Rubinstein, Ohrimenko 2022). As Opacus does in its secure mode, each sample is the sum of
2n = 4 Gaussians divided by 2, for which the known attack needs about 2^(53 (2n-1)) = 2^159 trials (Holohan
and Braghin 2021, section 5.1, n = 2). Each sample has its own four uniforms, so that samples share no
randomness. This raises the price of the attack; only noise on integers (a discrete Gaussian) would remove it.
"""

from __future__ import annotations

import math
import os
import threading
from types import TracebackType
from typing import Final, NoReturn, Self

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext, algorithms, modes

from ledger.errors import CodedError, InputError

_CHUNK_SAMPLES: Final = 1 << 16
_ZEROS: Final = bytes(8 * _CHUNK_SAMPLES)


class NoiseRequestError(InputError):
    code = "privacy.noise-invalid"


class NoiseStreamError(CodedError):
    """The stream may not be used here: closed, carried into another process, or about to be copied."""

    code = "privacy.noise-stream"


class NoiseStream:
    """A stream of random numbers, forward only, never repeated, never copied.

    A context manager; a closed stream refuses. It belongs to the process that made it, because a forked child
    would draw the same numbers again, and it cannot be pickled for the same reason. Safe between threads.
    """

    def __init__(self) -> None:
        key = os.urandom(32)
        self._cipher: CipherContext | None = Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor()
        self._process = os.getpid()
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Forget the key; every later request is refused."""
        self._cipher = None

    def __reduce__(self) -> NoReturn:
        raise NoiseStreamError("a noise stream is never copied or pickled: its numbers would be drawn twice")

    def words(self, count: int) -> npt.NDArray[np.uint64]:
        """(count,) uniform 64-bit words."""
        _check_count(count)
        words = np.empty(count, dtype=np.uint64)
        self.fill(words)
        return words

    def fill(self, words: npt.NDArray[np.uint32] | npt.NDArray[np.uint64]) -> None:
        """Overwrite (n,) words, contiguous in memory, with uniform ones: for readers that keep one small buffer."""
        if os.getpid() != self._process:
            raise NoiseStreamError("a noise stream does not follow a fork: its numbers would be drawn twice")
        with self._lock:
            if self._cipher is None:
                raise NoiseStreamError("the noise stream is closed")
            target = words.view(np.uint8).data
            for start in range(0, len(target), len(_ZEROS)):
                size = min(len(_ZEROS), len(target) - start)
                self._cipher.update_into(memoryview(_ZEROS)[:size], target[start : start + size])

    def uniforms(self, count: int) -> npt.NDArray[np.float64]:
        """(count,) multiples of 2^-53 in [0, 1)."""
        return (self.words(count) >> np.uint64(11)).astype(np.float64) * 2.0**-53

    def gaussian(self, count: int, std: float) -> npt.NDArray[np.float64]:
        """(count,) samples of N(0, std^2); see the module's text for what is done about floating point.

        Box and Muller 1958 on 53-bit uniforms, the radius from u in (0, 1]; no sample passes 17.2 std, which
        a true Gaussian does with probability below 2^-200.
        """
        _check_count(count)
        if not (math.isfinite(std) and std > 0):
            raise NoiseRequestError("the noise's standard deviation must be a positive number")
        samples = np.empty(count, dtype=np.float64)
        for start in range(0, count, _CHUNK_SAMPLES):
            size = min(_CHUNK_SAMPLES, count - start)
            samples[start : start + size] = self._standard_gaussian(size)
        samples *= std
        return samples

    def _standard_gaussian(self, count: int) -> npt.NDArray[np.float64]:
        """(count,) samples of N(0, 1), each from four uniforms of its own."""
        u = self.uniforms(4 * count).reshape(4, count)
        radius = np.sqrt(-2.0 * np.log(1.0 - u[:2]))
        angle = (2.0 * math.pi) * u[2:]
        four: npt.NDArray[np.float64] = (radius * (np.cos(angle) + np.sin(angle))).sum(axis=0)
        return four / 2.0

    def bernoulli(self, probability: float, count: int) -> npt.NDArray[np.bool_]:
        """(count,) independent coins, true with `probability` rounded down to a multiple of 2^-64.

        Down, because privacy accounting assumes that nobody is sampled more often than announced.
        """
        if not (math.isfinite(probability) and 0 <= probability <= 1):
            raise NoiseRequestError("a probability lies between 0 and 1")
        words = self.words(count)
        if probability == 1:
            return np.ones(count, dtype=np.bool_)
        numerator, denominator = probability.as_integer_ratio()
        return words < np.uint64((numerator << 64) // denominator)

    def integers(self, below: int, count: int) -> npt.NDArray[np.int64]:
        """(count,) uniform integers in [0, below), without modulo bias."""
        _check_count(count)
        return self.choices(np.full(count, below, dtype=np.int64))

    def choices(self, sizes: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """One uniform integer in [0, size) for each of (n,) `sizes`, all at least 1.

        The lowest 2^64 mod size words are drawn again, which leaves every integer the same number of words.
        """
        if sizes.ndim != 1 or sizes.dtype != np.int64 or bool((sizes < 1).any()):
            raise NoiseRequestError("a choice needs at least one item to choose from")
        divisor = sizes.astype(np.uint64)
        # The number of words to refuse, 2^64 mod size, written without 2^64.
        refused = (np.uint64(2**64 - 1) % divisor + np.uint64(1)) % divisor
        words = self.words(len(sizes))
        again = np.flatnonzero(words < refused)
        while len(again):
            words[again] = self.words(len(again))
            again = again[words[again] < refused[again]]
        chosen: npt.NDArray[np.int64] = (words % divisor).astype(np.int64)
        return chosen


def _check_count(count: int) -> None:
    if count < 0:
        raise NoiseRequestError("a count of random numbers is not negative")
