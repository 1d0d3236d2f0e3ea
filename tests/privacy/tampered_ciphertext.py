"""Ciphertexts as a hostile site makes them: combinations of those it saw, and polynomials of its own choice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from privacy import homomorphic
from privacy.ciphertext_frame import SLOTS
from privacy.homomorphic import Ciphertext
from privacy.packing import PLAIN_MODULUS
from privacy.study_key import PublicContext

CIPHERTEXT_MODULUS: Final = 1_152_921_504_606_830_593
"""The 60-bit prime modulo which ciphertexts live."""
DELTA: Final = CIPHERTEXT_MODULUS // PLAIN_MODULUS
"""By what a plaintext is scaled inside a ciphertext."""
_WRAPPER_BYTES: Final = 8
_POLYNOMIAL_BYTES: Final = 8 * SLOTS

Polynomial = npt.NDArray[np.uint64]


def combined(
    public: PublicContext,
    *,
    plus: Sequence[Ciphertext],
    minus: Sequence[Ciphertext] = (),
    second: Polynomial | None = None,
) -> bytes:
    """Ciphertexts added and subtracted, as anybody can without a key; `second` replaces the second polynomial."""
    total = homomorphic._load(plus[0], public.context)
    for one in plus[1:]:
        total.add_(homomorphic._load(one, public.context))
    for one in minus:
        total.sub_(homomorphic._load(one, public.context))
    data: bytes = total.serialize()[_WRAPPER_BYTES:]
    if second is not None:
        data = data[:-_POLYNOMIAL_BYTES] + second.astype("<u8").tobytes()
    return data


def shifted_by_the_key(ciphertext: bytes, *, factor: int) -> bytes:
    """The same public-key ciphertext, but of its plaintext plus `factor` times the secret key's polynomial.

    Decryption is c0 + c1 s: adding DELTA * factor to c1's constant coefficient adds DELTA * factor * s.
    """
    second: Polynomial = np.frombuffer(ciphertext[-_POLYNOMIAL_BYTES:], dtype="<u8").copy()
    second[0] = (int(second[0]) + DELTA * factor) % CIPHERTEXT_MODULUS
    return ciphertext[:-_POLYNOMIAL_BYTES] + second.tobytes()
