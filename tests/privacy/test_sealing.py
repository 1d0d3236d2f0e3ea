from __future__ import annotations

import pickle
import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite
from hypothesis import given
from hypothesis import strategies as st

from privacy.sealing import (
    SealedInvalidError,
    SealingKey,
    SealingKeyCopyError,
    SealingKeyInvalidError,
    seal,
)

KEY = SealingKey.generate()
SEALED = seal(KEY.public_bytes(), b"the study's secret", context=b"study a")


@given(st.binary(max_size=1000), st.binary(max_size=100))
def test_what_is_sealed_opens(plaintext: bytes, context: bytes) -> None:
    sealed = seal(KEY.public_bytes(), plaintext, context=context)
    assert len(sealed) == len(plaintext) + 53
    assert KEY.open(sealed, context=context) == plaintext


def test_the_format_is_rfc_9180() -> None:
    private = X25519PrivateKey.generate()
    sealed = seal(private.public_key().public_bytes_raw(), b"secret", context=b"c")
    suite = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)
    assert sealed[:5] == b"WRSL\x01"
    assert suite.decrypt(sealed[5:], private, info=b"wardround sealing v1\0c") == b"secret"


@given(st.integers(0, len(SEALED) - 1), st.integers(1, 255))
def test_no_changed_byte_opens(place: int, change: int) -> None:
    changed = bytearray(SEALED)
    changed[place] ^= change
    with pytest.raises(SealedInvalidError) as refusal:
        KEY.open(bytes(changed), context=b"study a")
    assert refusal.value.code == "privacy.sealed-invalid"


@given(st.integers(0, len(SEALED) - 1))
def test_a_truncated_message_does_not_open(length: int) -> None:
    with pytest.raises(SealedInvalidError):
        KEY.open(SEALED[:length], context=b"study a")


def test_another_purpose_or_another_key_does_not_open() -> None:
    with pytest.raises(SealedInvalidError):
        KEY.open(SEALED, context=b"study b")
    with pytest.raises(SealedInvalidError):
        SealingKey.generate().open(SEALED, context=b"study a")


@pytest.mark.parametrize("public_key", [b"", b"\1" * 31, b"\1" * 33, bytes(32), b"\1" + bytes(31)])
def test_an_unusable_public_key_is_refused(public_key: bytes) -> None:
    """All zeros and one are points of low order, with which everybody would share the secret."""
    with pytest.raises(SealingKeyInvalidError) as refusal:
        seal(public_key, b"secret", context=b"")
    assert refusal.value.code == "privacy.sealing-key-invalid"


def test_a_key_is_kept_in_an_encrypted_file_of_its_owner(tmp_path: Path) -> None:
    path = tmp_path / "sealing.pem"
    KEY.save(path, b"password")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert b"ENCRYPTED" in path.read_bytes()
    assert SealingKey.load(path, b"password").open(SEALED, context=b"study a") == b"the study's secret"
    with pytest.raises(SealingKeyInvalidError):
        SealingKey.load(path, b"wrong")
    with pytest.raises(SealingKeyInvalidError):
        KEY.save(path, b"password")
    with pytest.raises(SealingKeyInvalidError):
        SealingKey.load(tmp_path / "missing.pem", b"password")


def test_keys_without_protection_or_of_another_kind_are_refused() -> None:
    with pytest.raises(SealingKeyInvalidError):
        KEY.to_encrypted_pem(b"")
    ed25519 = Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"password"),
    )
    with pytest.raises(SealingKeyInvalidError):
        SealingKey.from_encrypted_pem(ed25519, b"password")
    plain = X25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    with pytest.raises(SealingKeyInvalidError):
        SealingKey.from_encrypted_pem(plain, b"password")


def test_a_key_shows_and_copies_nothing() -> None:
    assert repr(KEY) == f"SealingKey({KEY.public_bytes().hex()[:16]})"
    with pytest.raises(SealingKeyCopyError):
        pickle.dumps(KEY)
