"""Handing a secret to one other party: HPKE (RFC 9180), base mode, X25519.

Lives here: the holder's long-term sealing key and the sealed message. Signatures and ledger keys live
elsewhere; base mode says nothing about the sender, so a sealed message travels inside a signed one.

    offset  size
         0     5  "WRSL" and the version, 1
         5    32  encapsulated X25519 key          \\ as RFC 9180's DHKEM(X25519, HKDF-SHA256),
        37   n+16 ciphertext and tag               / HKDF-SHA256, AES-256-GCM

`context` says what the secret is for (study, key id, recipient, ...). It enters the key schedule as `info`: a
message sealed for one purpose does not open for another.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final, NoReturn

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from ledger.errors import CodedError, InputError

_SUITE: Final = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)
_PREFIX: Final = b"WRSL\x01"
SEALING_BYTES: Final = 53
"""By which a sealed message is longer than the plain one."""
_INFO: Final = b"wardround sealing v1\x00"


class SealedInvalidError(InputError):
    """Changed, truncated, for somebody else or for another purpose: which of these is not to be known."""

    code = "privacy.sealed-invalid"


class SealingKeyInvalidError(InputError):
    code = "privacy.sealing-key-invalid"


class SealingKeyCopyError(CodedError):
    code = "privacy.secret-copy"


class SealingKey:
    """The private half; opens what was sealed to `public_bytes`."""

    def __init__(self, private: X25519PrivateKey) -> None:
        self._private = private

    @classmethod
    def generate(cls) -> SealingKey:
        return cls(X25519PrivateKey.generate())

    def public_bytes(self) -> bytes:
        """The 32 raw bytes to which others seal."""
        return self._private.public_key().public_bytes_raw()

    def open(self, sealed: bytes, *, context: bytes) -> bytes:
        """Open a message sealed to this key under this context; `SealedInvalidError` otherwise."""
        if not sealed.startswith(_PREFIX):
            raise SealedInvalidError("not a sealed message")
        try:
            return _SUITE.decrypt(sealed[len(_PREFIX) :], self._private, info=_INFO + context)
        except (InvalidTag, ValueError):
            raise SealedInvalidError(
                "the sealed message does not open",
                remedy="It was changed, or sealed to another key or purpose.",
            ) from None

    def to_encrypted_pem(self, password: bytes) -> bytes:
        """PKCS#8 PEM under `password` (scrypt or PBKDF2 and AES-256, as the library sees fit)."""
        if not password:
            raise SealingKeyInvalidError("a sealing key is never written without a password")
        return self._private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(password),
        )

    @classmethod
    def from_encrypted_pem(cls, pem: bytes, password: bytes) -> SealingKey:
        try:
            private = serialization.load_pem_private_key(pem, password=password)
        except (ValueError, TypeError):
            raise SealingKeyInvalidError("not a sealing key, or not under this password") from None
        if not isinstance(private, X25519PrivateKey):
            raise SealingKeyInvalidError("the key is not an X25519 key")
        return cls(private)

    def save(self, path: Path, password: bytes) -> None:
        """Write the encrypted PEM to a new file that only its owner reads; an existing file is refused."""
        pem = self.to_encrypted_pem(password)
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            raise SealingKeyInvalidError("a file is already there; a key is never overwritten") from None
        with os.fdopen(descriptor, "wb") as file:
            file.write(pem)
            file.flush()
            os.fsync(file.fileno())

    @classmethod
    def load(cls, path: Path, password: bytes) -> SealingKey:
        try:
            pem = path.read_bytes()
        except OSError as error:
            raise SealingKeyInvalidError(f"the key file cannot be read: {type(error).__name__}") from None
        return cls.from_encrypted_pem(pem, password)

    def __repr__(self) -> str:
        return f"SealingKey({self.public_bytes().hex()[:16]})"

    def __reduce__(self) -> NoReturn:
        raise SealingKeyCopyError("a sealing key is never pickled")


def seal(public_key: bytes, plaintext: bytes, *, context: bytes) -> bytes:
    """Seal to a raw X25519 public key (32 bytes). Adds 53 bytes; no two sealings are alike."""
    try:
        recipient = X25519PublicKey.from_public_bytes(public_key)
        return _PREFIX + _SUITE.encrypt(plaintext, recipient, info=_INFO + context)
    except ValueError:
        raise SealingKeyInvalidError("not a usable X25519 public key") from None
