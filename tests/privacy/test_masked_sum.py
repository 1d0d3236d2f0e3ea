"""Attacks on the masked sum, each told from the attacker's side, and the frame of an update."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest

from ledger import canonical
from privacy.masked_sum import MaskedSum, MaskedUpdateError, ring_for
from privacy.masking import shares_part
from privacy.masking.closed_set import ContradictionError
from privacy.masking.derivation import secret_commitment
from privacy.masking.masking import Masking
from privacy.masking.pair_keys import KeyErasedError, MaskingKey, PairChains
from privacy.masking.ring import Residues
from privacy.masking.shamir import Recovery, ShareInvalidError
from privacy.masking.shares_part import OtherContextError
from privacy.packing import Packing, PackingInvalidError, SumOutOfRangeError
from privacy.protected_sum import AnsweredError, Report, RoleError, SumRefusedError, SumUnopenedError
from privacy.sum_context import colluding_of, threshold_of
from tests.privacy.masking.attacked import (
    HEADER_BYTES,
    PACKING,
    SIZE,
    Federation,
    centred,
    looks_random,
    relabelled,
)
from tests.privacy.masking.rosters import chains_of, later, roster_of, sites


def test_a_coordinator_and_a_colluding_site_are_left_with_a_mask_that_they_have_no_key_for() -> None:
    """Four sites, one of them with the coordinator: they take off everything that they know."""
    federation = Federation(4)
    victim, honest, other, colluder = federation.names
    answers = {name: end.answer(federation.reports) for name, end in federation.ends.items()}
    # 1. The victim's self seed is opened rightfully, as it is in the sum; the colluder knows its own pair mask.
    seed = federation.seed(victim, federation.names, answers)
    left = federation.vector(victim)
    ring_for(PACKING).shift(left, plus=[], minus=[federation.stream_key("self", seed)])
    left = federation.without_pairs(left, victim, [colluder])
    # 2. What is left is not the lanes, and looks like nothing.
    assert (centred(left.copy()) != federation.lanes[victim]).mean() > 0.99
    assert looks_random(left)
    # 3. It is the lanes under the masks with the two honest sites, whose keys the attackers do not hold.
    assert not {federation.pair_secrets[victim][peer] for peer in (honest, other)} & {
        *federation.pair_secrets[colluder].values(),
        *federation.kept[colluder].receive.values(),
    }
    unmasked = federation.without_pairs(left, victim, [honest, other])
    np.testing.assert_array_equal(centred(unmasked), federation.lanes[victim])


def test_colluding_sites_hold_too_few_shares_of_any_secret() -> None:
    """That fewer shares than the threshold fit any secret is shown where they are split."""
    for count in range(3, 51):
        assert colluding_of(count) < threshold_of(count)
    federation = Federation(7)
    colluding = range(colluding_of(7))
    with pytest.raises(ShareInvalidError):
        Recovery(colluding, threshold=federation.context.roster.threshold)


def test_two_sets_answered_would_give_an_update_away_and_one_site_that_refuses_stops_it() -> None:
    """Four sites, three answers open: with and without the victim, the difference is its update."""
    federation = Federation(4)
    victim, *others = federation.names
    with_it, without_it = federation.closed(federation.names), federation.closed(others)
    coordinator = federation.coordinator()
    # 1. If sites forgot what they answered, it would come out exactly.
    first = {name: federation.again(name).answer(with_it) for name in others}
    second = {name: federation.again(name).answer(without_it) for name in others}
    difference = coordinator.open(with_it, first) - coordinator.open(without_it, second)
    np.testing.assert_array_equal(difference, federation.lanes[victim])
    # 2. They do not, and one that refuses is enough, though the two others answer whatever they are asked.
    honest, *forgetful = others
    federation.ends[honest].answer(with_it)
    with pytest.raises(AnsweredError):
        federation.ends[honest].answer(without_it)
    some = {name: second[name] for name in forgetful}
    with pytest.raises(SumUnopenedError) as raised:
        coordinator.open(without_it, some)
    assert raised.value.names == (honest,)


def test_different_sets_asked_of_different_sites_at_once_open_at_most_one_of_them() -> None:
    """Four sites, one colluding, which answers for both sets; however the honest ones are divided."""
    for count in range(3, 51):
        assert 2 * threshold_of(count) > count + colluding_of(count)
    federation = Federation(4)
    colluder = federation.names[3]
    honest = federation.names[:3]
    victim = honest[0]
    sets = [federation.closed(federation.names), federation.closed([*honest[1:], colluder])]
    for size in range(4):
        for told_first in combinations(honest, size):
            opened = 0
            for number, closed in enumerate(sets):
                asked = [name for name in honest if (name in told_first) == (number == 0) and name in closed]
                answers = {name: federation.again(name).answer(closed) for name in [*asked, colluder]}
                try:
                    federation.coordinator().open(closed, answers)
                    opened += 1
                except SumUnopenedError:
                    pass
            assert opened <= 1, (victim, told_first)


def test_a_site_that_was_handed_another_model_is_noticed_before_anything_is_unmasked() -> None:
    told = sites(4)
    federation = Federation(4, told=told)
    other_model = replace(told.context, model_digest="b" * 64)
    apart = Federation(4, told=told, context=other_model)
    victim = federation.names[1]
    mixed = {**federation.reports, victim: apart.reports[victim]}
    # 1. As it is, the report says itself that it belongs elsewhere.
    with pytest.raises(OtherContextError, match=victim):
        federation.ends[federation.names[0]].answer(mixed)
    # 2. With its label exchanged, its commitments contradict those of every other site.
    mixed[victim] = relabelled(mixed[victim], federation.context)
    for name in federation.names:
        if name != victim:
            with pytest.raises(ContradictionError) as raised:
                federation.ends[name].answer(mixed)
            assert set(raised.value.names) == set(federation.names)
            assert raised.value.public_message.count(victim) == 3
    with pytest.raises(ContradictionError):
        federation.coordinator().open(mixed, {})
    # 3. And so does the victim see it.
    with pytest.raises(SumRefusedError):
        apart.ends[victim].answer({name: relabelled(one, other_model) for name, one in mixed.items()})


def test_a_coordinator_in_the_middle_of_a_pair_is_noticed() -> None:
    """It replaces a site's key by its own in the roster that the victim gets."""
    told = sites(4)
    victim, peer = told.names[0], told.names[2]
    forged_roster = roster_of({**told.keys, peer: MaskingKey.generate()})
    forged = replace(told.context, roster=forged_roster)
    fooled = chains_of(victim, told.keys[victim], forged_roster)
    end = MaskedSum(forged, PACKING, SIZE, secrets=fooled.secrets(forged))
    federation = Federation(4, told=told)
    report = end.protect(federation.lanes[victim])
    # 1. The roster is in the label.
    mixed = {**federation.reports, victim: report}
    with pytest.raises(OtherContextError, match=victim):
        federation.ends[peer].answer(mixed)
    # 2. And it is in every key: with the label exchanged, no pair of the victim agrees.
    mixed[victim] = relabelled(report, told.context)
    with pytest.raises(ContradictionError) as raised:
        federation.ends[peer].answer(mixed)
    assert {victim, peer} <= set(raised.value.names)


