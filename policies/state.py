"""The federation's state, folded from ledger events one at a time. Nothing else is the source of truth for
budgets, rounds, receipts and verdicts.

Every institution folds the same log: the coordinator before it appends, each witness before it cosigns, each
site before it acts, an auditor afterwards. Who says an event, and that nothing of an institution's is missing,
is `ledger.chain`'s affair; whether it is allowed, that of `policies.admission`; this module keeps the records and
applies what was allowed. It reads no clock, no file and no network, and an event that is refused leaves it
unchanged.
"""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass, field

from ledger.chain import EventChain
from ledger.errors import CodedError, PolicyViolation, Violation
from ledger.event import JudgedEvent, read_judged
from ledger.policy import quorum
from policies import admission
from policies.budget import given_back
from policies.events import (
    AggregateReleased,
    Body,
    BudgetReserved,
    BudgetSpent,
    ConsentPublished,
    ConsentState,
    EvaluationRecorded,
    GateVerdict,
    IdentityRotated,
    InquiryPublished,
    MemberRetired,
    ModelRegistered,
    PlanApproved,
    PlanPublished,
    PolicyAdopted,
    Published,
    RosterFixed,
    RoundClosed,
    SiteQuarantined,
    SiteReleased,
    StatisticsReleased,
    SumKeyRotated,
    TrainingReceipt,
    UpdateRefused,
    parse_body,
    read_body,
)
from policies.federation import ConsentPolicy, Federation, Phase
from policies.inquiry import AnyPlan
from policies.plan import Plan
from policies.receipt import Step
from policies.receipt_record import PLACED, Place, Receipt, ReceiptChain
from policies.rollout.record import Rollout
from privacy import accounting
from privacy.accounting import Curve


