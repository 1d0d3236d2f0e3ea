"""Where a rollout stands, for people: what its terms ask for, what there is of it, and who has signed.

Read off the folded state alone, so that every institution sees the same. Met or not is what the rules say (decision
`phase_exit`), never what the words here compare; signatures lie outside the ledger until a phase ends, so that the
caller brings those it has.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ledger.canonical import JsonValue
from policies.federation import PHASES, OfficerRole, Phase
from policies.gates import figure_text
from policies.rego import installed_rules
from policies.rollout import gate
from policies.rollout.reached import Reached, reached
from policies.rollout.record import Measured, Opened
from policies.rollout.sign_off import SignOffStatement, faulty
from policies.rollout.statements import PhaseTerms, Severity, SignOff
from policies.rollout.thresholds import thresholds

if TYPE_CHECKING:
    from policies.state import FederationState

EVALUATED = (
    "phase.figure",
    "phase.regression",
    "phase.subgroups-missing",
    "phase.subgroup-gap",
    "phase.subgroup-floor",
    "phase.better-off",
)
"""What can be judged of a model that was evaluated alone."""


@dataclass(frozen=True, slots=True)
class Condition:
    code: str
    """Under which the gate refuses while it is missing."""
    asked: str
    there: str
    met: bool

    def to_json(self) -> dict[str, JsonValue]:
        return {"code": self.code, "asked": self.asked, "there": self.there, "met": self.met}


@dataclass(frozen=True, slots=True)
class Signatures:
    """Of one role, over the evidence that was measured last."""

    role: OfficerRole
    needed: int
    signed: int

    def to_json(self) -> dict[str, JsonValue]:
        return {"role": self.role, "needed": self.needed, "signed": self.signed}


@dataclass(frozen=True, slots=True)
class ChampionStanding:
    """A study's champion, as it stands."""

    study: str
    model_digest: str
    plan_digest: str
    round: int
    index: int
    """Of the entry that promoted it."""
    terms: PhaseTerms
    """That it met."""
    evidence_digest: str
    signed_by: tuple[str, ...]
    """Officers."""
    in_doubt: tuple[Severity, ...]
    """Major and critical incidents reported since, of whatever: whether it may be used is for people to say."""

    def described(self) -> str:
        said = f"the champion of {self.study} is model {self.model_digest}, promoted by entry {self.index}"
        return f"{said}; IN DOUBT since: {', '.join(self.in_doubt)}" if self.in_doubt else said

    def to_json(self) -> dict[str, JsonValue]:
        return {
            "study": self.study,
            "model_digest": self.model_digest,
            "plan_digest": self.plan_digest,
            "round": self.round,
            "index": self.index,
            "terms": self.terms.to_json(),
            "evidence_digest": self.evidence_digest,
            "signed_by": list(self.signed_by),
            "in_doubt": list(self.in_doubt),
        }


@dataclass(frozen=True, slots=True)
class Standing:
    phase: Phase
    opened: Opened | None
    conditions: tuple[Condition, ...]
    measured: Measured | None
    signatures: tuple[Signatures, ...]
    champions: tuple[ChampionStanding, ...] = ()

    @property
    def through(self) -> bool:
        """In the clinic, with a champion and nothing under way: the next terms are the next model's."""
        doubted = any(one.in_doubt for one in self.champions)
        return self.phase == PHASES[-1] and self.opened is None and bool(self.champions) and not doubted

    @property
    def missing(self) -> tuple[str, ...]:
        """What the next step waits for, in words; empty when the phase can end."""
        if self.opened is None:
            return () if self.through else (f"terms of {self.phase}",)
        unmet = tuple(f"{one.asked} (now: {one.there})" for one in self.conditions if not one.met)
        if unmet:
            return unmet
        if self.measured is None:
            return ("a measurement",)
        return tuple(
            f"{one.needed - one.signed} more of the role {one.role}"
            for one in self.signatures
            if one.signed < one.needed
        )

    def to_json(self) -> dict[str, JsonValue]:
        conditions: list[JsonValue] = [one.to_json() for one in self.conditions]
        signatures: list[JsonValue] = [one.to_json() for one in self.signatures]
        champions: list[JsonValue] = [one.to_json() for one in self.champions]
        return {
            "phase": self.phase,
            "terms": None if self.opened is None else self.opened.terms.to_json(),
            "opened": None if self.opened is None else self.opened.entry_digest,
            "conditions": conditions,
            "measured": None if self.measured is None else self.measured.entry_digest,
            "signatures": signatures,
            "champions": champions,
            "missing": list(self.missing),
        }


