"""From the closed set to its sum: the reports, the answers so far, and how many holders found the same.

The coordinator opens before it releases, every key holder before it signs, and every site counts the openings before
it follows. What an answer and an opening are is `policies.answer` and `policies.opening`; making them is
`tasks.site.opening`.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

from adapters import mail, objects
from adapters.exchange import Exchange
from ledger.canonical import digest
from ledger.errors import CodedError
from policies.answer import SumAnswer, read_answer
from policies.events import Published
from policies.opening import SignedOpening, read_opening
from policies.protection import closed_receipts, opened_groups
from policies.receipt import Step
from policies.state import FederationState
from privacy.masking.closed_set import ContradictionError
from privacy.masking.shares_part import BadShareError
from privacy.packing import SumOutOfRangeError
from privacy.protected_sum import Answer, SumUnopenedError
from tasks.background import DeadlineError
from tasks.summing import GroupSum, answers_wanted, load_reports, opening_needs_updates, sum_terms
from tasks.worker.model_session import ModelSession
from tasks.worker.process import Worker

T = TypeVar("T")
FINAL_CODES = frozenset((SumOutOfRangeError.code, BadShareError.code, ContradictionError.code))
"""Which no further answer changes."""
GRACE_S = 10.0
"""How long answers are waited for once there may be enough without them: a site can fail after it reported."""


class NotOpenedError(CodedError):
    """Not yet: answers are missing that may still come."""

    code = "opening.too-few"


class ImpossibleSumError(CodedError):
    """Never: everybody answered, and the sum does not open, or to nothing that honest sites add up to."""

    code = "opening.impossible"


class Opener(Protocol):
    """The coordinator, or a site that holds a key."""

    exchange: Exchange

    @property
    def state(self) -> FederationState: ...

    @property
    def worker(self) -> Worker[ModelSession]: ...

    async def until(
        self, found: Callable[[FederationState], T | None], *, timeout_s: float, waiting_for: str
    ) -> T: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """The opened sums of a step's groups, one behind the other, and how many sites are in each."""

    lanes: bytes
    sizes: tuple[int, ...]

    @property
    def digest(self) -> str:
        return digest(self.lanes)


async def open_closed(
    party: Opener,
    published: Published,
    round_number: int,
    kind: Step,
    open_sums: Callable[[list[GroupSum]], Awaitable[bytes]],
) -> Opened:
    """Open the closed set's sums in the party's process as soon as enough sites answered; raises `NotOpenedError`,
    naming who did not, if they never do."""
    deadline_s = float(published.plan.participation.deadline_s)
    began, grace_s = time.monotonic(), min(GRACE_S, deadline_s / 4)
    groups = await _groups(party, published, round_number, kind)
    while True:
        complete = await _answers(party, published, round_number, kind, groups, timeout_s=grace_s)
        groups = [with_answers(party, published, round_number, kind, group) for group in groups]
        try:
            return Opened(lanes=await open_sums(groups), sizes=tuple(len(group.closed) for group in groups))
        except CodedError as error:
            if error.code not in FINAL_CODES and error.code != SumUnopenedError.code:
                raise
            said = f"the sum of round {round_number} cannot be opened: {error.public_message}"
            said += "".join(complaints(party, published, round_number, kind, groups))
            if complete or error.code in FINAL_CODES:
                raise ImpossibleSumError(said, remedy="Run another plan without these sites.") from None
            if time.monotonic() - began > deadline_s:
                raise NotOpenedError(
                    said, remedy="See whether these sites are running; then resume."
                ) from None


async def _groups(party: Opener, published: Published, round_number: int, kind: Step) -> list[GroupSum]:
    state, plan_digest = party.state, published.plan_digest
    after = round_number if kind == "training" else round_number + 1
    model_digest = state.model_before(plan_digest, after) or ""
    receipts = closed_receipts(state, plan_digest, round_number, kind)
    found = []
    for group, _ in opened_groups(state, plan_digest, round_number, kind):
        terms = sum_terms(
            state, party.exchange, published, round_number, kind, model_digest=model_digest, group=group
        )
        sizes = await party.worker.call(ModelSession.message_sizes, published.plan, terms)
        closed = load_reports(
            party.exchange, receipts[group], sizes, with_updates=opening_needs_updates(published.plan)
        )
        found.append(GroupSum(terms=terms, closed=closed, answers={}, sizes=sizes))
    return found


