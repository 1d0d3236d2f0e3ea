"""The power fails at every point between masking a vector and the answer that unmasks it.

A vector that was masked may be masked anew only if nothing of it left the site; an answer is made once. What a site
lets go is written down by its exchange here, over all the runs that it takes.
"""

from __future__ import annotations

import shutil
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import pytest

import tasks.site.opening
import tasks.site.release
from adapters.exchange import Exchange
from adapters.home import Home, write_atomically
from adapters.outbox import Outbox, Slot
from policies.plan import Plan
from policies.protection import opened_groups
from tasks.site.party import Site
from tasks.site.release import Release
from tasks.summing import SumTerms
from tasks.worker.site_session import SiteSession
from tests.consortium import SITES, Consortium, PowerCut, site_worker
from tests.plans import tiny_plan

pytestmark = pytest.mark.xdist_group("rounds-3")

SITE = "hospital-a"  # it holds a key too, so that it reports, answers and opens
UPDATE, LABELLED = b"WRMU", 64
"""A masked update begins with its magic; the sum that it belongs to is named in the first 64 bytes."""


class Recording:
    """Carries what the site sends, notes it, and cuts the power where it is told."""

    def __init__(self, inner: Exchange, sent: dict[str, set[bytes]], cut_at: str) -> None:
        self._inner, self._sent, self._cut_at = inner, sent, cut_at

    def put(self, name: str, data: bytes) -> None:
        self._note(name, data)
        self._inner.put(name, data)

    def replace(self, name: str, data: bytes) -> None:
        self._note(name, data)
        self._inner.replace(name, data)

    def _note(self, name: str, data: bytes) -> None:
        if self._cut_at and name.startswith(self._cut_at):
            raise PowerCut
        self._sent[name].add(data)

    def get(self, name: str, *, at_most_bytes: int | None = None) -> bytes | None:
        return self._inner.get(name, at_most_bytes=at_most_bytes)

    def names(self, prefix: str) -> list[str]:
        return self._inner.names(prefix)


def updates_by_sum(sent: dict[str, set[bytes]]) -> dict[bytes, int]:
    """How many masked updates left the site under the keys of each sum."""
    found: dict[bytes, int] = defaultdict(int)
    for name, contents in sent.items():
        if name.startswith("objects/"):
            for data in contents:
                if data.startswith(UPDATE):
                    found[data[:LABELLED]] += 1
    return found


class Crashes:
    """The points at which the power fails, in the order in which a round comes by them."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.patch, self.exchange_at = patch, ""
        self.sessions: type[SiteSession] = SiteSession

    def masked_and_not_kept(self) -> None:
        keep = Outbox.keep

        def crash(outbox: Outbox, slot: Slot, *, update: bytes, shares: bytes, entry: bytes) -> None:
            if SITE in str(outbox._root):
                raise PowerCut
            keep(outbox, slot, update=update, shares=shares, entry=entry)

        self.patch.setattr(Outbox, "keep", crash)

    def kept_and_its_masks_not_used(self) -> None:
        class Crashing(SiteSession):
            def released(self, plan: Plan, terms: SumTerms) -> None:
                raise PowerCut

        self.sessions = Crashing

    def used_and_not_sent(self) -> None:
        send = tasks.site.release.send

        async def crash(site: Site, release: Release) -> int:
            if site.name == SITE:
                raise PowerCut
            return await send(site, release)

        self.patch.setattr(tasks.site.release, "send", crash)

    def update_sent_and_its_receipt_not(self) -> None:
        self.exchange_at = "inbox/"
        # Only the receipt: what the site says before it is on the ledger since the first run.

    def answered_and_not_kept(self) -> None:
        def crash(path: Path, data: bytes, *, mode: int = 0o644) -> None:
            if SITE in str(path) and path.parent.parent.name == "answers":
                raise PowerCut
            write_atomically(path, data, mode=mode)

        self.patch.setattr(tasks.site.opening, "write_atomically", crash)

    def answer_kept_and_its_keys_not_forgotten(self) -> None:
        class Crashing(SiteSession):
            def answered(self, plan: Plan, terms: SumTerms) -> None:
                raise PowerCut

        self.sessions = Crashing

    def keys_forgotten_and_answer_not_sent(self) -> None:
        self.exchange_at = "answers/"

    def opening_kept_and_not_sent(self) -> None:
        self.exchange_at = "openings/"

    def nowhere(self) -> None:
        """The last run goes through."""


async def test_wherever_the_power_fails_one_vector_leaves_under_a_key_and_one_answer_for_a_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    consortium = Consortium.found(tmp_path, sites=SITES[:3])
    plan, sent = tiny_plan(), defaultdict[str, set[bytes]](set)
    digest = plan.content_digest()
    masking = Home(consortium.founded.sites[SITE]).root / "masking" / digest
    points = [name for name in vars(Crashes) if not name.startswith("_")]
    assert len(points) == 9
    for name in points:
        with monkeypatch.context() as patch:
            crashes = Crashes(patch)
            point: Callable[[], None] = getattr(crashes, name)
            point()
            consortium.workers[SITE] = site_worker(crashes.sessions)
            consortium.exchanges[SITE] = lambda shared, at=crashes.exchange_at: Recording(shared, sent, at)
            outcome = await consortium.run(plan)
        if name != "nowhere":
            assert isinstance(outcome.errors.get(SITE), PowerCut), name
            assert masking.exists(), name
        if name == "keys_forgotten_and_answer_not_sent":  # what an answer was made of goes also after a crash
            assert [path.name for path in masking.iterdir()] == ["chains"]
        assert set(updates_by_sum(sent).values()) <= {1}, name
        assert all(len(data) == 1 for place, data in sent.items() if place.startswith("answers/")), name
    assert outcome.errors == {}
    assert consortium.registered_versions() == 1
    # Nobody was lost over it, and what was masked and never left was made anew under the reservation that it had.
    assert opened_groups(outcome.state, digest, 1, "training") == ((0, SITES[:3]),)
    assert outcome.state.attempts[digest, 1, SITE] == 1
    # Of two steps: an update, an answer, an opening each.
    assert len(updates_by_sum(sent)) == 2
    assert len([place for place in sent if place.startswith("answers/")]) == 2
    # When the plan is over its keys are gone, at every site.
    assert not [home for home in consortium.founded.sites.values() if (home / "masking" / digest).exists()]


async def test_a_site_that_lost_what_it_sent_makes_no_second_report(tmp_path: Path) -> None:
    """The disk with the outbox is gone after the round was closed, and the masking keys are not."""
    consortium = Consortium.found(tmp_path)
    plan, sent = tiny_plan(), defaultdict[str, set[bytes]](set)
    digest = plan.content_digest()
    consortium.exchanges[SITE] = lambda shared: Recording(shared, sent, "")
    await consortium.run(
        plan, cut_at=lambda now: (now.party, now.step, now.round) == ("coordinator", "open the sum", 1)
    )
    shutil.rmtree(Home(consortium.founded.sites[SITE]).outbox)
    before = updates_by_sum(sent)
    assert len(before) == 1
    outcome = await consortium.run(plan)
    # The report that it made counts, and it answers for it; it has nothing more to say in this round.
    assert outcome.missing(plan, 1) == {}
    assert outcome.missing(plan, 1, "evaluation") == {SITE: "receipt.replayed"}
    assert updates_by_sum(sent) == before
    answered = consortium.founded.exchange.glob(f"answers/{digest}/1-training/*")
    assert {path.name for path in answered} == set(SITES)
