"""The BFV key of a study: the half that sites hold, and the half that everybody may have.

Lives here: the parameters, key generation, and the checks on received contexts. Encrypting, adding and
opening are `privacy.homomorphic`; handing the secret to another holder is `privacy.sealing`.

Parameters (Brakerski 2012; Fan and Vercauteren 2012; as in Microsoft SEAL through TenSEAL): degree 4096,
moduli of 60 and 49 bits, 109 bits together, the most that the Homomorphic Encryption Standard (2018, table 1)
allows at 128-bit security for that degree; the 45-bit prime of `privacy.packing` for plaintexts. The 49-bit
modulus is used up while encrypting; sums live modulo the 60-bit one and keep 5 bits of noise budget at 50
summands under the public key, 7 at 50 seeded ones, masked slots being as large as any. No relinearisation or
rotation keys exist: sums need none, and a context that brings some is refused.

What is public can encrypt and add. It is checked on receipt: whoever adds must not be able to decrypt.
"""

from __future__ import annotations

import hashlib
from typing import Final, NoReturn

import tenseal

from ledger.errors import CodedError, InputError
from privacy.ciphertext_frame import SLOTS
from privacy.packing import PLAIN_MODULUS

COEFFICIENT_BITS: Final = (60, 49)
# SEAL's BLAKE2b digest of (scheme, degree, moduli, plaintext modulus), at key level and at ciphertext level:
# two contexts with these have the parameters above, and TenSEAL offers no way to read the moduli themselves.
_KEY_PARAMETERS_ID: Final = [
    1326649567695039678, 1040051667678282172, 17410377787506990834, 5871135860682826839,
]  # fmt: skip
CIPHERTEXT_PARAMETERS_ID: Final = [
    13399366599089508400, 15693474814213843784, 14010668323573489162, 3525799421440924503,
]  # fmt: skip
MAXIMUM_CONTEXT_BYTES: Final = 400_000


class ContextInvalidError(InputError):
    """Bytes that are not a context of these parameters, or that carry more than they should."""

    code = "privacy.context-invalid"


class ContextHoldsSecretError(InputError):
    """A context that should be public holds the secret key."""

    code = "privacy.context-holds-secret"


class SecretCopyError(CodedError):
    code = "privacy.secret-copy"


class PublicContext:
    """What encrypts and adds, and cannot decrypt. `key_id` names it: SHA-256 of its bytes."""

    def __init__(self, context: tenseal.Context, data: bytes) -> None:
        """Not to be called with anything unchecked: use `from_bytes` or `StudyKey.public_context`."""
        self.context = context
        self._data = data
        self.key_id: bytes = hashlib.sha256(data).digest()

    def to_bytes(self) -> bytes:
        return self._data

    @classmethod
    def from_bytes(cls, data: bytes) -> PublicContext:
        """Read a context received from others. Refuses one that holds a secret or has other parameters."""
        context = _load(data)
        # 1. No secret. First, so that a leak is called a leak whatever else is wrong.
        if context.is_private():
            raise ContextHoldsSecretError(
                "the public context holds the study's secret key",
                remedy="Treat the key as lost: generate a new one and tell every site.",
            )
        # 2. Our parameters, and a public key.
        _check_parameters(context)
        # 3. Nothing else: what it serialises to is what was received.
        if _public_bytes(context) != data:
            raise ContextInvalidError("the public context carries more than a public key")
        return cls(context, data)


class StudyKey:
    """The secret that opens sums. Whoever holds it can read any update of the study that reaches him."""

    def __init__(self, context: tenseal.Context) -> None:
        """Not to be called directly: use `generate` or `from_bytes`."""
        self.context = context
        self._public = PublicContext.from_bytes(_public_bytes(context))

    @classmethod
    def generate(cls) -> StudyKey:
        """A fresh key; SEAL seeds its generator from the operating system."""
        context = tenseal.context(
            tenseal.SCHEME_TYPE.BFV,
            SLOTS,
            PLAIN_MODULUS,
            coeff_mod_bit_sizes=list(COEFFICIENT_BITS),
            n_threads=1,
        )
        _check_parameters(context)
        return cls(context)

    @property
    def key_id(self) -> bytes:
        return self._public.key_id

    def public_context(self) -> bytes:
        """What everybody may have: the same bytes at every holder."""
        return self._public.to_bytes()

    def to_bytes(self) -> bytes:
        """The secret in the clear, to be sealed to another holder at once and written nowhere."""
        data: bytes = self.context.serialize(
            save_public_key=True, save_secret_key=True, save_galois_keys=False, save_relin_keys=False
        )
        return data

    @classmethod
    def from_bytes(cls, data: bytes) -> StudyKey:
        """Read what `to_bytes` wrote. The caller compares `key_id` with the one on the ledger."""
        context = _load(data)
        if not context.is_private():
            raise ContextInvalidError("the context holds no secret key")
        _check_parameters(context)
        return cls(context)

    def __repr__(self) -> str:
        return f"StudyKey({self.key_id.hex()[:16]})"

    def __reduce__(self) -> NoReturn:
        raise SecretCopyError("a study key is handed on sealed, never pickled")


def _load(data: bytes) -> tenseal.Context:
    if not 0 < len(data) <= MAXIMUM_CONTEXT_BYTES:
        raise ContextInvalidError("the context has an impossible length")
    try:
        return tenseal.context_from(data, n_threads=1)
    except Exception as error:  # TenSEAL raises ValueError, RuntimeError and more, depending on the byte.
        raise ContextInvalidError(
            "not an encryption context", diagnostics=f"{type(error).__name__}: {error}"
        ) from None


def _check_parameters(context: tenseal.Context) -> None:
    try:
        seal = context.seal_context().data
        matches = seal.parameters_set() and seal.key_parms_id() == _KEY_PARAMETERS_ID
        # A context for symmetric encryption raises here.
        encrypts = context.has_public_key()
    except Exception as error:
        raise ContextInvalidError(
            "the context's parameters cannot be read", diagnostics=f"{type(error).__name__}: {error}"
        ) from None
    if not matches:
        raise ContextInvalidError("the context has other encryption parameters than this project's")
    if not encrypts:
        raise ContextInvalidError("the context holds no public key")


def _public_bytes(context: tenseal.Context) -> bytes:
    data: bytes = context.serialize(
        save_public_key=True, save_secret_key=False, save_galois_keys=False, save_relin_keys=False
    )
    return data
