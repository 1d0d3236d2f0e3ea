from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tenseal
from hypothesis import given, settings
from hypothesis import strategies as st

from privacy import homomorphic
from privacy.ciphertext_frame import (
    SUM,
    UPDATE,
    CiphertextFrame,
    CiphertextMalformedError,
)
from privacy.homomorphic import (
    HomomorphicSum,
    KeyMismatchError,
    PublicContext,
    StudyKey,
    SumRefusedError,
    add,
    encrypt,
    open_sum,
)
from privacy.packing import LaneOverflowError, Lanes, Packing, SumOutOfRangeError
from privacy.protected_sum import ProtectedSum
from privacy.study_key import CIPHERTEXT_PARAMETERS_ID

PACKING = Packing(lane_bits=22, maximum_sites=50)
LIMIT = PACKING.site_limit
KEY = StudyKey.generate()
PUBLIC = PublicContext.from_bytes(KEY.public_context())
HEADER_BYTES = 56


def _lanes(*values: int) -> Lanes:
    return np.array(values, dtype=np.int32)


def _update(*values: int) -> bytes:
    return encrypt(_lanes(*values), PUBLIC, packing=PACKING)


UPDATE_BYTES = _update(1, -2, 3)


@pytest.mark.parametrize("sites", [2, 3, 5, 20, 50])
def test_sums_of_the_extremes_are_exact(sites: int) -> None:
    generator = np.random.default_rng(sites)
    rows = generator.integers(-LIMIT, LIMIT + 1, (sites, 10_000), dtype=np.int32)
    rows[:, :4] = LIMIT
    rows[:, 4:8] = -LIMIT
    rows[:, 8:12] = [LIMIT, -LIMIT, -LIMIT, LIMIT]
    updates = [encrypt(row, PUBLIC, packing=PACKING) for row in rows]
    assert (open_sum(add(updates, PUBLIC), KEY, sites=sites) == rows.sum(axis=0)).all()


@settings(max_examples=15)
@given(
    st.sampled_from([8, 11, 14, 22, 32]),
    st.integers(1, 9000),
    st.integers(2, 4),
    st.integers(0, 2**32 - 1),
)
def test_every_packing_and_length_is_exact(lane_bits: int, count: int, sites: int, seed: int) -> None:
    packing = Packing(lane_bits=lane_bits, maximum_sites=5)
    limit = packing.site_limit
    rows = np.random.default_rng(seed).integers(-limit, limit + 1, (sites, count), dtype=np.int32)
    updates = [encrypt(row, PUBLIC, packing=packing) for row in rows]
    assert (open_sum(add(updates, PUBLIC), KEY, sites=sites) == rows.sum(axis=0)).all()


def test_an_update_is_small_and_says_nothing() -> None:
    update = encrypt(np.zeros(8192, dtype=np.int32), PUBLIC, packing=PACKING)
    assert len(update) == HEADER_BYTES + 4 + 65_659
    # The same lanes never look the same twice: encryption is randomised.
    assert update != encrypt(np.zeros(8192, dtype=np.int32), PUBLIC, packing=PACKING)


def test_adding_is_deterministic_here_and_in_another_process(tmp_path: Path) -> None:
    updates = [_update(1, 2), _update(3, 4), _update(5, 6)]
    combined = add(updates, PUBLIC)
    assert combined == add(updates, PublicContext.from_bytes(KEY.public_context()))
    (tmp_path / "context").write_bytes(KEY.public_context())
    for index, update in enumerate(updates):
        (tmp_path / str(index)).write_bytes(update)
    program = (
        "import sys, hashlib; from pathlib import Path; from privacy.homomorphic import PublicContext, add;"
        "d = Path(sys.argv[1]); p = PublicContext.from_bytes((d / 'context').read_bytes());"
        "print(hashlib.sha256(add([(d / str(i)).read_bytes() for i in range(3)], p)).hexdigest())"
    )
    there = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert there.stdout.strip() == hashlib.sha256(combined).hexdigest()


def test_a_lane_that_sites_could_overflow_is_refused_before_encryption() -> None:
    with pytest.raises(LaneOverflowError):
        _update(0, LIMIT + 1)
    with pytest.raises(SumRefusedError):
        _update()


