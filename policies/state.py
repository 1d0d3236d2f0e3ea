"""The federation's state, folded from ledger events one at a time. Nothing else is the source of truth for
budgets, rounds, receipts and verdicts.

Every institution folds the same log: the coordinator before it appends, each witness before it cosigns, each
site before it acts, an auditor afterwards. Whether an event is allowed is decided in `policies.admission`;
this module verifies who says it, keeps the records, and applies what was allowed. It reads no clock, no
file and no network, and an event that is refused leaves it unchanged.
"""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass, field

from ledger.errors import CodedError, PolicyViolation, Violation
from ledger.event import Event, SignedEvent, parse_entry
from policies import admission
from policies.events import (
    AggregateReleased,
    Body,
    BudgetReserved,
    EvaluationRecorded,
    GateVerdict,
    KeyRotated,
    ModelRegistered,
    PlanApproved,
    PlanPublished,
    RoundClosed,
    TrainingReceipt,
    UpdateRefused,
    parse_body,
)
from policies.federation import Federation
from policies.receipt import FIRST_RECEIPT, Statement, Step
from privacy import accounting
from privacy.accounting import Curve

NO_PREVIOUS = "0" * 64


@dataclass(frozen=True, slots=True)
class Receipt:
    """A receipt on the ledger. `entry_digest` names it in `round.closed`."""

    site: str
    index: int
    entry_digest: str
    statement: Statement


@dataclass(frozen=True, slots=True)
class Chain:
    """Where an institution's own events stand: the next sequence number and the entry before it."""

    sequence: int = 0
    previous: str = NO_PREVIOUS


@dataclass(frozen=True, slots=True)
class ReceiptChain:
    sequence: int = 0
    previous: str = FIRST_RECEIPT


