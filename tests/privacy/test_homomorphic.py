from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import tenseal.sealapi as seal
from hypothesis import given, settings
from hypothesis import strategies as st

from privacy import homomorphic
from privacy.ciphertext_frame import SLOTS, CiphertextMalformedError
from privacy.homomorphic import Ciphertext, check, decrypt_sum, encrypt
from privacy.packing import PLAIN_MODULUS, Slots, SumOutOfRangeError
from privacy.study_key import CIPHERTEXT_PARAMETERS_ID, StudyKey
from tests.privacy.homomorphic_scheme import public_of, study_key
from tests.privacy.tampered_ciphertext import combined

KEY = study_key()
PUBLIC = public_of(KEY)
SEEDED_BYTES, PUBLIC_KEY_BYTES = 32_972, 65_659


def _random(count: int, seed: int) -> Slots:
    """Residues over all of Z_t, as masked slots are."""
    return np.random.default_rng(seed).integers(0, PLAIN_MODULUS, count)


def _either(slots: Slots, number: int) -> tuple[bytes, ...]:
    return encrypt(slots, PUBLIC, key=KEY if number % 2 else None)


def _budget(updates: Sequence[Sequence[Ciphertext]]) -> int:
    """Bits of noise budget left in the sum's first ciphertext."""
    total = homomorphic._load(updates[0][0], KEY.context)
    for update in updates[1:]:
        total.add_(homomorphic._load(update[0], KEY.context))
    decryptor = seal.Decryptor(KEY.context.data.seal_context(), KEY.context.data.secret_key())
    bits: int = decryptor.invariant_noise_budget(total.ciphertext()[0])
    return bits


@pytest.mark.parametrize("sites", [1, 2, 5, 20, 50])
def test_sums_of_both_forms_are_exact_modulo_t(sites: int) -> None:
    rows = [_random(300, seed) for seed in range(sites)]
    rows[0][:2], rows[-1][:2] = PLAIN_MODULUS - 1, (PLAIN_MODULUS - 1, 1)
    updates = [_either(row, number) for number, row in enumerate(rows)]
    opened = decrypt_sum(updates, KEY, slot_count=300)
    np.testing.assert_array_equal(opened, np.sum(rows, axis=0) % PLAIN_MODULUS)


@pytest.mark.parametrize("form", [None, KEY])
def test_fifty_full_slots_leave_noise_budget(form: StudyKey | None) -> None:
    """Masked slots are as large as slots get; a sum of 50 must still decrypt, whatever its noise came to."""
    update = encrypt(np.full(SLOTS, PLAIN_MODULUS - 1), PUBLIC, key=form)
    others = [encrypt(_random(SLOTS, seed), PUBLIC, key=form) for seed in range(49)]
    assert _budget([update, *others]) >= 3


