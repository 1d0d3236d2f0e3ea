"""Who opens a homomorphic sum, with what, and how false openings end."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from privacy.packing import (
    PLAIN_MODULUS,
)
from privacy.protected_sum import (
    Answer,
    AnsweredError,
    Report,
    RoleError,
    SumUnopenedError,
)
from tests.privacy.homomorphic_play import (
    ciphertexts_of,
    played,
    sending,
)
from tests.privacy.homomorphic_scheme import HomomorphicEnds, public_of, study_key
from tests.privacy.tampered_ciphertext import combined


@pytest.mark.parametrize("masked", [True, False])
def test_a_false_opening_of_one_holder_is_outvoted(masked: bool) -> None:
    step = played(masked=masked)
    answers = step.answers(step.names, by=step.names)
    coordinator = step.ends.coordinator(step.terms)
    for spoil in (
        lambda part: part[:80] + bytes(8) + part[88:],  # another sum
        lambda part: part[:48] + bytes(32) + part[80:],  # of another set
        lambda part: part[:16] + bytes(32) + part[48:],  # of another context
        lambda part: part[:8] + b"\1" + part[9:],
        lambda part: part[:-8] + PLAIN_MODULUS.to_bytes(8, "little"),  # no residue
        lambda part: part[:-1],
        lambda part: b"",
    ):
        false = {
            **answers,
            step.names[0]: replace(answers[step.names[0]], part=spoil(answers[step.names[0]].part)),
        }
        np.testing.assert_array_equal(coordinator.open(step.reports, false), step.plain(step.names))


def test_openings_that_differ_too_much_are_named() -> None:
    step = played()
    ends = step.ends
    assert isinstance(ends, HomomorphicEnds)
    answers = step.answers(step.names, by=step.names)
    coordinator = ends.coordinator(step.terms)
    first, second, third, fourth = ends.holders
    assert ends.openings_required == 2

    def shifted(name: str, by: int) -> Answer:
        part = answers[name].part
        return replace(answers[name], part=part[:80] + by.to_bytes(8, "little") + part[88:])

    # 1. No two alike.
    alone = {**answers, first: shifted(first, 1), second: shifted(second, 2), third: shifted(third, 3)}
    with pytest.raises(SumUnopenedError) as refusal:
        coordinator.open(step.reports, alone)
    assert len(refusal.value.names) == 3
    # 2. Two sums with two holders each: more than f lie, and nobody knows who.
    split = {**answers, first: shifted(first, 1), second: shifted(second, 1)}
    with pytest.raises(SumUnopenedError) as refusal:
        coordinator.open(step.reports, split)
    assert set(refusal.value.names) == {first, second, third, fourth}
    # 3. Silence.
    silent = {name: answer for name, answer in answers.items() if name not in (first, second, third)}
    with pytest.raises(SumUnopenedError) as refusal:
        coordinator.open(step.reports, silent)
    assert set(refusal.value.names) == {first, second, third}
    # 4. Who holds no key does not count, whatever it posts.
    (other,) = set(step.names) - set(ends.holders)
    posted = {**silent, other: replace(answers[other], part=answers[fourth].part)}
    with pytest.raises(SumUnopenedError):
        coordinator.open(step.reports, posted)


@pytest.mark.parametrize("masked", [True, False])
def test_parts_that_are_none_of_this_sum_do_not_count_however_many_agree(masked: bool) -> None:
    step = played(masked=masked)
    answers = step.answers(step.names, by=step.names)
    earlier = replace(step.terms, context=replace(step.terms.context, attempt=1))
    coordinator = step.ends.coordinator(step.terms)
    holders = {name for name, answer in answers.items() if answer.part}
    for spoil in (
        lambda part: part[:16] + earlier.context.label("part") + part[48:],  # replayed
        lambda part: part[:-8] + PLAIN_MODULUS.to_bytes(8, "little"),  # no residue
        lambda part: part[:-8] + b"\xff" * 8,
    ):
        false = {
            name: replace(answer, part=spoil(answer.part) if answer.part else b"")
            for name, answer in answers.items()
        }
        with pytest.raises(SumUnopenedError) as refusal:
            coordinator.open(step.reports, false)
        assert set(refusal.value.names) == holders


def test_one_end_protects_once_without_masks_too() -> None:
    step = played(masked=False)
    with pytest.raises(RoleError):
        step.sites[step.names[0]].protect(step.lanes[step.names[0]])


def test_opening_needs_neither_updates_nor_a_key() -> None:
    step = played()
    answers = step.answers(step.names, by=step.names)
    shares_alone = {name: Report(update=b"", shares=report.shares) for name, report in step.reports.items()}
    opened = step.ends.coordinator(step.terms).open(shares_alone, answers)
    np.testing.assert_array_equal(opened, step.plain(step.names))
    # Nor does a site without the key need them to answer.
    again = step.ends.site(step.names[2], step.terms).answer(shares_alone)
    assert again == answers[step.names[2]] and not answers[step.names[2]].part


def test_unmasked_only_holders_answer() -> None:
    step = played(masked=False)
    assert step.sites[step.names[2]].answer(step.reports) is None
    assert step.sites[step.names[0]].answer(step.reports) is not None


def test_a_holder_answers_for_one_set_of_updates() -> None:
    for masked in (True, False):
        step = played(masked=masked)
        holder, changed = step.sites[step.names[0]], step.names[2]
        first = holder.answer(step.reports)
        assert holder.answer(step.reports) == first
        (own,) = ciphertexts_of(step, changed)
        with pytest.raises(AnsweredError):
            holder.answer(sending(step, changed, (combined(public_of(study_key()), plus=[own, own]),)))
        with pytest.raises(AnsweredError):
            holder.answer({name: step.reports[name] for name in step.names[:4]})
