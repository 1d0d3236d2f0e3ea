from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privacy.ciphertext_frame import (
    HEADER_BYTES,
    LABEL_BYTES,
    PUBLIC_KEY,
    SEEDED,
    CiphertextFrame,
    CiphertextLengthError,
    CiphertextMalformedError,
    Form,
)
from privacy.homomorphic import encrypt
from privacy.packing import Packing
from tests.privacy.homomorphic_scheme import public_of, study_key

PACKING = Packing(lane_bits=22, maximum_sites=50)
KEY = study_key()
PUBLIC = public_of(KEY)
LABEL = bytes(range(LABEL_BYTES))


def _frame(form: Form, *, lane_count: int = 8200) -> CiphertextFrame:
    slots = np.arange(PACKING.slots_for(lane_count))
    return CiphertextFrame(
        form=form,
        packing=PACKING,
        lane_count=lane_count,
        key_id=PUBLIC.key_id,
        label=LABEL,
        ciphertexts=encrypt(slots, PUBLIC, key=KEY if form == SEEDED else None),
    )


FRAMES = {form: _frame(form) for form in (PUBLIC_KEY, SEEDED)}
DATA = {form: frame.to_bytes() for form, frame in FRAMES.items()}
both = pytest.mark.parametrize("form", [PUBLIC_KEY, SEEDED])
FIRST = HEADER_BYTES + 4
"""Where the first ciphertext begins."""


@both
def test_a_frame_reads_back_as_it_was_written(form: Form) -> None:
    frame = CiphertextFrame.from_bytes(DATA[form])
    assert frame == FRAMES[form]
    assert frame.to_bytes() == DATA[form]
    assert DATA[form][:6] == b"WRBF\2" + bytes([form])
    assert (frame.lane_count, frame.key_id, frame.label) == (8200, KEY.key_id, LABEL)


def test_the_layout_is_the_one_drawn() -> None:
    assert HEADER_BYTES == 84
    assert len(DATA[PUBLIC_KEY]) == 84 + 2 * (4 + 65_659)
    assert len(DATA[SEEDED]) == 84 + 2 * (4 + 32_972)
    assert DATA[SEEDED][20:52] == KEY.key_id and DATA[SEEDED][52:84] == LABEL


@both
@settings(max_examples=60)
@given(data=st.data())
def test_a_truncated_update_is_refused(form: Form, data: st.DataObject) -> None:
    length = data.draw(st.integers(0, len(DATA[form]) - 1))
    with pytest.raises(CiphertextLengthError) as refusal:
        CiphertextFrame.from_bytes(DATA[form][:length])
    assert refusal.value.code == "privacy.ciphertext-length"


@both
@given(more=st.binary(min_size=1, max_size=100))
def test_bytes_behind_an_update_are_refused(form: Form, more: bytes) -> None:
    with pytest.raises(CiphertextLengthError):
        CiphertextFrame.from_bytes(DATA[form] + more)


@given(st.binary(max_size=300))
def test_random_bytes_are_refused(data: bytes) -> None:
    for update in (data, b"WRBF\2\1" + data, b"WRBF\2\2" + data):
        with pytest.raises((CiphertextLengthError, CiphertextMalformedError)):
            CiphertextFrame.from_bytes(update)


@both
def test_an_empty_short_or_long_ciphertext_is_refused(form: Form) -> None:
    one = FRAMES[form].ciphertexts[0]
    for ciphertext in (b"", b"\0" * 100, one[:-1], bytes(one) + b"\0", bytes(one) * 2):
        data = replace(FRAMES[form], ciphertexts=(ciphertext, one)).to_bytes()
        with pytest.raises(CiphertextLengthError):
            CiphertextFrame.from_bytes(data)


def test_a_form_holds_no_ciphertext_of_the_other() -> None:
    for form, other in ((PUBLIC_KEY, SEEDED), (SEEDED, PUBLIC_KEY)):
        mixed = (FRAMES[form].ciphertexts[0], FRAMES[other].ciphertexts[1])
        with pytest.raises(CiphertextLengthError):
            CiphertextFrame.from_bytes(replace(FRAMES[form], ciphertexts=mixed).to_bytes())
        with pytest.raises(CiphertextLengthError):
            CiphertextFrame.from_bytes(DATA[form][:5] + bytes([other]) + DATA[form][6:])


def test_a_whole_ciphertext_compressed_to_a_seeded_ones_length_is_told_apart() -> None:
    """A polynomial of zeros compresses to nothing, and what is left is as long as a seeded ciphertext: but
    Zstandard's header says how long it was before."""
    one = bytearray(FRAMES[SEEDED].ciphertexts[0])
    one[21:23] = (65_633 - 256).to_bytes(2, "little")
    frame = replace(FRAMES[SEEDED], ciphertexts=(bytes(one), FRAMES[SEEDED].ciphertexts[1]))
    with pytest.raises(CiphertextMalformedError, match="form"):
        CiphertextFrame.from_bytes(frame.to_bytes())


@pytest.mark.parametrize(
    ("offset", "field", "error"),
    [
        (0, b"XRBF", CiphertextMalformedError),
        (4, b"\1", CiphertextMalformedError),  # version
        (4, b"\3", CiphertextMalformedError),
        (5, b"\0", CiphertextMalformedError),  # form
        (5, b"\3", CiphertextMalformedError),
        (6, b"\x07", CiphertextMalformedError),  # lane_bits
        (7, b"\x33", CiphertextMalformedError),  # maximum_sites
        (8, bytes(8), CiphertextLengthError),  # lane_count
        (8, (2**63).to_bytes(8, "little"), CiphertextLengthError),
        (8, (8192).to_bytes(8, "little"), CiphertextLengthError),
        (8, (16_385).to_bytes(8, "little"), CiphertextLengthError),
        (16, b"\1\0\0\0", CiphertextLengthError),  # ciphertexts
        (16, b"\3\0\0\0", CiphertextLengthError),
        (16, bytes(4), CiphertextLengthError),
        (84, (100).to_bytes(4, "little"), CiphertextLengthError),  # length
        (84, (2**31).to_bytes(4, "little"), CiphertextLengthError),
        (FIRST, b"\x5e\xa2", CiphertextMalformedError),  # SEAL's magic
        (FIRST + 2, b"\x18", CiphertextMalformedError),  # header size
        (FIRST + 5, b"\0", CiphertextMalformedError),  # compression
        (FIRST + 6, b"\1", CiphertextMalformedError),  # zero
        (FIRST + 8, b"\x7a", CiphertextLengthError),  # length again
        (FIRST + 16, b"\x29", CiphertextMalformedError),  # Zstandard's magic
        (FIRST + 20, b"\x40", CiphertextMalformedError),  # segment
        (FIRST + 21, b"\x62", CiphertextMalformedError),  # bytes before compression
    ],
)
@both
def test_each_field_of_the_frame_is_checked(
    form: Form, offset: int, field: bytes, error: type[Exception]
) -> None:
    changed = DATA[form][:offset] + field + DATA[form][offset + len(field) :]
    with pytest.raises(error):
        CiphertextFrame.from_bytes(changed)


@both
@pytest.mark.parametrize("length", [0, 83, 84, 87, 88, 103, 104, 111, 30_000])
def test_a_frame_cut_at_each_boundary_is_refused(form: Form, length: int) -> None:
    with pytest.raises(CiphertextLengthError):
        CiphertextFrame.from_bytes(DATA[form][:length])