@settings(max_examples=10, deadline=None)
@given(st.integers(1, 9000), st.integers(0, 2**32 - 1))
def test_every_number_of_slots_is_exact(count: int, seed: int) -> None:
    rows = [_random(count, seed + number) for number in range(3)]
    updates = [_either(row, number) for number, row in enumerate(rows)]
    assert {len(update) for update in updates} == {-(-count // SLOTS)}
    np.testing.assert_array_equal(
        decrypt_sum(updates, KEY, slot_count=count), np.sum(rows, axis=0) % PLAIN_MODULUS
    )


def test_a_seed_halves_a_ciphertext() -> None:
    slots = _random(SLOTS, 1)
    assert [len(one) for one in encrypt(slots, PUBLIC)] == [PUBLIC_KEY_BYTES]
    assert [len(one) for one in encrypt(slots, PUBLIC, key=KEY)] == [SEEDED_BYTES]


def test_equal_slots_never_look_alike_and_no_seed_comes_twice() -> None:
    """Under one seed the difference of two ciphertexts would show the difference of what is in them."""
    zeros = np.zeros(8 * SLOTS, dtype=np.int64)
    for form in (None, KEY):
        found = [*encrypt(zeros, PUBLIC, key=form), *encrypt(zeros, PUBLIC, key=form)]
        assert len({one[-32:] for one in found}) == len({one[200:232] for one in found}) == 16


def test_the_seed_stands_where_anybody_expands_it() -> None:
    """Receivers need no key to expand a seed, and none of them finds the slots thereby."""
    (update,) = encrypt(_random(SLOTS, 2), PUBLIC, key=KEY)
    check([update], PUBLIC)
    assert PUBLIC.context.is_public()
    with pytest.raises(ValueError, match="secret_key"):
        homomorphic._load(update, PUBLIC.context).decrypt()


def test_adding_gives_the_same_slots_in_another_process(tmp_path: Path) -> None:
    updates = [_either(_random(10, seed), seed) for seed in range(3)]
    (tmp_path / "key").write_bytes(KEY.to_bytes())
    for index, (ciphertext,) in enumerate(updates):
        (tmp_path / str(index)).write_bytes(ciphertext)
    program = (
        "import sys; from pathlib import Path; from privacy.homomorphic import decrypt_sum;"
        "from privacy.study_key import StudyKey; d = Path(sys.argv[1]);"
        "key = StudyKey.from_bytes((d / 'key').read_bytes());"
        "print(decrypt_sum([[(d / str(i)).read_bytes()] for i in range(3)], key, slot_count=10).tolist())"
    )
    there = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert there.stdout.strip() == str(decrypt_sum(updates, KEY, slot_count=10).tolist())


def test_what_is_written_on_the_way_is_readable_by_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    descriptors = len(list(Path("/proc/self/fd").iterdir()))
    encrypt(_random(10, 1), PUBLIC, key=KEY)
    assert len(list(Path("/proc/self/fd").iterdir())) == descriptors
    # Where files cannot be in memory.
    monkeypatch.delattr(os, "memfd_create")
    with homomorphic._ScratchFile() as scratch:
        path = Path(scratch.path)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert not path.exists()
    slots = _random(10, 1)
    np.testing.assert_array_equal(decrypt_sum([encrypt(slots, PUBLIC, key=KEY)], KEY, slot_count=10), slots)


def test_slots_hidden_behind_those_announced_are_refused() -> None:
    updates = [encrypt(_random(10, seed), PUBLIC) for seed in range(2)]
    with pytest.raises(SumOutOfRangeError):
        decrypt_sum(updates, KEY, slot_count=9)


def test_a_sum_with_too_little_noise_budget_is_refused() -> None:
    """Each doubling of a ciphertext is a valid-looking one, and costs a bit."""
    (doubled,) = encrypt(_random(10, 1), PUBLIC)
    for _ in range(14):
        doubled = combined(PUBLIC, plus=[doubled, doubled])
    check([doubled], PUBLIC)
    with pytest.raises(SumOutOfRangeError, match="too much noise"):
        decrypt_sum([[doubled]], KEY, slot_count=10)


def test_under_another_studys_key_a_sum_is_noise() -> None:
    other = StudyKey.generate()
    foreign = encrypt(_random(10, 1), public_of(other))
    with pytest.raises(SumOutOfRangeError):
        decrypt_sum([foreign, encrypt(_random(10, 2), PUBLIC)], KEY, slot_count=10)


@settings(max_examples=40, deadline=None)
@given(st.binary(max_size=300))
def test_random_bytes_are_no_ciphertext(data: bytes) -> None:
    for read in (data, memoryview(data)):
        with pytest.raises(CiphertextMalformedError):
            check([read], PUBLIC)


def test_tenseals_words_do_not_reach_the_public_message() -> None:
    (ciphertext,) = encrypt(_random(10, 1), PUBLIC)
    changed = bytearray(ciphertext)
    changed[40] ^= 0xFF
    with pytest.raises(CiphertextMalformedError) as refusal:
        check([bytes(changed)], PUBLIC)
    assert refusal.value.diagnostics() and refusal.value.diagnostics() not in str(refusal.value)


def test_a_ciphertext_that_hides_nothing_is_refused() -> None:
    """Transparent ciphertexts (second polynomial zero) show their plaintext to everybody; SEAL makes none itself."""
    update = encrypt(_random(10, 1), PUBLIC)
    with pytest.raises(CiphertextMalformedError):
        check([combined(PUBLIC, plus=update, second=np.zeros(SLOTS, dtype=np.uint64))], PUBLIC)
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
