"""A site's masking keys over restarts: given out until they are used, never twice afterwards, gone in the end."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from adapters.home import Home
from adapters.masking_keys import MaskingKeys, MaskingKeysUnusableError
from adapters.sealed_files import SealedFileError
from privacy.masking.mask_secrets import MaskSecrets
from privacy.masking.pair_keys import KeyErasedError, PairKeysMismatchError
from privacy.sum_context import Participant, Roster, Step, SumContext

PLAN, ORIGIN, STUDY = "ab" * 32, "wardround/test", "study"
NAMES = ("hospital-a", "hospital-b", "hospital-c")
A, B, C = NAMES


class Site:
    """One site's disk. Every look at its keys is another process's."""

    def __init__(self, root: Path, name: str) -> None:
        self.name, self.root = name, root
        (root / "keys").mkdir(parents=True)
        (root / "keys" / "patient.secret").write_bytes(os.urandom(32))

    @property
    def keys(self) -> MaskingKeys:
        return MaskingKeys(Home(self.root), PLAN)

    def begin(self, roster: Roster) -> None:
        self.keys.begin(self.name, roster, origin=ORIGIN, study=STUDY)

    def files(self) -> dict[str, bytes]:
        folder = self.root / "masking" / PLAN
        return {path.name: path.read_bytes() for path in sorted(folder.glob("*"))}


@pytest.fixture
def sites(tmp_path: Path) -> dict[str, Site]:
    return {name: Site(tmp_path / name, name) for name in NAMES}


@pytest.fixture
def roster(sites: dict[str, Site]) -> Roster:
    """Of all, who have begun."""
    roster = Roster(tuple(Participant(name=name, masking_key=sites[name].keys.announce()) for name in NAMES))
    for site in sites.values():
        site.begin(roster)
    return roster


def context_of(
    roster: Roster, round_number: int = 1, step: Step = "training", **fields: object
) -> SumContext:
    context = SumContext(
        origin=ORIGIN,
        study=STUDY,
        plan_digest=PLAN,
        round=round_number,
        step=step,
        attempt=1,
        scheme="masked",
        model_digest="cd" * 32,
        minimum_sites=3,
        roster=roster,
    )
    return replace(context, **fields)


def pairs(secrets: MaskSecrets) -> dict[str, bytes]:
    return secrets.take()[0]


def test_a_site_announces_one_key_for_a_plan_however_often_it_starts(
    sites: dict[str, Site], tmp_path: Path
) -> None:
    announced = {sites[A].keys.announce() for _ in range(3)}
    assert len(announced) == 1
    assert MaskingKeys(Home(sites[A].root), "cd" * 32).announce() not in announced
    assert sites[A].files()["key"] and announced.pop() not in sites[A].files()["key"]


def test_two_sites_share_what_no_third_has_and_private_keys_are_gone(
    sites: dict[str, Site], roster: Roster
) -> None:
    context = context_of(roster)
    found = {name: pairs(site.keys.secrets(context)) for name, site in sites.items()}
    assert found[A][B] == found[B][A] and found[A][C] == found[C][A] and found[B][C] == found[C][B]
    assert len({found[A][B], found[A][C], found[B][C]}) == 3
    assert all("key" not in site.files() for site in sites.values())


def test_beginning_again_after_a_crash_changes_nothing(sites: dict[str, Site]) -> None:
    """The power failed after the chains were written and before the private key was deleted."""
    roster = Roster(tuple(Participant(name=name, masking_key=sites[name].keys.announce()) for name in NAMES))
    key = sites[A].files()["key"]
    sites[A].begin(roster)
    begun = sites[A].files()
    (sites[A].root / "masking" / PLAN / "key").write_bytes(key)
    sites[A].begin(roster)
    assert sites[A].files() == begun


def test_a_roster_with_another_key_for_this_site_begins_nothing(
    sites: dict[str, Site], roster: Roster
) -> None:
    newcomer = Site(sites[A].root.parent / "newcomer", A)
    newcomer.keys.announce()
    before = newcomer.files()
    with pytest.raises(PairKeysMismatchError):
        newcomer.begin(roster)
    assert newcomer.files() == before


def test_without_the_announced_key_a_site_takes_no_part(sites: dict[str, Site]) -> None:
    roster = Roster(tuple(Participant(name=name, masking_key=sites[name].keys.announce()) for name in NAMES))
    (sites[A].root / "masking" / PLAN / "key").unlink()
    with pytest.raises(MaskingKeysUnusableError):
        sites[A].begin(roster)
    with pytest.raises(MaskingKeysUnusableError):
        sites[A].keys.secrets(context_of(roster))


def test_masks_are_given_out_again_until_they_are_used_and_never_afterwards(
    sites: dict[str, Site], roster: Roster
) -> None:
    """What was masked before `used` has not left the site; what was masked before it will leave as it is kept."""
    context = context_of(roster)
    first = pairs(sites[A].keys.secrets(context))
    assert pairs(sites[A].keys.secrets(context)) == first
    sites[A].keys.used(context)
    sites[A].keys.used(context)  # by the run after a crash
    for _ in range(2):
        with pytest.raises(KeyErasedError):
            sites[A].keys.secrets(context)
    # Another model or roster of the same step is another sum.
    other = pairs(sites[A].keys.secrets(context_of(roster, model_digest="ef" * 32)))
    assert set(other.values()).isdisjoint(first.values())


def test_what_answers_is_kept_through_a_restart_and_forgotten_once_the_answer_is(
    sites: dict[str, Site], roster: Roster
) -> None:
    context = context_of(roster)
    with pytest.raises(MaskingKeysUnusableError):
        sites[A].keys.answer_keys(context)  # it masked nothing
    given = sites[A].keys.secrets(context).answering()
    sites[A].keys.used(context)
    assert sites[A].keys.answer_keys(context) == given
    with pytest.raises(MaskingKeysUnusableError):
        sites[A].keys.answer_keys(context_of(roster, step="evaluation"))
    sites[A].keys.answered(context)
    with pytest.raises(MaskingKeysUnusableError):
        sites[A].keys.answer_keys(context)
    assert list(sites[A].files()) == ["chains"]


def test_the_last_masked_vector_is_the_one_that_its_keys_answer_for(
    sites: dict[str, Site], roster: Roster
) -> None:
    """Masked, crashed before it was kept, masked anew: the first vector's own wrapping key is of no use any more."""
    context = context_of(roster)
    first = sites[A].keys.secrets(context).answering()
    second = sites[A].keys.secrets(context).answering()
    assert first.receive[A] != second.receive[A]
    assert sites[A].keys.answer_keys(context) == second


