"""The root that the ledger gets of a site's consents: it tells nobody anything, and binds the site all the same."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger import tree
from ledger.errors import InputError, VerificationError
from policies import consent_tree
from policies.consent import ConsentRecord
from policies.consent_tree import ConsentProof, check, consent_root, prove, record_bytes

SECRET = bytes(range(32))
RECORDS = tuple(
    ConsentRecord(
        patient_key=f"{number:064x}", policy_version="2026-1", purposes=("research",), granted_at_s=number
    )
    for number in range(40)
)
CHANGED = (RECORDS[0].withdrawn(99), *RECORDS[1:])


def root(records: tuple[ConsentRecord, ...] = RECORDS, *, cadence: int = 7, secret: bytes = SECRET) -> str:
    return consent_root(records, secret=secret, cadence=cadence)


def test_an_unchanged_and_a_changed_state_look_alike() -> None:
    """Somebody who reads every root cannot tell a night on which a patient withdrew from one without."""
    roots = [
        root(),
        root(cadence=8),
        root(CHANGED, cadence=9),
        root(CHANGED, cadence=10),
        root((), cadence=11),
    ]
    assert len(set(roots)) == 5
    assert all(len(each) == 64 and int(each, 16) >= 0 for each in roots)


def test_the_root_follows_from_the_state_alone() -> None:
    assert root() == root(RECORDS[::-1])
    assert root() != root(CHANGED) != root(RECORDS[1:])
    assert root() != root(secret=SECRET[::-1])


def test_a_proof_shows_neither_count_nor_place() -> None:
    one = prove(RECORDS[:1], RECORDS[0], secret=SECRET, cadence=7)
    many = prove(RECORDS, RECORDS[0], secret=SECRET, cadence=7)
    assert one.size == many.size == 1024 and len(one.path) == len(many.path) == 10
    places = {prove(RECORDS, RECORDS[3], secret=SECRET, cadence=cadence).index for cadence in range(6)}
    assert len(places) > 1, "padding is sorted in anew at every cadence"


def test_the_tree_grows_by_powers_of_two_only() -> None:
    many = tuple(
        ConsentRecord(patient_key=f"{n:064x}", policy_version="1", purposes=("a",), granted_at_s=1)
        for n in range(1025)
    )
    sizes = {count: prove(many[:count], many[0], secret=SECRET, cadence=0).size for count in (1, 1024, 1025)}
    assert sizes == {1: 1024, 1024: 1024, 1025: 2048}


def test_every_record_is_proved_to_its_patient() -> None:
    published = root()
    for each in RECORDS[::7]:
        proof = prove(RECORDS, each, secret=SECRET, cadence=7)
        check(ConsentProof.from_canonical(proof.canonical_bytes(), what="proof"), root=published, cadence=7)


def test_what_is_not_on_record_has_no_proof() -> None:
    with pytest.raises(InputError) as refused:
        prove(CHANGED, RECORDS[0], secret=SECRET, cadence=7)
    assert refused.value.code == "consent.not-listed"


def test_a_hospital_cannot_show_a_consent_that_it_published_as_withdrawn() -> None:
    """The attack: withdrawn on the ledger's date, shown to the patient's lawyer as in force."""
    published = root(CHANGED)
    honest = prove(CHANGED, CHANGED[0], secret=SECRET, cadence=7)
    earlier = prove(RECORDS, RECORDS[0], secret=SECRET, cadence=7)
    for forged in (earlier, honest.model_copy(update={"record": RECORDS[0]})):
        with pytest.raises(VerificationError) as refused:
            check(forged, root=published, cadence=7)
        assert refused.value.code == "consent.proof"


def test_a_proof_of_another_cadence_or_tree_is_refused() -> None:
    proof = prove(RECORDS, RECORDS[0], secret=SECRET, cadence=7)
    for forged, cadence in (
        (proof, 8),
        (proof.model_copy(update={"cadence": 8}), 7),
        (proof.model_copy(update={"size": 1025}), 7),
        (proof.model_copy(update={"path": proof.path[:-1]}), 7),
        (proof.model_copy(update={"index": proof.index ^ 1}), 7),
    ):
        with pytest.raises(VerificationError):
            check(forged, root=root(), cadence=cadence)


def test_a_root_over_an_unpadded_tree_proves_nothing() -> None:
    """A site whose tree grew with every consent would publish its number of patients in every proof."""
    honest = prove(RECORDS, RECORDS[0], secret=SECRET, cadence=7)
    key = consent_tree._key(SECRET, 7)
    leaves = tree.leaf_hashes(
        [*consent_tree._entries([record_bytes(one) for one in RECORDS], key), b"one more"]
    )

    def node(height: int, at: int) -> bytes:
        return tree.perfect_root(leaves[at << height : (at + 1) << height])

    path = tuple(sibling.hex() for sibling in tree.inclusion_proof(honest.index, 1025, node))
    published = tree.root_of(leaves).hex()
    with pytest.raises(VerificationError) as refused:
        check(honest.model_copy(update={"size": 1025, "path": path}), root=published, cadence=7)
    assert "padded" in str(refused.value)


def test_a_salt_opens_one_record_alone() -> None:
    """Whoever was shown one proof can try every other record under its salt, and finds none."""
    proof = prove(RECORDS, RECORDS[0], secret=SECRET, cadence=7)
    for other in RECORDS[1:5]:
        with pytest.raises(VerificationError):
            check(proof.model_copy(update={"record": other}), root=root(), cadence=7)
    salts = {prove(RECORDS, each, secret=SECRET, cadence=7).salt for each in RECORDS[:5]}
    assert len(salts) == 5


@given(
    st.lists(st.from_regex(r"\A[a-z][a-z0-9-]{0,20}\Z"), min_size=1, max_size=4, unique=True),
    st.from_regex(r"\A[A-Za-z0-9][A-Za-z0-9.-]{0,20}\Z"),
    st.none() | st.integers(0, 7_000_000_000),
)
def test_the_quick_encoding_is_the_canonical_one(purposes: list[str], version: str, end: int | None) -> None:
    record = ConsentRecord(
        patient_key="ab" * 32,
        policy_version=version,
        purposes=tuple(purposes),
        granted_at_s=5,
        expires_at_s=end,
        withdrawn_at_s=end,
    )
    assert record_bytes(record) == record.canonical_bytes()