def test_a_report_of_an_earlier_round_is_refused_also_with_its_label_exchanged() -> None:
    told = sites(4)
    first = Federation(4, told=told)
    second = Federation(4, told=told, context=later(told.context))
    replayed = second.names[2]
    mixed = {**second.reports, replayed: first.reports[replayed]}
    with pytest.raises(OtherContextError, match=replayed):
        second.ends[second.names[0]].answer(mixed)
    mixed[replayed] = relabelled(first.reports[replayed], second.context)
    with pytest.raises(ContradictionError):
        second.ends[second.names[0]].answer(mixed)


def test_the_label_of_an_update_alone_is_checked_too() -> None:
    """Lanes of another round with the shares of this one."""
    told = sites(4)
    first = Federation(4, told=told)
    second = Federation(4, told=told, context=later(told.context))
    name = second.names[1]
    mixed = replace(second.reports[name], update=first.reports[name].update)
    with pytest.raises(OtherContextError, match=name):
        second.coordinator().check(name, mixed)


def test_two_vectors_are_never_masked_alike() -> None:
    federation = Federation(3)
    name = federation.names[0]
    with pytest.raises(RoleError):
        federation.ends[name].protect(federation.lanes[name])
    with pytest.raises(RoleError):
        federation.again(name).protect(federation.lanes[name])
    with pytest.raises(KeyErasedError):
        federation.told.secrets(name)


