"""Pair keys: equal at both ends, different for everything else, and gone once they are past."""

from __future__ import annotations

import pickle
from dataclasses import replace

import pytest

from ledger import canonical
from privacy.masking.mask_secrets import AnswerKeys, KeptKeysError
from privacy.masking.pair_keys import (
    MAXIMUM_POSITION,
    KeyErasedError,
    MaskingKey,
    MaskingKeyCopyError,
    MaskingKeyInvalidError,
    PairChains,
    PairKeysMismatchError,
)
from privacy.protected_sum import RoleError
from privacy.sum_context import Participant, Roster, SumContext
from tests.privacy.masking.rosters import chains_of, later, roster_of, sites

# Points of small order: RFC 7748 section 6.1 asks to refuse what they give, which is zero for every private key.
LOW_ORDER = [
    bytes(32),
    (1).to_bytes(32, "little"),
    bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
    bytes.fromhex("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157"),
    (2**255 - 20).to_bytes(32, "little"),
    (2**255 - 19).to_bytes(32, "little"),
    (2**255 - 18).to_bytes(32, "little"),
]


def test_both_ends_of_a_pair_derive_the_same_and_no_two_pairs_do() -> None:
    told = sites(4)
    taken = {name: told.secrets(name).take() for name in told.names}
    seen = set()
    for first in told.names:
        for second in told.names:
            if first < second:
                assert taken[first][0][second] == taken[second][0][first]
                seen.add(taken[first][0][second])
    assert len(seen) == 6


def test_each_direction_wraps_under_a_key_of_its_own() -> None:
    told = sites(3)
    given = {name: told.secrets(name) for name in told.names}
    receive = {name: one.answering().receive for name, one in given.items()}
    taken = {name: one.take() for name, one in given.items()}
    keys = [key for name in told.names for key in taken[name][1].values()]
    assert len(set(keys)) == 9
    assert not set(keys) & {secret for name in told.names for secret in taken[name][0].values()}
    for author in told.names:
        for recipient in told.names:
            assert taken[author][1][recipient] == receive[recipient][author]


CHANGES: dict[str, dict[str, str | int]] = {
    "step": {"step": "evaluation"},
    "attempt": {"attempt": 1},
    "scheme": {"scheme": "homomorphic"},
    "model": {"model_digest": "b" * 64},
    "group": {"group": 1},
    "round": {"round": 2},
}


@pytest.mark.parametrize("what", CHANGES)
def test_whatever_of_the_context_differs_all_keys_differ(what: str) -> None:
    told = sites(3)
    other: SumContext = replace(told.context, **CHANGES[what])
    one, two = told.names[:2]
    before, after = told.secrets(one), told.secrets(one, context=other)
    keys = {
        *before.answering().receive.values(),
        *(secret for kind in before.take() for secret in kind.values()),
    }
    others = {
        *after.answering().receive.values(),
        *(secret for kind in after.take() for secret in kind.values()),
    }
    assert not keys & others
    assert two in before.answering().receive


def test_a_smaller_roster_has_other_keys() -> None:
    told = sites(4)
    smaller = replace(told.context, roster=Roster(told.context.roster.participants[:3]))
    one, two = told.names[:2]
    assert told.secrets(one).take()[0][two] != told.secrets(one, context=smaller).take()[0][two]


def test_the_past_is_erased() -> None:
    told = sites(3)
    name = told.names[0]
    chains = told.chains[name]
    chains.secrets(later(told.context))
    assert chains.position == 2
    with pytest.raises(KeyErasedError):
        chains.at(1)
    with pytest.raises(KeyErasedError):
        chains.secrets(told.context)


def test_a_stolen_disk_opens_nothing_old() -> None:
    """The file after a step holds no key from which an earlier step's keys are derived."""
    told = sites(3)
    name, peer = told.names[:2]
    before = told.chains[name].to_bytes()
    secret = told.secrets(name).take()[0][peer]
    told.secrets(name, context=later(told.context))
    stolen = told.chains[name].to_bytes()
    old, new = canonical.decode(before), canonical.decode(stolen)
    assert isinstance(old, dict) and isinstance(new, dict)
    assert isinstance(old["chains"], dict) and isinstance(new["chains"], dict)
    assert not set(old["chains"].values()) & set(new["chains"].values())
    assert secret.hex().encode() not in stolen
    with pytest.raises(KeyErasedError):
        PairChains.from_bytes(stolen).secrets(told.context)
    # A thief who winds the position back has still only later keys: others than the step's.
    wound = PairChains.from_bytes(canonical.encode({**new, "position": 0, "issued": []}))
    assert wound.secrets(told.context).take()[0][peer] != secret


def test_a_step_reached_in_one_stride_or_in_many_has_the_same_keys() -> None:
    told = sites(3)
    one, two = told.names[:2]
    for position in range(1, 7):
        told.chains[one].at(position)
    context = later(told.context, rounds=3)
    assert (
        told.secrets(one, context=context).take()[0][two] == told.secrets(two, context=context).take()[0][one]
    )


def test_keys_of_a_step_are_given_out_once_also_after_a_restart() -> None:
    told = sites(3)
    name = told.names[0]
    told.secrets(name)
    with pytest.raises(KeyErasedError):
        told.secrets(name)
    restarted = PairChains.from_bytes(told.chains[name].to_bytes())
    with pytest.raises(KeyErasedError):
        restarted.secrets(told.context)
    # A retry is another attempt.
    assert restarted.secrets(replace(told.context, attempt=1)).name == name


