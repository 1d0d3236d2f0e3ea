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
from policies.federation import OfficerRole, Phase
from policies.gates import figure_text
from policies.rego import Rules, installed_rules
from policies.rollout import gate
from policies.rollout.record import Measured, Opened
from policies.rollout.sign_off import SignOffStatement, faulty
from policies.rollout.statements import SignOff

if TYPE_CHECKING:
    from policies.state import FederationState

EVALUATED = ("phase.figure", "phase.regression", "phase.subgroups-missing", "phase.subgroup-gap")
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
class Standing:
    phase: Phase
    opened: Opened | None
    conditions: tuple[Condition, ...]
    measured: Measured | None
    signatures: tuple[Signatures, ...]

    @property
    def missing(self) -> tuple[str, ...]:
        """What the next step waits for, in words; empty when the phase can end."""
        if self.opened is None:
            return (f"terms of {self.phase}",)
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
        return {
            "phase": self.phase,
            "terms": None if self.opened is None else self.opened.terms.to_json(),
            "opened": None if self.opened is None else self.opened.entry_digest,
            "conditions": conditions,
            "measured": None if self.measured is None else self.measured.entry_digest,
            "signatures": signatures,
            "missing": list(self.missing),
        }


def standing(
    state: FederationState,
    *,
    statement: SignOffStatement | None = None,
    sign_offs: Sequence[SignOff] = (),
    rules: Rules | None = None,
) -> Standing:
    """`statement` is what officers are to sign, `sign_offs` what they did; of the latter only sound ones count."""
    opened, federation = state.rollout.opened, state.founded()
    counted = {} if statement is None else faulty(federation, statement, sign_offs)[1]
    signatures = tuple(
        Signatures(role, needed, counted.get(role, 0))
        for role, needed in sorted(federation.sign_offs_for(state.phase).items())
    )
    conditions = () if opened is None else _conditions(state, opened, rules or installed_rules())
    return Standing(state.phase, opened, conditions, state.rollout.measured, signatures)


def _conditions(state: FederationState, opened: Opened, rules: Rules) -> tuple[Condition, ...]:
    missing = set(rules.decide("phase_exit", gate.exit_facts(state, opened)))
    if "phase.evaluation-missing" in missing:
        missing.update(EVALUATED)
    return tuple(
        Condition(code.split()[0], asked, there, not (set(code.split()) & missing))
        for code, asked, there in _asked(state, opened)
    )


def _asked(state: FederationState, opened: Opened) -> list[tuple[str, str, str]]:
    """(code, what the terms ask for, what there is). Codes that belong together are told as one."""
    terms = opened.terms
    rounds = gate.counted_rounds(state, opened)
    newest = rounds[-1] if rounds else None
    evaluated = None if newest is None else state.evaluated.get(newest)
    figure = None if evaluated is None else evaluated.figure_micro
    reported = () if newest is None else sorted(state.reported(*newest))
    sites = [site.name for site in state.founded().sites()]
    conforming = [site for site in sites if gate.conforms(state, site)]
    agreed = [
        site for site in sites if all((site, kind) in state.rollout.agreements for kind in terms.agreements)
    ]
    least = f"{terms.minimum_sites} sites"
    papers = ", ".join(terms.agreements)
    found = [
        ("phase.conformance", f"{least} whose source meets its contract", _named(conforming)),
        ("phase.agreements", f"{least} with {papers} on record" if papers else "", _named(agreed)),
        ("phase.rounds", f"{terms.minimum_rounds} registered rounds of {terms.study}", str(len(rounds))),
        ("phase.reported", f"{least} in the last of them", _named(reported)),
        ("phase.evaluation-missing", "an evaluated model", "none" if figure is None else figure_text(figure)),
        ("phase.figure", f"a figure of at least {terms.minimum_figure:g}", figure_text(figure)),
    ]
    if terms.maximum_regression is not None:
        before = gate.best_before(state, opened)
        asked = f"at most {terms.maximum_regression:g} under the best before"
        found.append(("phase.regression", asked, f"{figure_text(figure)} after {figure_text(before)}"))
    if terms.maximum_subgroup_gap is not None:
        groups = () if evaluated is None else evaluated.subgroup_figures_micro
        asked = f"subgroups at most {terms.maximum_subgroup_gap:g} apart"
        there = ", ".join(map(figure_text, groups)) or "none"
        found.append(("phase.subgroups-missing phase.subgroup-gap", asked, there))
    found.append(("phase.quarantine", "no site in quarantine", _named(sorted(state.quarantined))))
    if terms.drills:
        passed = [one for one in terms.drills if one not in gate.missing_drills(state.rollout, opened)]
        found.append(("phase.drills", f"drills {', '.join(terms.drills)}", _named(passed)))
    return [one for one in found if one[1]]


def _named(names: Sequence[str]) -> str:
    return ", ".join(names) or "none"
