"""Exact samples of the discrete Gaussian on the integers, many at once, for a sigma that is a power of two.

Lives here: the sampler of Canonne, Kamath and Steinke 2020 ("The Discrete Gaussian for Differential Privacy",
algorithms 1 to 3, with t = sigma) over the words of a `NoiseStream`. What the noise hides is not here.

    algorithm 3   |Y| from the discrete Laplace of scale sigma, taken with probability
                  exp(-(|Y| - sigma)^2 / (2 sigma^2)); about 3 of 4 are taken
    algorithm 2   |Y| = U + sigma V: U uniform below sigma, taken with probability exp(-U / sigma), V the successes
                  before the first failure of coins exp(-1), a sign, and no negative zero
    algorithm 1   a coin of probability exp(-g), g in [0, 1]: K = 1, 2, ... while coins of probability g / K succeed;
                  true if the K at which they stop is odd

No float is computed with, and nothing is looked up in a table: with sigma a power of two every g is a whole number
of 2^-p, and a coin of probability f 2^-p compares p random bits with f. The one thing that is not exact: a V of 64 or
more, which has a probability of exp(-64), and which algorithm 3 then takes with one below exp(-1984), is never
taken. The time that a sample takes tells nothing of what it hides: it does not depend on it.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from privacy.noise import NoiseRequestError, NoiseStream

MAXIMUM_BITS: Final = 24
"""Squares of the largest |Y| then fit 64 bits with room to spare."""
_CHUNK: Final = 1 << 15
_LARGEST_V: Final = 64
# Of the uniform words with which a sample begins, about 0.63 * 0.76 become one.
_WORDS_A_SAMPLE: Final = 2.15

_Words = npt.NDArray[np.uint64]
_Coins = npt.NDArray[np.bool_]


def discrete_gaussian(stream: NoiseStream, count: int, *, bits: int) -> npt.NDArray[np.int64]:
    """(count,) independent samples, P(x) proportional to exp(-x^2 / (2 sigma^2)) with sigma = 2^`bits`, 0 to 24."""
    if count < 0 or not 0 <= bits <= MAXIMUM_BITS:
        raise NoiseRequestError(f"a discrete Gaussian has a sigma of 2^0 to 2^{MAXIMUM_BITS}")
    samples = np.empty(count, dtype=np.int64)
    done = 0
    while done < count:
        wanted = min(_CHUNK, count - done)
        found = _candidates(stream, int(wanted * _WORDS_A_SAMPLE) + 16, bits)[:wanted]
        samples[done : done + len(found)] = found
        done += len(found)
    return samples


def _candidates(stream: NoiseStream, count: int, bits: int) -> npt.NDArray[np.int64]:
    """What `count` uniform words become: fewer samples, each independent of how many there are."""
    words = stream.words(count)
    # The top bits are U, the lowest is the sign.
    low = words >> np.uint64(64 - bits) if bits else np.zeros_like(words)
    kept = _fraction_coins(stream, low, bits)
    low, negative = low[kept], (words[kept] & np.uint64(1)).astype(np.bool_)
    high = _successes(stream, len(low))
    size = low + (high << np.uint64(bits))
    possible = ~(negative & (size == 0)) & (high < _LARGEST_V)
    size, negative = size[possible], negative[possible]
    away = size.astype(np.int64) - (1 << bits)
    taken = _coins(stream, (away * away).astype(np.uint64), 2 * bits + 1)
    signed = size.astype(np.int64)
    np.negative(signed, out=signed, where=negative)
    samples: npt.NDArray[np.int64] = signed[taken]
    return samples


def _coins(stream: NoiseStream, exponents: _Words, bits: int) -> _Coins:
    """Coins of probability exp(-e / 2^bits) for (n,) whole numbers e."""
    whole = exponents >> np.uint64(bits)
    coins = _fraction_coins(stream, exponents & np.uint64((1 << bits) - 1), bits)
    left = np.flatnonzero(coins & (whole > 0))
    turn = 0
    while len(left):
        turn += 1
        passed = _unit_coins(stream, len(left))
        coins[left[~passed]] = False
        left = left[passed]
        left = left[whole[left] > turn]
    return coins


def _fraction_coins(stream: NoiseStream, fractions: _Words, bits: int) -> _Coins:
    """Coins of probability exp(-f / 2^bits) for (n,) whole numbers f below 2^bits."""
    coins = np.zeros(len(fractions), dtype=np.bool_)
    if bits == 0:
        return ~coins  # f is 0
    index, rest, turn = np.arange(len(fractions)), fractions, 1
    while len(index):
        going = stream.words(len(index)) >> np.uint64(64 - bits) < rest
        if turn > 1:
            going &= stream.integers(turn, len(index)) == 0
        coins[index[~going]] = turn % 2 == 1
        index, rest, turn = index[going], rest[going], turn + 1
    return coins


def _unit_coins(stream: NoiseStream, count: int) -> _Coins:
    """Coins of probability exp(-1): as above with f = 2^bits, whose first comparison always succeeds."""
    coins = np.zeros(count, dtype=np.bool_)
    index, turn = np.arange(count), 2
    while len(index):
        going = stream.integers(turn, len(index)) == 0
        coins[index[~going]] = turn % 2 == 1
        index, turn = index[going], turn + 1
    return coins


def _successes(stream: NoiseStream, count: int) -> _Words:
    """(count,) numbers of coins exp(-1) that succeed before one fails."""
    found = np.zeros(count, dtype=np.uint64)
    index = np.arange(count)
    while len(index):
        index = index[_unit_coins(stream, len(index))]
        found[index] += np.uint64(1)
    return found