def test_mask_secrets_are_taken_once() -> None:
    told = sites(3)
    given = told.secrets(told.names[0])
    given.take()
    with pytest.raises(RoleError):
        given.take()


def test_chains_come_back_from_disk_as_they_were() -> None:
    told = sites(3)
    one, two = told.names[:2]
    told.chains[one].at(4)
    data = told.chains[one].to_bytes()
    back = PairChains.from_bytes(data)
    assert back.to_bytes() == data
    context = later(told.context, rounds=2)
    assert back.secrets(context).take()[0][two] == told.secrets(two, context=context).take()[0][one]


@pytest.mark.parametrize("low", LOW_ORDER, ids=lambda key: key.hex()[:8])
def test_a_key_with_which_every_secret_is_zero_is_refused_and_named(low: bytes) -> None:
    key = MaskingKey.generate()
    other = MaskingKey.generate()
    roster = Roster(
        (
            Participant(name="a", masking_key=key.public_bytes()),
            Participant(name="b", masking_key=low),
            Participant(name="c", masking_key=other.public_bytes()),
        )
    )
    with pytest.raises(MaskingKeyInvalidError, match="with b"):
        chains_of("a", key, roster)


def test_a_roster_with_another_key_than_announced_is_refused() -> None:
    keys = {name: MaskingKey.generate() for name in "abc"}
    with pytest.raises(PairKeysMismatchError):
        chains_of("a", MaskingKey.generate(), roster_of(keys))
    with pytest.raises(PairKeysMismatchError):
        chains_of("stranger", keys["a"], roster_of(keys))


def test_a_later_roster_with_a_forged_key_is_refused_and_named() -> None:
    told = sites(3)
    forged = roster_of({**told.keys, "site-02": MaskingKey.generate()})
    with pytest.raises(PairKeysMismatchError, match="site-02"):
        told.secrets("site-00", context=replace(told.context, roster=forged))
    newcomer = roster_of({**told.keys, "site-99": MaskingKey.generate()})
    with pytest.raises(PairKeysMismatchError, match="site-99"):
        told.secrets("site-00", context=replace(told.context, roster=newcomer))


def test_keys_of_another_plan_are_refused() -> None:
    told = sites(3)
    others: list[SumContext] = [
        replace(told.context, origin="other"),
        replace(told.context, study="other"),
        replace(told.context, plan_digest="8" * 64),
    ]
    for other in others:
        with pytest.raises(PairKeysMismatchError):
            told.secrets("site-00", context=other)


def test_a_step_beyond_every_plan_erases_nothing() -> None:
    told = sites(3)
    with pytest.raises(PairKeysMismatchError):
        told.secrets("site-00", context=replace(told.context, round=MAXIMUM_POSITION))
    assert told.chains["site-00"].position == 0


def test_a_masking_key_survives_the_disk_and_is_never_pickled() -> None:
    key = MaskingKey.generate()
    assert MaskingKey.from_bytes(key.to_bytes()).public_bytes() == key.public_bytes()
    with pytest.raises(MaskingKeyInvalidError):
        MaskingKey.from_bytes(b"short")
    told = sites(3)
    for secret in (key, told.chains["site-00"]):
        with pytest.raises(MaskingKeyCopyError):
            pickle.dumps(secret)


def test_no_secret_is_printed() -> None:
    told = sites(3)
    chains = told.chains["site-00"]
    given = told.secrets("site-00")
    answering = given.answering()
    hidden = [key.hex() for key in answering.receive.values()] + [answering.context.hex()]
    hidden += [repr(key) for key in answering.receive.values()]
    shown = repr(chains) + repr(given) + repr(answering) + repr(told.keys)
    assert not any(secret in shown for secret in hidden)


def test_kept_answer_keys_hold_no_pair_secret() -> None:
    told = sites(3)
    given = told.secrets("site-00")
    data = given.answering().to_bytes()
    assert AnswerKeys.from_bytes(data) == given.answering()
    pair_secrets, _ = given.take()
    assert not any(secret.hex().encode() in data for secret in pair_secrets.values())


def test_damaged_files_are_refused() -> None:
    told = sites(3)
    good = canonical.decode(told.chains["site-00"].to_bytes())
    kept = canonical.decode(told.secrets("site-00").answering().to_bytes())
    assert isinstance(good, dict) and isinstance(kept, dict)
    bad_chains: list[dict[str, canonical.JsonValue]] = [
        {**good, "position": -1},
        {**good, "position": 1.5},
        {**good, "position": True},
        {**good, "name": "stranger"},
        {**good, "name": 3},
        {**good, "chains": {}},
        {**good, "chains": []},
        {**good, "plan": "zz"},
        {**good, "plan": "AA" * 32},
        {**good, "issued": "none"},
        {**good, "issued": ["00"]},
        {**good, "more": 1},
        {**good, "wardround": "answer-keys/v1"},
        kept,
    ]
    for document in bad_chains:
        with pytest.raises(KeptKeysError):
            PairChains.from_bytes(canonical.encode(document))
    bad_keys: list[dict[str, canonical.JsonValue]] = [
        {**kept, "name": None},
        {**kept, "receive": {"site-00": 1}},
        {**kept, "context": "00"},
        good,
    ]
    for document in bad_keys:
        with pytest.raises(KeptKeysError):
            AnswerKeys.from_bytes(canonical.encode(document))
    for data in (b"", b"{", b"[]", b"\x80", told.chains["site-00"].to_bytes() + b" "):
        with pytest.raises(KeptKeysError):
            PairChains.from_bytes(data)
        with pytest.raises(KeptKeysError):
            AnswerKeys.from_bytes(data)
