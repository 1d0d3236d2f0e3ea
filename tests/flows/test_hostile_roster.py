"""A coordinator that would sum among others than those who approved, twice, or under keys of its own making.

The statements are signed with the coordinator's real key and put to the state that every witness has at that point.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path

import pytest
import pytest_asyncio

from adapters import objects
from adapters.clock import SystemClock
from adapters.exchange import Exchange
from adapters.home import Home
from ledger import canonical
from ledger.errors import PolicyViolation
from ledger.event import parse_entry
from ledger.log import Log
from ledger.sqlite import SqliteStorage
from policies.events import Absence, Body, PlanApproved, RosterFixed, RoundClosed
from policies.plan import Plan
from policies.state import FederationState
from tasks.speech import next_entry
from tests.consortium import SITES, Consortium
from tests.plans import tiny_plan

pytestmark = pytest.mark.xdist_group("rounds-3")

A, B, C, D = SITES
PLAN = tiny_plan(rounds=2)


class Story:
    """A finished run, from whose ledger the state at any point is told again."""

    def __init__(self, consortium: Consortium) -> None:
        self._consortium = consortium
        log = Log.open(SqliteStorage(consortium.founded.coordinator / "ledger.sqlite"))
        self.entries, self.origin = list(log.entries(0, log.size)), log.origin

    def index(self, event_type: str, **body: object) -> int:
        """Of the first such event whose body has these values."""
        for index, entry in enumerate(self.entries):
            event = parse_entry(entry).event
            if event.type == event_type and all(event.body.get(key) == value for key, value in body.items()):
                return index
        raise AssertionError(event_type)

    def before(self, index: int) -> FederationState:
        state = FederationState(self.origin)
        for at, entry in enumerate(self.entries[:index]):
            state.advance(at, entry)
        return state

    def refused(self, state: FederationState, body: Body, *, by: str = "coordinator") -> Sequence[str]:
        """Why the ledger does not take it from `by`, signed with its own key."""
        founded = self._consortium.founded
        home = Home(founded.coordinator if by == "coordinator" else founded.sites[by])
        entry = next_entry(state, body, name=by, signers=(home.signer("signing", by),), clock=SystemClock())
        with pytest.raises(PolicyViolation) as refused:
            state.fork().advance(state.size, entry)
        return [violation.code for violation in refused.value.violations]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def story(tmp_path_factory: pytest.TempPathFactory) -> Story:
    consortium = Consortium.found(tmp_path_factory.mktemp("story"))
    assert (await consortium.run(PLAN)).errors == {}
    return Story(consortium)


def test_nothing_a_coordinator_says_of_rosters_and_closed_sets_stands_but_the_one_truth(story: Story) -> None:
    digest = PLAN.content_digest()

    # A roster without a site that approved, and one with a site that has not approved yet.
    at = story.index("roster.fixed")
    state = story.before(at)
    assert story.refused(state, RosterFixed(plan_digest=digest, sites=(A, B, C))) == ["roster.sites"]
    last = max(
        index for index in range(at) if parse_entry(story.entries[index]).event.type == "plan.approved"
    )
    early = RosterFixed(plan_digest=digest, sites=SITES)
    assert story.refused(story.before(last), early) == ["roster.sites"]
    # Another one later, when sites have keys with each other already.
    state = story.before(at + 1)
    assert "roster.fixed-twice" in story.refused(state, RosterFixed(plan_digest=digest, sites=SITES))

    # Another set of a step that is closed: the two sums would differ by one hospital's update.
    at = story.index("round.closed", round=1, step="training")
    honest = RoundClosed.from_value(parse_entry(story.entries[at]).event.body, what="closed")
    without = honest.with_fields(
        {"receipts": list(honest.receipts[:-1]), "missing": [{"site": D, "code": "site.silent"}]}
    )
    assert story.refused(story.before(at), without) == ["round.receipts"]
    state = story.before(at + 1)
    assert "round.closed-twice" in story.refused(state, without)
    assert "round.closed-twice" in story.refused(state, honest)
    with pytest.raises(PolicyViolation) as replayed:
        state.fork().advance(state.size, story.entries[at])
    assert replayed.value.code == "ledger.chain.replayed"

    # The reports of round 1 in round 2.
    at = story.index("round.closed", round=2, step="training")
    again = honest.with_fields({"round": 2})
    assert "round.receipts" in story.refused(story.before(at), again)
    assert "round.receipts" in story.refused(
        story.before(at),
        RoundClosed(
            plan_digest=digest, round=2, step="training", receipts=honest.receipts[:3],
            missing=(Absence(site=D, code="site.silent"),),
        ),
    )  # fmt: skip


def test_a_masking_key_that_its_site_did_not_sign_is_no_key_of_anybody(story: Story) -> None:
    at = next(i for i, entry in enumerate(story.entries) if parse_entry(entry).event.type == "plan.approved")
    approved, state = parse_entry(story.entries[at]).event, story.before(at)
    # The key in a signed approval changed on its way, with the signature as it was.
    envelope = canonical.decode(story.entries[at])
    assert isinstance(envelope, dict)
    payload = base64.b64decode(str(envelope["payload"]))
    other = payload.replace(str(approved.body["masking_key"]).encode(), b"ab" * 32)
    assert other != payload
    changed = canonical.encode({**envelope, "payload": base64.b64encode(other).decode()})
    with pytest.raises(PolicyViolation) as forged:
        state.fork().advance(at, changed)
    assert forged.value.code == "ledger.chain.signature"
    # A coordinator approves for nobody; and a site cannot announce another's key as its own.
    body = PlanApproved.from_value(approved.body, what="approval")
    assert story.refused(state, body) == ["event.role"]
    thief = next(name for name in SITES if name != approved.institution)
    state.advance(at, story.entries[at])
    assert "plan.masking-key" in story.refused(state, body, by=thief)


class OtherModel:
    """Gives one site other weights than the plan's, under the digest of the plan's."""

    def __init__(self, inner: Exchange, consortium: Consortium, plan: Plan) -> None:
        self._inner, self._consortium, self._digest = inner, consortium, plan.content_digest()

    def get(self, name: str, *, at_most_bytes: int | None = None) -> bytes | None:
        data = self._inner.get(name, at_most_bytes=at_most_bytes)
        if data is None or not name.startswith("objects/"):
            return data
        published = self._consortium.state().plans[self._digest]
        return data[:-4] + bytes(4) if name == objects.name_of(published.base_model_digest) else data

    def put(self, name: str, data: bytes) -> None:
        self._inner.put(name, data)

    def replace(self, name: str, data: bytes) -> None:
        self._inner.replace(name, data)

    def names(self, prefix: str) -> list[str]:
        return self._inner.names(prefix)


async def test_a_site_that_is_handed_another_model_trains_nothing_and_is_missed(tmp_path: Path) -> None:
    consortium = Consortium.found(tmp_path)
    plan = tiny_plan(participation={"required": [], "minimum_sites": 3, "deadline_s": 8})
    consortium.exchanges[D] = lambda shared: OtherModel(shared, consortium, plan)
    outcome = await consortium.run(plan)
    assert {party: outcome.code(party) for party in outcome.errors} == {D: "exchange.altered"}
    assert outcome.missing(plan, 1) == {D: "site.silent"}
    assert D not in outcome.state.spent
    assert consortium.registered_versions() == 1