def test_once_a_step_is_answered_its_masks_cannot_be_made_from_the_disk(
    sites: dict[str, Site], roster: Roster
) -> None:
    """Who steals the disk afterwards has only what comes; before it everything that is still to come, too."""
    first, second = context_of(roster), context_of(roster, step="evaluation")
    gone = pairs(sites[A].keys.secrets(first))
    sites[A].keys.used(first)
    sites[A].keys.answered(first)
    with pytest.raises(KeyErasedError):
        sites[A].keys.secrets(first)
    later = pairs(sites[A].keys.secrets(second))
    assert later[B] == pairs(sites[B].keys.secrets(second))[A] != gone[B]


def test_an_answer_said_again_after_a_crash_or_after_the_plan_forgets_no_more(
    sites: dict[str, Site], roster: Roster
) -> None:
    first, second = context_of(roster), context_of(roster, step="evaluation")
    for context in (first, second):
        sites[A].keys.secrets(context)
        sites[A].keys.used(context)
    sites[A].keys.answered(first)
    assert sites[A].keys.answer_keys(second)  # the earlier step's answer takes nothing of the later one's
    sites[A].keys.answered(second)
    kept = sites[A].files()
    sites[A].keys.answered(first)
    sites[A].keys.answered(second)
    assert sites[A].files() == kept
    sites[A].keys.forget()
    sites[A].keys.answered(second)
    assert sites[A].files() == {}


def test_a_step_that_a_site_sat_out_is_behind_it_with_the_next_one_used(
    sites: dict[str, Site], roster: Roster
) -> None:
    sites[A].keys.used(context_of(roster, 3))
    with pytest.raises(KeyErasedError):
        sites[A].keys.secrets(context_of(roster, 2))
    assert (
        pairs(sites[A].keys.secrets(context_of(roster, 4)))[B]
        == pairs(sites[B].keys.secrets(context_of(roster, 4)))[A]
    )


def test_no_secret_is_readable_on_the_disk_and_a_neighbours_files_open_nowhere_else(
    sites: dict[str, Site], roster: Roster
) -> None:
    context = context_of(roster)
    secrets = sites[A].keys.secrets(context)
    answering, shared = secrets.answering(), pairs(secrets)
    everything = b"".join(sites[A].files().values())
    for key in (*shared.values(), *answering.receive.values()):
        assert key not in everything and key.hex().encode() not in everything
    for name, data in sites[A].files().items():
        (sites[B].root / "masking" / PLAN / name).write_bytes(data)
    for look in (lambda: sites[B].keys.secrets(context), lambda: sites[B].keys.answer_keys(context)):
        with pytest.raises(SealedFileError):
            look()


def test_an_older_file_of_another_step_does_not_answer_for_this_one(
    sites: dict[str, Site], roster: Roster
) -> None:
    first, second = context_of(roster), context_of(roster, step="evaluation")
    sites[A].keys.secrets(first)
    (name,) = (name for name in sites[A].files() if name != "chains")
    older = sites[A].files()[name]
    sites[A].keys.secrets(second)
    (other,) = (one for one in sites[A].files() if one not in ("chains", name))
    (sites[A].root / "masking" / PLAN / other).write_bytes(older)
    with pytest.raises(SealedFileError):
        sites[A].keys.answer_keys(second)


def test_after_the_plan_nothing_is_left(sites: dict[str, Site], roster: Roster) -> None:
    context = context_of(roster)
    sites[A].keys.secrets(context)
    sites[A].keys.forget()
    assert sites[A].files() == {}
    with pytest.raises(MaskingKeysUnusableError):
        sites[A].keys.secrets(context)
    with pytest.raises(MaskingKeysUnusableError):
        sites[A].begin(roster)  # never with a new key, which is not the roster's
