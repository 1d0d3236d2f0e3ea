from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privacy.ciphertext_frame import (
    UPDATE,
    CiphertextFrame,
    CiphertextLengthError,
    CiphertextMalformedError,
)
from privacy.homomorphic import (
    KeyMismatchError,
    PublicContext,
    StudyKey,
    SumRefusedError,
    add,
    encrypt,
    open_sum,
)
from privacy.packing import Packing, SumOutOfRangeError

PACKING = Packing(lane_bits=22, maximum_sites=50)
KEY = StudyKey.generate()
PUBLIC = PublicContext.from_bytes(KEY.public_context())
HEADER_BYTES = 56


def _update(*values: int) -> bytes:
    return encrypt(np.array(values, dtype=np.int32), PUBLIC, packing=PACKING)


UPDATE_BYTES = _update(1, -2, 3)


@given(st.integers(0, len(UPDATE_BYTES) - 1))
def test_a_truncated_update_is_refused(length: int) -> None:
    with pytest.raises(CiphertextLengthError) as refusal:
        add([UPDATE_BYTES[:length], _update(1, 2, 3)], PUBLIC)
    assert refusal.value.code == "privacy.ciphertext-length"


@given(st.binary(min_size=1, max_size=100))
def test_bytes_behind_an_update_are_refused(more: bytes) -> None:
    with pytest.raises(CiphertextLengthError):
        add([UPDATE_BYTES + more, _update(1, 2, 3)], PUBLIC)


@given(st.binary(max_size=300))
def test_random_bytes_are_refused(data: bytes) -> None:
    with pytest.raises((CiphertextLengthError, CiphertextMalformedError)):
        add([data, UPDATE_BYTES], PUBLIC)


def test_an_empty_or_short_ciphertext_is_refused() -> None:
    for ciphertext in (b"", b"\0" * 100, UPDATE_BYTES[HEADER_BYTES + 4 : -1]):
        data = UPDATE_BYTES[:HEADER_BYTES] + len(ciphertext).to_bytes(4, "little") + ciphertext
        with pytest.raises(CiphertextLengthError):
            add([data, _update(1, 2, 3)], PUBLIC)


@settings(max_examples=200)
@given(st.integers(0, HEADER_BYTES + 4 + 60), st.integers(1, 255))
def test_no_changed_byte_of_the_headers_goes_unnoticed(place: int, change: int) -> None:
    changed = bytearray(UPDATE_BYTES)
    changed[place] ^= change
    try:
        combined = add([bytes(changed), _update(1, 2, 3)], PUBLIC)
    except (CiphertextLengthError, CiphertextMalformedError, KeyMismatchError, SumRefusedError):
        return
    # Beyond the headers a changed byte is another ciphertext, which a signature has to notice; it opens to
    # nothing that passes.
    assert place >= HEADER_BYTES + 4 + 16
    with pytest.raises(SumOutOfRangeError):
        open_sum(combined, KEY, sites=2)


@pytest.mark.parametrize(
    ("offset", "field", "error"),
    [
        (0, b"XRBF", CiphertextMalformedError),
        (4, b"\2", CiphertextMalformedError),  # version
        (5, b"\0", CiphertextMalformedError),  # kind
        (5, b"\3", CiphertextMalformedError),
        (6, b"\x07", CiphertextMalformedError),  # lane_bits
        (7, b"\x33", CiphertextMalformedError),  # maximum_sites
        (8, b"\0\0", CiphertextMalformedError),  # sites
        (8, b"\2\0", CiphertextMalformedError),  # two sites in an update
        (5, b"\2\x16\x02\x03\0", CiphertextMalformedError),  # a sum of three sites with room for two
        (5, b"\2\x16\x02\0\0", CiphertextMalformedError),  # a sum of none
        (10, b"\1\0", CiphertextMalformedError),  # zero
        (12, bytes(8), CiphertextLengthError),  # lane_count
        (12, (2**63).to_bytes(8, "little"), CiphertextLengthError),
        (12, (8193).to_bytes(8, "little"), CiphertextLengthError),
        (20, b"\2\0\0\0", CiphertextLengthError),  # ciphertexts
        (20, bytes(4), CiphertextLengthError),
        (56, (100).to_bytes(4, "little"), CiphertextLengthError),  # length
        (56, (2**31).to_bytes(4, "little"), CiphertextLengthError),
        (60, b"\x5e\xa2", CiphertextMalformedError),  # SEAL's magic
        (62, b"\x18", CiphertextMalformedError),  # header size
        (65, b"\0", CiphertextMalformedError),  # compression
        (66, b"\1", CiphertextMalformedError),  # zero
        (68, b"\x7a", CiphertextLengthError),  # length again
    ],
)
def test_each_field_of_the_frame_is_checked(offset: int, field: bytes, error: type[Exception]) -> None:
    changed = UPDATE_BYTES[:offset] + field + UPDATE_BYTES[offset + len(field) :]
    with pytest.raises(error):
        CiphertextFrame.from_bytes(changed)


@pytest.mark.parametrize("length", [0, 55, 56, 59, 60, 75, 76, 61_000, len(UPDATE_BYTES) - 1])
def test_a_frame_cut_at_each_boundary_is_refused(length: int) -> None:
    with pytest.raises(CiphertextLengthError):
        CiphertextFrame.from_bytes(UPDATE_BYTES[:length])


def test_a_frame_reads_back_as_it_was_written() -> None:
    frame = CiphertextFrame.from_bytes(UPDATE_BYTES)
    assert frame.to_bytes() == UPDATE_BYTES
    assert (frame.kind, frame.sites, frame.lane_count, frame.key_id) == (UPDATE, 1, 3, KEY.key_id)
    assert UPDATE_BYTES[:4] == b"WRBF"


def test_an_update_of_nothing_is_refused() -> None:
    with pytest.raises(CiphertextLengthError):
        CiphertextFrame.from_bytes(UPDATE_BYTES[:12] + bytes(12) + UPDATE_BYTES[24:HEADER_BYTES])


def test_tenseals_words_do_not_reach_the_public_message() -> None:
    changed = bytearray(UPDATE_BYTES)
    changed[HEADER_BYTES + 4 + 40] ^= 0xFF
    with pytest.raises(CiphertextMalformedError) as refusal:
        add([bytes(changed), _update(1, 2, 3)], PUBLIC)
    assert refusal.value.diagnostics() and refusal.value.diagnostics() not in str(refusal.value)