def test_a_retried_step_is_masked_anew() -> None:
    told = sites(3)
    first = Federation(3, told=told)
    retried = Federation(3, told=told, context=replace(told.context, attempt=1))
    name = first.names[0]
    np.testing.assert_array_equal(first.lanes[name], retried.lanes[name])
    difference = (retried.vector(name) - first.vector(name)).astype(np.uint16)
    assert looks_random(difference)


def test_keys_stolen_later_open_no_earlier_report() -> None:
    """The thief has every message of round 1, and the disk of a site that is at round 2."""
    told = sites(4)
    federation = Federation(4, told=told)
    robbed = federation.names[0]
    told.secrets(robbed, context=later(told.context))
    stolen = told.chains[robbed].to_bytes()
    with pytest.raises(KeyErasedError):
        PairChains.from_bytes(stolen).secrets(federation.context)
    # Not even with the position wound back do the keys fit what was committed to in public.
    document = canonical.decode(stolen)
    assert isinstance(document, dict)
    wound = PairChains.from_bytes(canonical.encode({**document, "position": 0, "issued": []}))
    pair_secrets, _ = wound.secrets(federation.context).take()
    part = shares_part.read(federation.context, author=robbed, data=federation.reports[robbed].shares)
    for peer, secret in pair_secrets.items():
        committed = part.commitment(federation.names.index(peer))
        assert secret_commitment(federation.context, secret) != committed
        assert secret_commitment(federation.context, federation.pair_secrets[robbed][peer]) == committed


def test_a_report_that_comes_late_stays_closed() -> None:
    """Its pair secrets were opened, as it was gone: its self mask keeps its update."""
    federation = Federation(5)
    late, *left = federation.names
    closed = federation.closed(left)
    answers = {name: federation.ends[name].answer(closed) for name in left}
    expected = np.sum([federation.lanes[name] for name in left], axis=0)
    np.testing.assert_array_equal(federation.coordinator().open(closed, answers), expected)
    # 1. Less all pair masks, it is still no lanes.
    residue = federation.without_pairs(federation.vector(late), late, left)
    assert (centred(residue.copy()) != federation.lanes[late]).mean() > 0.99
    assert looks_random(residue)
    # 2. No answer has a share of its self seed in it.
    part = shares_part.read(federation.context, author=late, data=federation.reports[late].shares)
    for name in left:
        index = federation.names.index(name)
        own = part.open(federation.context, recipient=index, key=federation.kept[name].receive[late])
        assert own[0] not in answers[name].unmask
    # 3. And nobody answers for a set with it any more.
    for name in left:
        with pytest.raises(AnsweredError):
            federation.ends[name].answer(federation.reports)