@dataclass(slots=True)
class FederationState:
    """All tables hold frozen values, so that `fork` is a shallow copy of each."""

    origin: str
    size: int = 0
    log_time_s: int = 0
    federation: Federation | None = None
    chains: dict[str, Chain] = field(default_factory=dict)
    receipt_chains: dict[str, ReceiptChain] = field(default_factory=dict)
    spent: dict[str, Curve] = field(default_factory=dict)
    sum_keys: dict[str, KeyRotated] = field(default_factory=dict)
    plans: dict[str, PlanPublished] = field(default_factory=dict)
    approvals: dict[str, frozenset[str]] = field(default_factory=dict)
    attempts: dict[tuple[str, int, str], int] = field(default_factory=dict)
    receipts: dict[tuple[str, int, Step, str], Receipt] = field(default_factory=dict)
    refusals: dict[tuple[str, int, Step, str], str] = field(default_factory=dict)
    closed: dict[tuple[str, int, Step], RoundClosed] = field(default_factory=dict)
    released: dict[tuple[str, int], AggregateReleased] = field(default_factory=dict)
    evaluated: dict[tuple[str, int], EvaluationRecorded] = field(default_factory=dict)
    verdicts: dict[tuple[str, int], GateVerdict] = field(default_factory=dict)
    registered: dict[tuple[str, int], ModelRegistered] = field(default_factory=dict)
    indices: dict[str, int] = field(default_factory=dict)
    """Entry digest → index, for every entry so far."""

    def fork(self) -> FederationState:
        """An independent state that starts where this one stands."""
        twin = copy(self)
        for name in self.__dataclass_fields__:
            value = getattr(self, name)
            if isinstance(value, dict):
                setattr(twin, name, dict(value))
        return twin

    def advance(self, index: int, entry: bytes) -> None:
        """Verify one entry and apply it, or raise PolicyViolation with every reason and change nothing."""
        signed, body = self._verified(index, entry)
        event = signed.event
        violations = admission.violations_of(self, event.institution, body)
        if violations:
            raise PolicyViolation(violations)
        self._apply(index, signed, body)
        self.chains[event.institution] = Chain(event.sequence + 1, signed.digest)
        self.indices[signed.digest] = index
        self.log_time_s = max(self.log_time_s, event.time_s)
        self.size = index + 1

    # -- who says it ---------------------------------------------------------------------------------------

    def _verified(self, index: int, entry: bytes) -> tuple[SignedEvent, Body]:
        # 1. The entry comes next, parses, belongs to this log, and its body is one of ours.
        if index != self.size:
            raise PolicyViolation([Violation("event.index", "the entry is not the next one of the log")])
        try:
            signed = parse_entry(entry)
            body = parse_body(signed.event.type, signed.event.body)
        except CodedError as error:
            raise PolicyViolation([Violation(error.code, error.public_message)]) from None
        event = signed.event
        if event.origin != self.origin:
            raise PolicyViolation([Violation("event.origin", "the event was made for another log")])
        # 2. Its institution is a member and signed it; the founding event is signed by every member.
        self._check_signatures(signed, body)
        # 3. It continues its institution's own chain: no gap, no replay, no fork.
        self._check_chain(event)
        return signed, body

    def _check_signatures(self, signed: SignedEvent, body: Body) -> None:
        federation, threshold = self.federation, 1
        if isinstance(body, Federation) and federation is None:
            federation, threshold = body, len(body.members)
        if federation is None:
            raise PolicyViolation(
                [Violation("event.not-founded", "the log does not begin with its founding")]
            )
        member = federation.member(signed.event.institution)
        if member is None:
            raise PolicyViolation([Violation("event.stranger", "the institution is not a member")])
        signers = federation.members if threshold > 1 else (member,)
        keys = {(key := signer.key.verification_key()).keyid: key for signer in signers}
        try:
            signed.verify(keys, threshold=threshold)
        except CodedError:
            raise PolicyViolation(
                [Violation("event.signature", "the event lacks a valid signature of its institution")]
            ) from None

    def _check_chain(self, event: Event) -> None:
        chain = self.chains.get(event.institution, Chain())
        if event.sequence != chain.sequence:
            word = "replayed" if event.sequence < chain.sequence else "out of order"
            code = "event.replayed" if event.sequence < chain.sequence else "event.gap"
            raise PolicyViolation([Violation(code, f"the event of {event.institution} is {word}")])
        if event.previous != chain.previous:
            raise PolicyViolation([Violation("event.chain", "the event does not follow the one before it")])

    # -- what it changes -----------------------------------------------------------------------------------

    def _apply(self, index: int, signed: SignedEvent, body: Body) -> None:
        site = signed.event.institution
        match body:
            case Federation():
                self.federation = body
            case KeyRotated():
                self.sum_keys[body.study] = body
            case PlanPublished():
                self.plans[body.plan_digest] = body
            case PlanApproved():
                approved = self.approvals.get(body.plan_digest, frozenset())
                self.approvals[body.plan_digest] = approved | {site}
            case BudgetReserved():
                self.spent[site] = self.spent_by(site) + accounting.total(body.mechanisms)
                self.attempts[body.plan_digest, body.round, site] = body.attempt
            case TrainingReceipt(statement=statement):
                about = statement.predicate
                key = (about.plan_digest, about.round, about.step, site)
                self.receipts[key] = Receipt(site, index, signed.digest, statement)
                self.receipt_chains[site] = ReceiptChain(about.receipt_sequence + 1, signed.digest)
            case UpdateRefused():
                self.refusals[body.plan_digest, body.round, body.step, body.site] = body.code
            case RoundClosed():
                self.closed[body.plan_digest, body.round, body.step] = body
            case AggregateReleased():
                self.released[body.plan_digest, body.round] = body
            case EvaluationRecorded():
                self.evaluated[body.plan_digest, body.round] = body
            case GateVerdict():
                self.verdicts[body.plan_digest, body.round] = body
            case ModelRegistered():
                self.registered[body.plan_digest, body.round] = body

    # -- what others ask -----------------------------------------------------------------------------------

    def spent_by(self, site: str) -> Curve:
        """What was drawn from a site's pool so far, over all plans."""
        return self.spent.get(site, Curve.zero())

    def usable_receipts(self, plan_digest: str, round_number: int, step: Step) -> tuple[Receipt, ...]:
        """Receipts of one step that were not refused, in the order of their sites' names."""
        return tuple(
            receipt
            for (digest, number, kind, site), receipt in sorted(self.receipts.items())
            if (digest, number, kind) == (plan_digest, round_number, step)
            and (digest, number, kind, site) not in self.refusals
        )

    def model_before(self, plan_digest: str, round_number: int) -> str | None:
        """Digest of the model that `round_number` starts from, if that is decided."""
        if round_number == 1:
            published = self.plans.get(plan_digest)
            return None if published is None else published.base_model_digest
        released = self.released.get((plan_digest, round_number - 1))
        return None if released is None else released.model_digest

    def latest_model(self, study: str) -> str | None:
        """Digest of the newest registered model of a study."""
        latest = None
        for (plan_digest, _), registered in self.registered.items():
            if self.plans[plan_digest].plan.study == study:
                latest = registered.model_digest
        return latest