async def _answers(
    party: Opener,
    published: Published,
    round_number: int,
    kind: Step,
    groups: list[GroupSum],
    *,
    timeout_s: float,
) -> bool:
    """Wait until everybody who should answer did, but no longer than `timeout_s`; whether they did."""

    wanted = {
        site for group in groups for site in answers_wanted(published.plan, group.terms, tuple(group.closed))
    }
    there: set[str] = set()

    def everybody(state: FederationState) -> bool | None:
        # What is there stays: a signature is not checked again at every look.
        there.update(
            site
            for site in wanted - there
            if said(party.exchange, state, published, round_number, kind, site) is not None
        )
        return there == wanted or None

    try:
        return await party.until(everybody, timeout_s=timeout_s, waiting_for="answers")
    except DeadlineError:
        return False


def with_answers(
    party: Opener, published: Published, round_number: int, kind: Step, group: GroupSum
) -> GroupSum:
    """The group's sum with every answer that is there and whole."""
    found: dict[str, Answer] = {}
    for site in sorted(answers_wanted(published.plan, group.terms, tuple(group.closed))):
        statement = said(party.exchange, party.state, published, round_number, kind, site)
        try:
            if statement is not None and not statement.complaints:
                found[site] = Answer(
                    unmask=_loaded(party.exchange, statement.unmask_digest, group.sizes.unmask),
                    part=_loaded(party.exchange, statement.part_digest, group.sizes.part),
                )
        except CodedError:
            continue  # what it signed is not there, or not what it signed: it has not answered
    return replace(group, answers=found)


def complaints(
    party: Opener, published: Published, round_number: int, kind: Step, groups: list[GroupSum]
) -> list[str]:
    """What sites of the closed set say of others' shares, in words."""
    found = []
    for site in sorted({site for group in groups for site in group.closed}):
        statement = said(party.exchange, party.state, published, round_number, kind, site)
        if statement is not None and statement.complaints:
            found.append(f"; {site} says that the shares of {', '.join(statement.complaints)} are bad")
    return found


def _loaded(exchange: Exchange, object_digest: str | None, at_most_bytes: int) -> bytes:
    if object_digest is None:
        return b""
    return objects.load(exchange, object_digest, at_most_bytes=at_most_bytes)


def said(
    exchange: Exchange,
    state: FederationState,
    published: Published,
    round_number: int,
    kind: Step,
    site: str,
) -> SumAnswer | None:
    """What the site signed for this closed set, if it did."""
    digest_of_plan = published.plan_digest
    data = mail.fetch(exchange, f"{mail.answers(digest_of_plan, round_number, kind)}/{site}")
    found = None if data is None else read_answer(data, state.founded(), site)
    closed = state.closed.get((digest_of_plan, round_number, kind))
    if found is None or closed is None:
        return None
    about = (found.origin, found.plan_digest, found.round, found.step, found.closed_digest)
    wanted = (state.origin, digest_of_plan, round_number, kind, closed.content_digest())
    return found if about == wanted else None


def agreed_sum(
    exchange: Exchange,
    state: FederationState,
    published: Published,
    round_number: int,
    kind: Step,
    *,
    sum_digest: str,
    outcome_digest: str | None,
) -> tuple[SignedOpening, ...] | None:
    """The signed openings of enough key holders who found this sum and outcome; None until then. NotOpenedError as
    soon as every key holder of the roster has said what it found, and too few of them this."""
    federation, digest_of_plan = state.founded(), published.plan_digest
    required = federation.openings_required()
    silent = {*federation.key_holders} & {*state.rosters[digest_of_plan]}
    votes: list[SignedOpening] = []
    place = mail.openings(digest_of_plan, round_number, kind)
    for holder in federation.key_holders:
        data = mail.fetch(exchange, f"{place}/{holder}")
        found = None if data is None else read_opening(data, federation, holder)
        if data is None or found is None:
            continue
        about = (found.origin, found.plan_digest, found.round, found.step)
        if about != (state.origin, digest_of_plan, round_number, kind):
            continue
        silent.discard(holder)
        if (found.sum_digest, found.outcome_digest) == (sum_digest, outcome_digest):
            votes.append(SignedOpening.from_canonical(data, what="opening"))
    if len(votes) >= required:
        return tuple(votes)
    if not silent:  # a holder opens a set once, and repeats what it said
        raise NotOpenedError(
            f"only {len(votes)} of the {required} key holders needed found the same sum in round {round_number}",
            remedy="All of them have answered: compare their openings; whoever differs, or the coordinator, is "
            "wrong.",
        )
    return None