def test_a_site_that_left_the_roster_is_not_let_in() -> None:
    told = sites(5)
    everybody = Federation(5, told=told)
    quarantined = everybody.names[4]
    smaller = replace(
        told.context, attempt=1, roster=roster_of({n: told.keys[n] for n in everybody.names[:4]})
    )
    federation = Federation(4, told=told, context=smaller)
    smuggled = {**federation.reports, quarantined: everybody.reports[quarantined]}
    with pytest.raises(SumRefusedError, match=quarantined):
        federation.ends[federation.names[0]].answer(smuggled)
    with pytest.raises(SumRefusedError, match=quarantined):
        federation.coordinator().open(smuggled, {})


def test_a_hostile_site_that_puts_in_too_much_has_the_sum_refused() -> None:
    """It masks lanes beyond the limit by hand; the sum is neither cut off nor wrapped."""
    told = sites(3)
    hostile, *honest = told.names
    ends = {name: MaskedSum(told.context, PACKING, SIZE, secrets=told.secrets(name)) for name in honest}
    reports = {name: end.protect(np.zeros(SIZE, dtype=np.int32)) for name, end in ends.items()}
    values: Residues = np.full(SIZE, PACKING.lane_limit, dtype=np.uint16)
    shares = Masking(told.context, ring_for(PACKING), secrets=told.secrets(hostile)).mask(values)
    header = next(iter(reports.values())).update[:HEADER_BYTES]
    reports[hostile] = Report(update=header + values.tobytes(), shares=shares)
    answers = {name: end.answer(reports) for name, end in ends.items()}
    coordinator = MaskedSum(told.context, PACKING, SIZE)
    assert threshold_of(3) == 2
    with pytest.raises(SumOutOfRangeError):
        coordinator.open(reports, answers)


@pytest.mark.parametrize(("lane_bits", "width"), [(8, 1), (9, 2), (16, 2), (17, 4), (32, 4)])
def test_an_update_has_the_least_width_that_holds_its_lanes(lane_bits: int, width: int) -> None:
    packing = Packing(lane_bits=lane_bits, maximum_sites=3)
    end = MaskedSum(sites(3).context, packing, 1000)
    assert end.update_bytes == HEADER_BYTES + width * 1000


def test_every_byte_of_the_header_is_checked() -> None:
    federation = Federation(3)
    name = federation.names[0]
    report = federation.reports[name]
    for at in range(HEADER_BYTES):
        update = bytearray(report.update)
        update[at] ^= 1
        with pytest.raises(SumRefusedError, match=name):
            federation.coordinator().check(name, replace(report, update=bytes(update)))


def test_updates_of_other_lanes_are_refused_by_name() -> None:
    federation = Federation(3)
    bad = {name: replace(report, update=b"") for name, report in federation.reports.items()}
    with pytest.raises(MaskedUpdateError) as raised:
        federation.coordinator().open(bad, {})
    assert all(name in raised.value.public_message for name in federation.names)
    other = MaskedSum(federation.context, Packing(lane_bits=15, maximum_sites=10), SIZE)
    with pytest.raises(MaskedUpdateError):
        other.check(federation.names[0], federation.reports[federation.names[0]])


def test_an_answer_that_brings_a_part_is_none_of_a_masked_sum() -> None:
    federation = Federation(3)
    answers = {name: end.answer(federation.reports) for name, end in federation.ends.items()}
    answers = {name: replace(answer, part=b"\x00") for name, answer in answers.items()}
    with pytest.raises(SumUnopenedError):
        federation.coordinator().open(federation.reports, answers)


def test_a_sum_without_lanes_or_with_too_many_sites_is_none() -> None:
    context = sites(3).context
    for packing, count in ((PACKING, 0), (PACKING, 2**31 + 1), (Packing(lane_bits=16, maximum_sites=2), 1)):
        with pytest.raises(PackingInvalidError):
            MaskedSum(context, packing, count)


def test_answering_takes_no_updates() -> None:
    federation = Federation(3)
    slim = {name: replace(report, update=b"") for name, report in federation.reports.items()}
    for name in federation.names:
        assert federation.again(name).answer(slim) == federation.ends[name].answer(federation.reports)