def standing(
    state: FederationState,
    *,
    statement: SignOffStatement | None = None,
    sign_offs: Sequence[SignOff] = (),
) -> Standing:
    """`statement` is what officers are to sign, `sign_offs` what they did; of the latter only sound ones count."""
    opened, federation = state.rollout.opened, state.founded()
    counted = {} if statement is None else faulty(federation, statement, sign_offs)[1]
    signatures = tuple(
        Signatures(role, needed, counted.get(role, 0))
        for role, needed in sorted(federation.sign_offs_for(state.phase).items())
    )
    conditions = () if opened is None else _conditions(state, opened)
    return Standing(state.phase, opened, conditions, state.rollout.measured, signatures, _champions(state))


def _conditions(state: FederationState, opened: Opened) -> tuple[Condition, ...]:
    found = reached(state, opened)
    missing = set(installed_rules().decide("phase_exit", gate.exit_facts(state, opened, found)))
    if "phase.evaluation-missing" in missing:
        missing.update(EVALUATED)
    champion, there = state.rollout.champion(opened.terms.study), _there(state, opened, found)
    before = "the best before" if champion is None else "the champion"
    return tuple(
        Condition(codes.split()[0], asked, there[codes], not (set(codes.split()) & missing))
        for codes, asked in thresholds(opened.terms, before=before).items()
    )


def _there(state: FederationState, opened: Opened, found: Reached) -> dict[str, str]:
    """By the codes of `thresholds`, what there is of what is asked."""
    figure = figure_text(found.figure_micro) + _limits(found)
    passed = [one for one in opened.terms.drills if one not in found.missing_drills]
    return {
        "phase.conformance": _named(found.conforming),
        "phase.agreements": _named(found.agreed),
        "phase.rounds": str(len(found.rounds)),
        "phase.pending": _named([f"round {number}" for _, number in found.pending]),
        "phase.reported": _named(found.reported),
        "phase.tier-low": "none" if found.newest is None else state.plans[found.newest[0]].plan.risk_tier,
        "phase.evaluation-missing": "none" if found.figure_micro is None else figure_text(found.figure_micro),
        "phase.figure": figure,
        "phase.regression": f"{figure} after {figure_text(found.before_micro)}",
        "phase.subgroups-missing phase.subgroup-gap": _named(
            [figure_text(one) for one in found.subgroup_figures_micro]
        ),
        "phase.subgroup-floor": _named([figure_text(one) for one in found.subgroups_judged_micro]),
        "phase.better-off": gate.better_off_text(found),
        "phase.quarantine": _named(sorted(state.quarantined)),
        "phase.drills": _named(passed),
    }


def _limits(found: Reached) -> str:
    whole = None if found.limits is None else found.limits.whole
    return "" if whole is None else f" ({figure_text(whole.low)} to {figure_text(whole.high)})"


def _champions(state: FederationState) -> tuple[ChampionStanding, ...]:
    told = state.rollout
    return tuple(
        ChampionStanding(
            study=study,
            model_digest=one.body.model_digest,
            plan_digest=one.body.plan_digest,
            round=one.body.round,
            index=one.index,
            terms=one.terms,
            evidence_digest=one.body.evidence_digest,
            signed_by=tuple(signed.officer for signed in one.body.sign_offs),
            in_doubt=tuple(
                incident.said.severity
                for incident in told.incidents
                if incident.index > one.index and incident.said.severity != "minor"
            ),
        )
        for study in sorted(told.champions)
        if (one := told.champion(study)) is not None
    )


def _named(names: Sequence[str]) -> str:
    return ", ".join(names) or "none"