@dataclass(slots=True)
class FederationState:
    """All tables hold frozen values, so that `fork` is a shallow copy of each."""

    origin: str
    founding_digest: str | None = None
    """Content digest of the document that the members founded the federation with: the root of trust of whoever
    has it. Without it the fold believes any founding that is signed by the keys it names."""
    chain: EventChain = field(init=False)
    founded_as: str = ""
    """Content digest of the document that the log was founded with."""
    federation: Federation | None = None
    """The members, keys and key holders in force now."""
    policy_digest: str = ""
    """The policy in force now; `policy_votes` are for others."""
    policy_votes: dict[str, frozenset[str]] = field(default_factory=dict)
    rollout: Rollout = field(default_factory=Rollout)
    quarantined: dict[str, str] = field(default_factory=dict)
    """Site → code of why nothing of it counts."""
    quarantine_entries: dict[str, str] = field(default_factory=dict)
    """Site → digest of the entry that put it there."""
    release_votes: dict[str, frozenset[str]] = field(default_factory=dict)
    """Site in quarantine → the sites that voted to take it back."""
    cleared: dict[str, int] = field(default_factory=dict)
    """Site → index at which the others last took it back; what was held against it before counts no more."""
    consent_policies: dict[tuple[str, str], ConsentPolicy] = field(default_factory=dict)
    """(site, version) → what its patients can agree to."""
    consent_states: dict[str, ConsentState] = field(default_factory=dict)
    """The newest root of every site's consents."""
    receipt_chains: dict[str, ReceiptChain] = field(default_factory=dict)
    spent: dict[str, Curve] = field(default_factory=dict)
    sum_keys: dict[str, SumKeyRotated] = field(default_factory=dict)
    """Plan → the public key of its sums."""
    plans: dict[str, PlanPublished] = field(default_factory=dict)
    inquiries: dict[str, InquiryPublished] = field(default_factory=dict)
    """Plans of joint statistics. `published` finds either kind."""
    published_at: dict[str, int] = field(default_factory=dict)
    """Plan or inquiry → index of the entry that published it."""
    published_time_s: dict[str, int] = field(default_factory=dict)
    """Plan or inquiry → the log's time when it was."""
    approvals: dict[str, frozenset[str]] = field(default_factory=dict)
    masking_keys: dict[tuple[str, str], str] = field(default_factory=dict)
    """(plan, site) → the X25519 public key that the site announced for it, hex."""
    rosters: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Plan → the sites among whom its sums are protected, by name."""
    attempts: dict[tuple[str, int, str], int] = field(default_factory=dict)
    reserved_under: dict[tuple[str, int, str], str] = field(default_factory=dict)
    """The policy that was in force when a site last reserved for a round."""
    consent_reserved: dict[tuple[str, int, str], str] = field(default_factory=dict)
    """The root of its consents under which a site last reserved for a round."""
    settled: dict[tuple[str, int, str], BudgetSpent] = field(default_factory=dict)
    """The last attempt that a site settled in a round."""
    receipts: dict[tuple[str, int, Step, str], Receipt] = field(default_factory=dict)
    refusals: dict[tuple[str, int, Step, str], str] = field(default_factory=dict)
    closed: dict[tuple[str, int, Step], RoundClosed] = field(default_factory=dict)
    released: dict[tuple[str, int], AggregateReleased] = field(default_factory=dict)
    release_entries: dict[str, tuple[str, int]] = field(default_factory=dict)
    """Entry digest of a released aggregate → its plan and round."""
    evaluated: dict[tuple[str, int], EvaluationRecorded] = field(default_factory=dict)
    statistics: dict[str, StatisticsReleased] = field(default_factory=dict)
    """Inquiry → its opened sum."""
    verdicts: dict[tuple[str, int], GateVerdict] = field(default_factory=dict)
    registered: dict[tuple[str, int], ModelRegistered] = field(default_factory=dict)
    registered_at: dict[tuple[str, int], int] = field(default_factory=dict)
    """Plan and round → index of the entry that registered the model."""
    in_force: dict[str, tuple[str, int]] = field(default_factory=dict)
    """Study → plan and round of its newest registered model."""
    going_on: dict[tuple[str, int], bool] = field(default_factory=dict, compare=False)
    """Plan and round without an evaluation, once released → whether the next may follow (`policies.rounds`). What
    was found once and cannot change: no record of its own."""
    indices: dict[str, int] = field(default_factory=dict)
    """Entry digest → index, for every entry so far."""

    def __post_init__(self) -> None:
        self.chain = EventChain(self.origin)

    @property
    def phase(self) -> Phase:
        """How far the rollout has come."""
        return self.rollout.phase

    @property
    def size(self) -> int:
        return self.chain.size

    @property
    def log_time_s(self) -> int:
        """The latest time that any event claimed so far."""
        return self.chain.log_time_s

    def fork(self) -> FederationState:
        """An independent state that starts where this one stands."""
        twin = copy(self)
        twin.chain = self.chain.fork()
        for name in self.__dataclass_fields__:
            value = getattr(self, name)
            if isinstance(value, dict):
                setattr(twin, name, dict(value))
        return twin

    def advance(self, index: int, entry: bytes) -> None:
        """Verify one entry and apply it, or raise PolicyViolation with every reason and change nothing."""
        # 1. The entry comes next, its institution signed it and continues its own chain.
        chain = self.chain.fork()
        try:
            signed = chain.take_in(index, entry)
            body = parse_body(signed.event.type, signed.event.body)
            # 2. It may say this now. Whatever a statement breaks while it is judged refuses it, and nobody else's.
            violations = admission.violations_of(
                self, signed.event.institution, body, log_time_s=chain.log_time_s
            )
        except CodedError as error:
            raise PolicyViolation([Violation(error.code, error.public_message)]) from None
        except Exception:  # a statement that could stop a witness would stop them all
            raise PolicyViolation([Violation("event.unjudged", "the statement cannot be judged")]) from None
        if violations:
            raise PolicyViolation(violations)
        # 3. Take it in.
        told = read_judged(entry)
        self._apply(index, told, body)
        self.chain = chain
        self.indices[told.digest] = index

    def replay(self, index: int, entry: bytes) -> None:
        """Take in an entry that was judged before, without judging it again (see `ledger.gate`)."""
        event = self.chain.replay(index, entry)
        if (index == 0) != (event.type == "federation.founded"):
            raise ValueError("a log begins with its one founding event")
        if event.type == "training.receipt":
            # Most events are receipts, and of a receipt its place alone is needed here.
            about = PLACED.validate_json(event.body_json)["statement"]["predicate"]
            self._take_receipt(index, event, about)
        else:
            self._apply(index, event, read_body(event.type, event.body_json))
        self.indices[event.digest] = index

    # -- what it changes -----------------------------------------------------------------------------------

    def _apply(self, index: int, event: JudgedEvent, body: Body) -> None:
        site = event.institution
        match body:
            case Federation():
                self.founded_as = body.content_digest()
                if self.founding_digest not in (None, self.founded_as):
                    raise ValueError("the log was founded with another document")
                self.federation, self.policy_digest = body, body.policy_digest
                self.rollout = Rollout(phase=body.phase)
                for member in body.members:
                    for policy in member.consent_policies:
                        self.consent_policies[member.name, policy.policy_version] = policy
            case IdentityRotated():
                self.federation = self.founded().with_key(body.name, body.key, body.valid_until_s)
            case MemberRetired():
                self.federation = self.founded().without(body.name)
                self._forget_quarantine(body.name)
                # Of fewer sites the votes that are there may be enough.
                for quarantined in tuple(self.quarantined):
                    self._count_release(index, quarantined)
            case PolicyAdopted():
                self._vote(site, body.policy_digest)
            case SumKeyRotated():
                self.sum_keys[body.plan_digest] = body
            case PlanPublished():
                self.plans[body.plan_digest] = body
                self._publish(body.plan_digest, index, event)
            case InquiryPublished():
                self.inquiries[body.plan_digest] = body
                self._publish(body.plan_digest, index, event)
            case PlanApproved():
                approved = self.approvals.get(body.plan_digest, frozenset())
                self.approvals[body.plan_digest] = approved | {site}
                self.masking_keys[body.plan_digest, site] = body.masking_key
            case RosterFixed():
                self.rosters[body.plan_digest] = body.sites
            case BudgetReserved():
                self.spent[site] = self.spent_by(site) + accounting.total(body.mechanisms)
                drawn = (body.plan_digest, body.round, site)
                self.attempts[drawn] = body.attempt
                self.reserved_under[drawn] = self.policy_digest
                self.consent_reserved[drawn] = self.consent_states[site].root
            case BudgetSpent():
                back = given_back(self.plan_of(body.plan_digest), body.round, body.released)
                if back != Curve.zero():
                    self.spent[site] = self.spent_by(site) - back
                self.settled[body.plan_digest, body.round, site] = body
            case ConsentPublished():
                self.consent_policies[site, body.policy_version] = body
            case ConsentState():
                self.consent_states[site] = body
            case SiteQuarantined():
                self._quarantine(body, event.digest)
            case SiteReleased():
                voters = self.release_votes.get(body.site, frozenset())
                self.release_votes[body.site] = voters | {site}
                self._count_release(index, body.site)
            case TrainingReceipt(statement=statement):
                about = statement.predicate
                place = Place(
                    plan_digest=about.plan_digest,
                    round=about.round,
                    step=about.step,
                    receipt_sequence=about.receipt_sequence,
                )
                self._take_receipt(index, event, place)
            case UpdateRefused():
                self.refusals[body.plan_digest, body.round, body.step, body.site] = body.code
            case RoundClosed():
                self.closed[body.plan_digest, body.round, body.step] = body
            case AggregateReleased():
                self.released[body.plan_digest, body.round] = body
                self.release_entries[event.digest] = (body.plan_digest, body.round)
            case EvaluationRecorded():
                self.evaluated[body.plan_digest, body.round] = body
            case StatisticsReleased():
                self.statistics[body.plan_digest] = body
            case GateVerdict():
                self.verdicts[body.plan_digest, body.round] = body
            case ModelRegistered():
                self.registered[body.plan_digest, body.round] = body
                self.registered_at[body.plan_digest, body.round] = index
                self.in_force[self.plans[body.plan_digest].plan.study] = (body.plan_digest, body.round)
            case _:  # what is said of the rollout
                self.rollout = self.rollout.after(
                    body, institution=site, index=index, entry_digest=event.digest
                )

    def _publish(self, plan_digest: str, index: int, event: JudgedEvent) -> None:
        self.published_at[plan_digest] = index
        # An institution's own time may lie behind the log's.
        self.published_time_s[plan_digest] = max(self.log_time_s, event.time_s)

    def _take_receipt(self, index: int, event: JudgedEvent, about: Place) -> None:
        site = event.institution
        key = (about["plan_digest"], about["round"], about["step"], site)
        self.receipts[key] = Receipt(site, index, event.digest, event.body_json)
        self.receipt_chains[site] = ReceiptChain(about["receipt_sequence"] + 1, event.digest)

    def _quarantine(self, body: SiteQuarantined, entry_digest: str) -> None:
        """What the site reported counts no more, unless its step is closed: that set is fixed."""
        self.quarantined[body.site] = body.code
        self.quarantine_entries[body.site] = entry_digest
        for plan_digest, round_number, step, site in self.receipts:
            if site == body.site and (plan_digest, round_number, step) not in self.closed:
                self.refusals[plan_digest, round_number, step, site] = body.code

    def _count_release(self, index: int, site: str) -> None:
        """Take a site back if a quorum of the sites voted for it."""
        sites = {member.name for member in self.founded().sites()}
        if len(self.release_votes.get(site, frozenset()) & sites) >= quorum(len(sites)):
            self._forget_quarantine(site)
            self.cleared[site] = index

    def _forget_quarantine(self, site: str) -> None:
        for table in (self.quarantined, self.quarantine_entries, self.release_votes):
            table.pop(site, None)

    def _vote(self, site: str, policy_digest: str) -> None:
        """Count a vote; the policy that reaches a quorum of the sites is in force, and the count starts anew."""
        sites = {member.name for member in self.founded().sites()}
        voters = self.policy_votes.get(policy_digest, frozenset()) | {site}
        self.policy_votes[policy_digest] = voters
        if len(voters & sites) >= quorum(len(sites)):
            self.policy_digest, self.policy_votes = policy_digest, {}

    # -- what others ask -----------------------------------------------------------------------------------

    def founded(self) -> Federation:
        """The federation in force, which there is from the first event on."""
        if self.federation is None:
            raise PolicyViolation([Violation("federation.not-founded", "the federation is not founded")])
        return self.federation

    def spent_by(self, site: str) -> Curve:
        """What was drawn from a site's pool so far, over all plans."""
        return self.spent.get(site, Curve.zero())

    def published(self, plan_digest: str) -> Published | None:
        """The plan or inquiry of that digest."""
        return self.plans.get(plan_digest) or self.inquiries.get(plan_digest)

    def plan_of(self, plan_digest: str) -> AnyPlan:
        """What was published under a digest that is on the ledger; KeyError if nothing was."""
        published = self.published(plan_digest)
        if published is None:
            raise KeyError(plan_digest)
        return published.plan

    def is_over(self, plan_digest: str) -> bool:
        """Nothing of the plan is left: it failed a gate, its last model is registered or its figures were judged."""
        plan = self.plan_of(plan_digest)
        if any(not verdict.passed for (about, _), verdict in self.verdicts.items() if about == plan_digest):
            return True
        last = (plan_digest, plan.rounds)
        return last in self.registered or (plan_digest in self.inquiries and last in self.verdicts)

    def usable_receipts(self, plan_digest: str, round_number: int, step: Step) -> tuple[Receipt, ...]:
        """Receipts of one step that were not refused, in the order of their sites' names."""
        keys = ((plan_digest, round_number, step, site) for site in sorted(self.chain.members))
        return tuple(self.receipts[key] for key in keys if key in self.receipts and key not in self.refusals)

    def reported(self, plan_digest: str, round_number: int) -> frozenset[str]:
        """The sites whose training (of an inquiry, whose figures) counts in a round: of the closed set, or of all
        reports so far."""
        step = self.plan_of(plan_digest).steps[0]
        closed = self.closed.get((plan_digest, round_number, step))
        return frozenset(
            receipt.site
            for receipt in self.usable_receipts(plan_digest, round_number, step)
            if closed is None or receipt.entry_digest in closed.receipts
        )

    def model_before(self, plan_digest: str, round_number: int) -> str | None:
        """Digest of the model that `round_number` starts from, if that is decided. An inquiry has none: what its
        sums are bound to instead is the inquiry itself."""
        if plan_digest in self.inquiries:
            return plan_digest
        if round_number == 1:
            published = self.plans.get(plan_digest)
            return None if published is None else published.base_model_digest
        released = self.released.get((plan_digest, round_number - 1))
        return None if released is None else released.model_digest

    def latest_model(self, study: str) -> str | None:
        """Digest of the newest registered model of a study."""
        key = self.in_force.get(study)
        return None if key is None else self.registered[key].model_digest

    def figure_in_force(self, plan: Plan) -> int | None:
        """The federated AUC or Dice, in micro-units, of the newest registered model of the plan's study; None too if
        that model was judged by the other of the two."""
        evaluated = self.evaluated.get(self.in_force.get(plan.study, ("", 0)))
        if evaluated is None:
            return None
        return evaluated.auc_micro if plan.figure == "AUC" else evaluated.dice_micro
