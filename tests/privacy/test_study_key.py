from __future__ import annotations

import pytest
import tenseal
from hypothesis import given
from hypothesis import strategies as st

from privacy.packing import PLAIN_MODULUS
from privacy.study_key import (
    ContextHoldsSecretError,
    ContextInvalidError,
    PublicContext,
    SecretCopyError,
    StudyKey,
)

KEY = StudyKey.generate()


def _serialised(
    context: tenseal.Context, *, secret: bool = False, relin: bool = False, galois: bool = False
) -> bytes:
    data: bytes = context.serialize(
        save_public_key=True, save_secret_key=secret, save_galois_keys=galois, save_relin_keys=relin
    )
    return data


def test_the_public_context_is_the_same_at_every_holder() -> None:
    twin = StudyKey.from_bytes(KEY.to_bytes())
    assert twin.public_context() == KEY.public_context()
    assert twin.key_id == KEY.key_id == PublicContext.from_bytes(KEY.public_context()).key_id
    assert StudyKey.generate().key_id != KEY.key_id


def test_a_context_that_holds_a_secret_is_refused_as_public() -> None:
    with pytest.raises(ContextHoldsSecretError) as refusal:
        PublicContext.from_bytes(KEY.to_bytes())
    assert refusal.value.code == "privacy.context-holds-secret"


def test_what_everybody_may_have_encrypts_and_cannot_decrypt() -> None:
    public = PublicContext.from_bytes(KEY.public_context())
    assert public.context.is_public() and not public.context.is_private()
    assert not public.context.has_secret_key() and not public.context.has_galois_keys()
    assert len(public.to_bytes()) < len(KEY.to_bytes())
    update = tenseal.bfv_vector(public.context, [1, 2, 3])
    with pytest.raises(ValueError, match="secret_key"):
        update.decrypt()


def test_a_public_context_is_no_study_key() -> None:
    with pytest.raises(ContextInvalidError):
        StudyKey.from_bytes(KEY.public_context())


@pytest.mark.parametrize(
    "context",
    [
        lambda: tenseal.context(tenseal.SCHEME_TYPE.BFV, 8192, PLAIN_MODULUS, [60, 49]),
        lambda: tenseal.context(tenseal.SCHEME_TYPE.BFV, 4096, 1032193, [60, 49]),
        lambda: tenseal.context(tenseal.SCHEME_TYPE.BFV, 4096, PLAIN_MODULUS, [54, 55]),
        lambda: tenseal.context(tenseal.SCHEME_TYPE.CKKS, 8192, -1, [60, 40, 40, 60]),
    ],
)
def test_foreign_parameters_are_refused(context: object) -> None:
    assert callable(context)
    foreign = context()
    with pytest.raises(ContextInvalidError) as refusal:
        StudyKey.from_bytes(_serialised(foreign, secret=True))
    assert refusal.value.code == "privacy.context-invalid"
    with pytest.raises(ContextInvalidError):
        PublicContext.from_bytes(_serialised(foreign))


def test_a_context_with_more_than_a_public_key_is_refused() -> None:
    with pytest.raises(ContextInvalidError):
        PublicContext.from_bytes(_serialised(KEY.context, relin=True))
    rotating = StudyKey.generate()
    rotating.context.generate_galois_keys()
    with pytest.raises(ContextInvalidError):
        PublicContext.from_bytes(_serialised(rotating.context, galois=True))
    with pytest.raises(ContextInvalidError):
        PublicContext.from_bytes(KEY.public_context() + b"\x7a\x01\x00")  # An unknown protobuf field.
    bare: bytes = KEY.context.serialize(
        save_public_key=False, save_secret_key=False, save_galois_keys=False, save_relin_keys=False
    )
    with pytest.raises(ContextInvalidError):
        PublicContext.from_bytes(bare)


@given(st.binary(max_size=200))
def test_random_bytes_are_no_context(data: bytes) -> None:
    for read in (PublicContext.from_bytes, StudyKey.from_bytes):
        with pytest.raises(ContextInvalidError):
            read(data)


def test_a_context_for_symmetric_encryption_is_refused() -> None:
    symmetric = tenseal.context(
        tenseal.SCHEME_TYPE.BFV,
        4096,
        PLAIN_MODULUS,
        [60, 49],
        encryption_type=tenseal.ENCRYPTION_TYPE.SYMMETRIC,
    )
    for secret, read in ((False, PublicContext.from_bytes), (True, StudyKey.from_bytes)):
        with pytest.raises(ContextInvalidError):
            read(symmetric.serialize(False, secret, False, False))


def test_a_context_of_an_impossible_length_is_not_even_parsed() -> None:
    for data in (b"", bytes(400_001)):
        with pytest.raises(ContextInvalidError, match="impossible length"):
            PublicContext.from_bytes(data)


@given(st.integers(0, 120_000))
def test_a_truncated_context_is_refused(length: int) -> None:
    with pytest.raises(ContextInvalidError):
        PublicContext.from_bytes(KEY.public_context()[:length])


def test_a_key_shows_and_copies_nothing() -> None:
    assert KEY.key_id.hex()[:16] in repr(KEY) and len(repr(KEY)) < 40
    with pytest.raises(SecretCopyError) as refusal:
        KEY.__reduce__()
    assert refusal.value.code == "privacy.secret-copy"
