"""What somebody who attacks an encrypted sum gets, with masks and without them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from privacy import homomorphic
from privacy.ciphertext_frame import HEADER_BYTES, PUBLIC_KEY, SEEDED, CiphertextFrame
from privacy.homomorphic import KeyMismatchError
from privacy.homomorphic_sum import HomomorphicSum, UpdateRefusedError
from privacy.packing import (
    PLAIN_MODULUS,
    LaneOverflowError,
    Packing,
    PackingInvalidError,
    SumOutOfRangeError,
)
from privacy.protected_sum import (
    ProtectedSum,
    Report,
    RoleError,
    SumRefusedError,
)
from privacy.study_key import ContextHoldsSecretError, PublicContext, StudyKey
from tests.privacy.homomorphic_play import (
    LANES,
    LIMIT,
    PACKING,
    ciphertexts_of,
    ends_of,
    looks_uniform,
    opened,
    plain_slots,
    played,
    read_by_a_holder,
    sending,
)
from tests.privacy.homomorphic_scheme import HomomorphicEnds, public_of, study_key
from tests.privacy.sum_contract import Played, Terms
from tests.privacy.tampered_ciphertext import combined, shifted_by_the_key


@pytest.mark.parametrize("masked", [True, False])
def test_sums_of_seeded_and_public_key_updates_are_exact(masked: bool) -> None:
    step = played(masked=masked, lane_count=10_001)
    forms = {CiphertextFrame.from_bytes(report.update).form for report in step.reports.values()}
    assert forms == {PUBLIC_KEY, SEEDED}
    np.testing.assert_array_equal(step.open(step.names), step.plain(step.names))
    assert step.sites[step.names[0]].scheme == ("homomorphic" if masked else "homomorphic-unmasked")


def test_fifty_sites_add_up_exactly() -> None:
    step = played(50, masked=False)
    np.testing.assert_array_equal(step.open(step.names), step.plain(step.names))


def test_the_coordinator_and_a_key_holder_read_an_update_and_see_only_masks() -> None:
    """They decrypt the victim's update, and know every other message."""
    step = played()
    victim = step.names[2]
    seen, plain = read_by_a_holder(step, victim), plain_slots(step, victim)
    assert (seen != plain).all()
    assert looks_uniform(seen) and looks_uniform((seen - plain) % PLAIN_MODULUS)
    with pytest.raises(SumOutOfRangeError):
        PACKING.unpack(
            np.where(seen > PLAIN_MODULUS // 2, seen - PLAIN_MODULUS, seen), lane_count=LANES, sites=1
        )
    # Nor does it help that everybody answers for the closed set: the answers open the sum, and not the update.
    np.testing.assert_array_equal(step.open(step.names), step.plain(step.names))


def test_without_masks_the_coordinator_and_a_key_holder_read_an_update_exactly() -> None:
    """Why only the lowest risk tier may do without."""
    step = played(masked=False)
    victim = step.names[2]
    seen = read_by_a_holder(step, victim)
    np.testing.assert_array_equal(seen, plain_slots(step, victim))
    assert not looks_uniform(seen)


def test_without_masks_a_site_that_sees_the_others_has_the_sum_show_one_of_them() -> None:
    """BFV is malleable: minus the sum of all but the victim is an update like any other."""
    step = played(masked=False)
    hostile, victim, *others = step.names
    crafted = combined(
        public_of(study_key()),
        plus=ciphertexts_of(step, hostile),
        minus=[one for name in [*others, hostile] for one in ciphertexts_of(step, name)],
    )
    total = opened(step, sending(step, hostile, (crafted,)))
    np.testing.assert_array_equal(total, step.lanes[victim])


@pytest.mark.parametrize("craft", ["minus the others", "twice its own less the victim's"])
def test_with_masks_no_combination_of_ciphertexts_isolates_an_update(craft: str) -> None:
    step = played()
    hostile, victim, *others = step.names
    own = ciphertexts_of(step, hostile)
    minus = ciphertexts_of(step, victim)
    if craft == "minus the others":
        minus = tuple(one for name in [*others, hostile] for one in ciphertexts_of(step, name))
        crafted = combined(public_of(study_key()), plus=own, minus=minus)
    else:
        crafted = combined(public_of(study_key()), plus=[*own, *own], minus=minus)
    closed = sending(step, hostile, (crafted,))
    # What comes out is masked still, and no sum of anything.
    with pytest.raises(SumOutOfRangeError):
        opened(step, closed)
    answer = step.sites[victim].answer(closed)
    assert answer is not None
    posted = np.frombuffer(answer.part, dtype="<i8", offset=80)
    assert looks_uniform(posted)
    assert looks_uniform((posted - plain_slots(step, victim)) % PLAIN_MODULUS)


@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("factor", [1, LIMIT])
def test_a_ciphertext_made_to_decrypt_to_the_key_opens_to_nothing(masked: bool, factor: int) -> None:
    """The key's coefficients are -1, 0 and 1 and would pass any range check; its slots are anything."""
    step = played(masked=masked)
    hostile = step.names[2]  # Of public-key form, as it holds no key.
    (own,) = ciphertexts_of(step, hostile)
    with pytest.raises(SumOutOfRangeError):
        opened(step, sending(step, hostile, (shifted_by_the_key(own, factor=factor),)))


def test_a_copied_update_is_refused_by_name() -> None:
    step = played(masked=False)
    copier = step.names[2]
    closed = sending(step, copier, ciphertexts_of(step, step.names[4]))
    holder = step.sites[step.names[0]]
    # Of two equal ones the later by name is refused: who copied whom is for the times of the receipts to say.
    with pytest.raises(UpdateRefusedError, match=f"a ciphertext of {copier}") as refusal:
        holder.answer(closed)
    assert refusal.value.names == (step.names[4],)


def test_updates_that_cannot_be_added_are_named_and_nothing_is_answered_for_them() -> None:
    step = played()
    broken, foreign = step.names[2], step.names[4]
    changed = bytearray(step.reports[broken].update)
    changed[HEADER_BYTES + 4 + 60 : HEADER_BYTES + 4 + 68] = b"\xff" * 8
    closed = {
        **step.reports,
        broken: replace(step.reports[broken], update=bytes(changed)),
    }
    holder = step.sites[step.names[0]]
    with pytest.raises(UpdateRefusedError) as refusal:
        holder.answer(closed)
    assert refusal.value.names == (broken,) and refusal.value.diagnostics()
    assert refusal.value.code == "privacy.update-refused"
    for update in (b"", step.reports[broken].update[:-1], step.reports[broken].update + b"\0", bytes(500)):
        with pytest.raises(UpdateRefusedError) as refusal:
            holder.answer(
                {
                    **closed,
                    broken: replace(step.reports[broken], update=update),
                    foreign: replace(step.reports[foreign], update=step.reports[step.names[3]].update),
                }
            )
        assert refusal.value.names == (broken, foreign)
    # No share has left: the set without the broken one is answered for.
    left = {name: report for name, report in step.reports.items() if name != broken}
    assert holder.answer(left) is not None


def test_an_update_under_last_studys_key_is_refused() -> None:
    last = played(ends=HomomorphicEnds(ends_of().told, key=StudyKey.generate()))
    now = HomomorphicEnds(last.ends.told, key=study_key())
    coordinator = now.coordinator(last.terms)
    for name, report in last.reports.items():
        with pytest.raises(UpdateRefusedError, match="another study's key"):
            coordinator.check(name, report)
    # Relabelled as one of this study, it decrypts to garbage, and that is noticed.
    step = played(masked=False)
    name = step.names[2]
    other = StudyKey.generate()
    foreign = homomorphic.encrypt(np.zeros(10, dtype=np.int64), public_of(other))
    with pytest.raises(SumOutOfRangeError):
        opened(step, sending(step, name, foreign))


def test_a_context_that_holds_a_secret_is_refused() -> None:
    with pytest.raises(ContextHoldsSecretError):
        PublicContext.from_bytes(study_key().to_bytes())
    end = ends_of().coordinator(Terms(context=ends_of().context, packing=PACKING, lane_count=1))
    assert isinstance(end, HomomorphicSum)
    context = end._public.context
    assert not context.is_private() and not context.has_galois_keys() and not context.has_relin_keys()


def test_values_at_the_range_come_back_and_values_beyond_it_are_refused() -> None:
    """Peers saturate silently: 9 and 12 came back as 7.8 and 8.0."""
    ends = ends_of(masked=False)
    terms = Terms(context=ends.context, packing=PACKING, lane_count=4)
    edges = np.array([LIMIT, -LIMIT, LIMIT - 1, 0], dtype=np.int32)
    step = Played(ends, terms, dict.fromkeys(ends.told.names, edges))
    assert step.open(step.names).tolist() == [5 * LIMIT, -5 * LIMIT, 5 * (LIMIT - 1), 0]
    for beyond in (LIMIT + 1, -LIMIT - 1, 2**31 - 1):
        with pytest.raises(LaneOverflowError):
            ends.site(ends.told.names[0], terms).protect(np.array([0, beyond, 0, 0], dtype=np.int32))


def test_a_site_beyond_its_limit_is_refused_in_the_sum() -> None:
    """A hostile site encrypts what `protect` would not."""
    step = played(masked=False)
    hostile = step.names[2]
    slots = np.zeros(PACKING.slots_for(LANES), dtype=np.int64)
    slots[7] = 20 * LIMIT
    crafted = homomorphic.encrypt(slots, public_of(study_key()))
    with pytest.raises(SumOutOfRangeError):
        opened(step, sending(step, hostile, crafted))


@pytest.mark.parametrize("place", [60, 50])
def test_no_lanes_hide_behind_those_announced(place: int) -> None:
    """In a slot behind the last, or in the second lane of the last."""
    step = played(masked=False, lane_count=101)
    slots = np.zeros(4096, dtype=np.int64)
    slots[place] = 7 << 22
    crafted = homomorphic.encrypt(slots, public_of(study_key()))
    with pytest.raises(SumOutOfRangeError):
        opened(step, sending(step, step.names[2], crafted))


def test_a_report_is_of_one_site_and_one_sum() -> None:
    for masked in (True, False):
        step = played(masked=masked)
        coordinator = step.ends.coordinator(step.terms)
        one, other = step.names[2], step.names[3]
        coordinator.check(one, step.reports[one])
        with pytest.raises(SumRefusedError, match=other):
            coordinator.check(other, replace(step.reports[other], update=step.reports[one].update))
        for terms in (
            replace(step.terms, context=replace(step.terms.context, round=2)),
            replace(step.terms, lane_count=LANES - 1),
            replace(step.terms, packing=Packing(lane_bits=22, maximum_sites=49)),
        ):
            with pytest.raises(SumRefusedError):
                step.ends.coordinator(terms).check(one, step.reports[one])
    # Unmasked, shares belong to nobody.
    with pytest.raises(SumRefusedError, match="shares"):
        coordinator.check(one, replace(step.reports[one], shares=b"\1"))
    with pytest.raises(SumRefusedError, match="stranger"):
        coordinator.check("stranger", step.reports[one])


def test_an_unmasked_sum_refuses_sets_as_a_masked_one_does() -> None:
    step = played(7, masked=False)
    holder = step.sites[step.names[0]]
    for names in ([], step.names[:4], step.names[1:]):
        with pytest.raises(SumRefusedError):
            holder.answer(step.closed(names))
    with pytest.raises(SumRefusedError, match="stranger"):
        holder.answer({**step.reports, "stranger": step.reports[step.names[2]]})
    answers = step.answers(step.names, by=step.names)
    with pytest.raises(SumRefusedError):
        step.ends.coordinator(step.terms).open(step.closed(step.names[:4]), answers)


def test_ends_hold_only_what_is_theirs() -> None:
    ends = ends_of()
    about, public, name = ends.context, ends.public, ends.told.names[0]
    secrets = ends.told.secrets(name)

    def end(
        *,
        packing: Packing = PACKING,
        lane_count: int = 10,
        holders: tuple[str, ...] = ends.holders,
        openings_required: int = 2,
        name: str | None = None,
        key: StudyKey | None = None,
        masked: bool = True,
        with_secrets: bool = False,
    ) -> ProtectedSum:
        return HomomorphicSum(
            about,
            packing,
            lane_count,
            public=public,
            holders=holders,
            openings_required=openings_required,
            name=name,
            key=key,
            secrets=secrets if with_secrets else None,
            masked=masked,
        )

    with pytest.raises(PackingInvalidError):
        end(packing=Packing(lane_bits=22, maximum_sites=4))
    with pytest.raises(PackingInvalidError):
        end(lane_count=0)
    for required in (0, 5):
        with pytest.raises(RoleError):
            end(openings_required=required)
    with pytest.raises(RoleError):
        end(holders=(name, name))
    with pytest.raises(RoleError):
        end(name="stranger")
    with pytest.raises(RoleError):
        end(key=study_key())
    with pytest.raises(RoleError):
        end(name=ends.told.names[2], key=study_key())
    with pytest.raises(KeyMismatchError):
        end(name=name, key=StudyKey.generate())
    with pytest.raises(RoleError):
        end(name=ends.told.names[1], with_secrets=True)
    with pytest.raises(RoleError):
        end(name=name, with_secrets=True, masked=False)
    for closed in ({}, {name: Report(update=b"")}):
        with pytest.raises(RoleError):
            end().answer(closed)