def test_a_single_update_is_never_opened() -> None:
    with pytest.raises(SumRefusedError, match="never one site's update"):
        open_sum(UPDATE_BYTES, KEY, sites=1)
    with pytest.raises(SumRefusedError):
        open_sum(add([UPDATE_BYTES], PUBLIC), KEY, sites=1)


def test_a_sum_of_another_number_of_sites_is_refused() -> None:
    combined = add([_update(1), _update(2), _update(3)], PUBLIC)
    for sites in (1, 2, 4, 0, 51):
        with pytest.raises(SumRefusedError):
            open_sum(combined, KEY, sites=sites)


def test_updates_that_do_not_belong_together_are_refused() -> None:
    other_packing = Packing(lane_bits=22, maximum_sites=20)
    combined = add([_update(1), _update(2)], PUBLIC)
    for updates in (
        [],
        [_update(1), _update(1, 2)],
        [_update(1), encrypt(_lanes(1), PUBLIC, packing=other_packing)],
        [_update(1), combined],
        [UPDATE_BYTES, _update(1, 2, 3), UPDATE_BYTES],
    ):
        with pytest.raises(SumRefusedError) as refusal:
            add(updates, PUBLIC)
        assert refusal.value.code == "privacy.sum-refused"


def test_more_updates_than_the_lanes_have_room_for_are_refused() -> None:
    packing = Packing(lane_bits=22, maximum_sites=2)
    updates = [encrypt(_lanes(value), PUBLIC, packing=packing) for value in (1, 2, 3)]
    assert open_sum(add(updates[:2], PUBLIC), KEY, sites=2).tolist() == [3]
    with pytest.raises(SumRefusedError):
        add(updates, PUBLIC)


def test_another_studys_key_is_refused_and_its_sum_never_opens() -> None:
    other = StudyKey.generate()
    other_public = PublicContext.from_bytes(other.public_context())
    foreign = encrypt(_lanes(1), other_public, packing=PACKING)
    with pytest.raises(KeyMismatchError) as refusal:
        add([_update(1), foreign], PUBLIC)
    assert refusal.value.code == "privacy.key-mismatch"
    with pytest.raises(KeyMismatchError):
        open_sum(
            add([foreign, encrypt(_lanes(2), other_public, packing=PACKING)], other_public), KEY, sites=2
        )
    # Relabelled as ours, it decrypts to garbage, and that is noticed.
    offset = 24
    relabelled = foreign[:offset] + PUBLIC.key_id + foreign[offset + 32 :]
    with pytest.raises(SumOutOfRangeError):
        open_sum(add([_update(1), relabelled], PUBLIC), KEY, sites=2)


def test_a_sum_with_too_little_noise_budget_is_refused() -> None:
    # 2^k doublings of a sum use up the budget; each step is a valid-looking ciphertext.
    packing = Packing(lane_bits=22, maximum_sites=2)
    frame = CiphertextFrame.from_bytes(
        add([encrypt(_lanes(0), PUBLIC, packing=packing) for _ in "ab"], PUBLIC)
    )
    for _ in range(14):
        parts = [
            CiphertextFrame(
                kind=UPDATE, packing=packing, sites=1, lane_count=1, key_id=KEY.key_id, ciphertexts=(part,)
            ).to_bytes()
            for part in (
                frame.ciphertexts[0],
                CiphertextFrame.from_bytes(encrypt(_lanes(0), PUBLIC, packing=packing)).ciphertexts[0],
            )
        ]
        frame = CiphertextFrame.from_bytes(_doubled(parts[0]))
    with pytest.raises(SumOutOfRangeError, match="too much noise"):
        open_sum(frame.to_bytes(), KEY, sites=2)


def _doubled(update: bytes) -> bytes:
    """Twice the same update, which `add` refuses, by way of a flipped reserved field it does not carry."""
    frame = CiphertextFrame.from_bytes(update)
    wrapped = b"\x0a\x02\x80\x20\x12\xfb\x80\x04" + frame.ciphertexts[0]
    vector = tenseal.bfv_vector_from(PUBLIC.context, wrapped)
    doubled = (vector + vector).serialize()[8:]
    return CiphertextFrame(
        kind=SUM,
        packing=frame.packing,
        sites=2,
        lane_count=1,
        key_id=frame.key_id,
        ciphertexts=(doubled,),
    ).to_bytes()


def test_no_lanes_hide_behind_those_announced() -> None:
    hidden = encrypt(_lanes(0, 0, 7, 0), PUBLIC, packing=PACKING)
    hidden = hidden[:12] + (1).to_bytes(8, "little") + hidden[20:]
    with pytest.raises(SumOutOfRangeError):
        open_sum(add([_update(1), hidden], PUBLIC), KEY, sites=2)


def test_an_agreed_packing_that_is_not_the_plans_is_refused() -> None:
    agreed = Packing(lane_bits=22, maximum_sites=20)
    updates = [encrypt(_lanes(value), PUBLIC, packing=agreed) for value in (1, 2)]
    with pytest.raises(SumRefusedError):
        add(updates, PUBLIC, packing=PACKING)
    with pytest.raises(SumRefusedError):
        open_sum(add(updates, PUBLIC), KEY, sites=2, packing=PACKING)


def test_a_ciphertext_that_hides_nothing_is_refused() -> None:
    """A transparent ciphertext (second polynomial zero) shows its plaintext to everybody."""
    ciphertext = UPDATE_BYTES[HEADER_BYTES + 4 :]
    vector = tenseal.bfv_vector_from(PUBLIC.context, b"\x0a\x02\x80\x20\x12\xfb\x80\x04" + ciphertext)
    inner = vector.ciphertext()[0]
    assert not inner.is_transparent()
    with pytest.raises(CiphertextMalformedError):
        homomorphic._check_shape([_Shape(transparent=True)])
    with pytest.raises(CiphertextMalformedError):
        homomorphic._check_shape([_Shape(ntt=True)])
    with pytest.raises(CiphertextMalformedError):
        homomorphic._check_shape([_Shape(size=3)])
    with pytest.raises(CiphertextMalformedError):
        homomorphic._check_shape([_Shape(parameters=[1, 2, 3, 4])])
    for count in (0, 2):
        with pytest.raises(CiphertextMalformedError):
            homomorphic._check_shape([_Shape()] * count)
    homomorphic._check_shape([_Shape()])
    homomorphic._check_shape(vector.ciphertext())


class _Shape:
    """What SEAL says of a ciphertext."""

    def __init__(
        self,
        *,
        size: int = 2,
        ntt: bool = False,
        transparent: bool = False,
        parameters: list[int] = CIPHERTEXT_PARAMETERS_ID,
    ) -> None:
        self._size, self._ntt, self._transparent, self._parameters = size, ntt, transparent, parameters

    def size(self) -> int:
        return self._size

    def is_ntt_form(self) -> bool:
        return self._ntt

    def is_transparent(self) -> bool:
        return self._transparent

    def parms_id(self) -> list[int]:
        return self._parameters


def test_a_change_of_tenseals_wrapping_is_noticed() -> None:
    with pytest.raises(CiphertextMalformedError):
        homomorphic._unwrap(b"\x0a\x02\x80\x10\x12\xfb\x80\x04" + bytes(65_659))


def test_the_parties_of_a_study() -> None:
    coordinator: ProtectedSum = HomomorphicSum(PUBLIC, PACKING)
    site: ProtectedSum = HomomorphicSum(PUBLIC, PACKING, key=KEY)
    combined = coordinator.combine([site.protect(_lanes(1, -5)), site.protect(_lanes(2, -6))])
    assert site.open(combined, sites=2).tolist() == [3, -11]
    assert site.scheme == "homomorphic"
    with pytest.raises(KeyMismatchError):
        coordinator.open(combined, sites=2)
    with pytest.raises(KeyMismatchError):
        HomomorphicSum(PUBLIC, PACKING, key=StudyKey.generate())
    foreign = HomomorphicSum(PUBLIC, Packing(lane_bits=22, maximum_sites=3), key=KEY)
    with pytest.raises(SumRefusedError):
        foreign.combine([site.protect(_lanes(1)), site.protect(_lanes(2))])
    with pytest.raises(SumRefusedError):
        foreign.open(combined, sites=2)
