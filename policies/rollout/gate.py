"""The gates of the rollout: may this be said of it now? Pure readings of the folded state.

The kernel here asks what comes after what; thresholds are rules (decisions `phase_entry` and `phase_exit`), which
are told the facts below in whole numbers. Every reason is collected. Whose signatures count is
`policies.rollout.sign_off`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ledger.errors import Violation
from policies.facts import NEVER, Facts, figure_facts, micro
from policies.federation import PHASES
from policies.rego import installed_rules
from policies.rollout.reached import Reached, began, conforms, reached
from policies.rollout.record import Opened
from policies.rollout.sign_off import sign_off_violations
from policies.rollout.statements import (
    AgreementRecorded,
    ConformanceRecorded,
    DrillRecorded,
    ModelPromoted,
    PhaseAdvanced,
    PhaseMeasured,
    PhaseOpened,
    PhaseTerms,
)

if TYPE_CHECKING:
    from policies.state import FederationState


_OTHER_POLICY = Violation("phase.other-policy", "the policy in force is another one")


def opening(state: FederationState, body: PhaseOpened) -> list[Violation]:
    """Terms are of the phase in force, and stand once a round of their study has begun."""
    found = [
        Violation(code, _entry_message(code, state, body.terms))
        for code in installed_rules().decide("phase_entry", entry_facts(state, body.terms))
    ]
    before = state.rollout.opened
    if before is not None and began(state, before):
        found.append(
            Violation("phase.terms-fixed", "a plan was published under these terms: they stand until it ends")
        )
    return found


def measuring(state: FederationState, body: PhaseMeasured) -> list[Violation]:
    """The terms in force are met now, under the policy in force."""
    opened = state.rollout.opened
    if opened is None:
        return [_not_opened(state)]
    found: list[Violation] = []
    if (body.phase, body.opened) != (state.phase, opened.entry_digest):
        found.append(Violation("phase.other-terms", "these are not the terms in force"))
    if body.policy_digest != state.policy_digest:
        found.append(_OTHER_POLICY)
    return [*found, *exit_violations(state, opened)]


def advance(state: FederationState, body: PhaseAdvanced) -> list[Violation]:
    """The next phase begins: on what was measured, which still holds, signed by whom the federation wants."""
    found: list[Violation] = []
    if body.ended != state.phase:
        at = PHASES.index(state.phase)
        then = f"after {state.phase} comes {PHASES[at + 1]}" if at + 1 < len(PHASES) else "this is the last"
        found.append(Violation("phase.order", f"{body.phase} cannot begin now: {then}"))
    return [*found, *ending(state, body)]


def ending(state: FederationState, body: PhaseAdvanced | ModelPromoted) -> list[Violation]:
    """What every end of a phase needs: terms that are met, evidence that is the newest, and signatures over it."""
    opened, measured = state.rollout.opened, state.rollout.measured
    if opened is None:
        return [_not_opened(state)]
    found: list[Violation] = []
    if measured is None:
        said = "nothing was measured under these terms, or an incident was reported since"
        found.append(Violation("phase.not-measured", said))
    elif body.measured != measured.entry_digest:
        found.append(Violation("phase.other-evidence", "there is newer evidence than this, or none like it"))
    in_force = state.policy_digest
    if body.policy_digest != in_force or (measured is not None and measured.policy_digest != in_force):
        found.append(_OTHER_POLICY)
    found += exit_violations(state, opened)
    return [*found, *sign_off_violations(state.founded(), body)]


def agreement(state: FederationState, institution: str, body: AgreementRecorded) -> list[Violation]:
    if state.rollout.agreements.get((institution, body.kind)) == body.document_digest:
        return [Violation("agreement.twice", f"{institution} has recorded this agreement already")]
    return []


def conformance(state: FederationState, institution: str, body: ConformanceRecorded) -> list[Violation]:
    opened = state.rollout.opened
    if opened is None:
        return [Violation("conformance.not-asked", "no terms are in force for which it would count")]
    if conforms(state, institution) and state.rollout.conformance[institution][1] == body:
        return [Violation("conformance.twice", f"{institution} has recorded this already")]
    return []


def drill(state: FederationState, body: DrillRecorded) -> list[Violation]:
    opened = state.rollout.opened
    if opened is None or body.drill not in opened.terms.drills:
        return [Violation("drill.not-asked", f"the terms in force ask for no drill {body.drill}")]
    if body.report_digest in state.rollout.drill_reports:
        return [Violation("drill.twice", "this report was recorded before, for these terms or others")]
    return []


def exit_violations(state: FederationState, opened: Opened) -> list[Violation]:
    """What is missing before the phase of these terms may end; signatures apart."""
    found = reached(state, opened)
    return [
        Violation(code, _exit_message(code, state, opened, found))
        for code in installed_rules().decide("phase_exit", exit_facts(state, opened, found))
    ]


def entry_facts(state: FederationState, terms: PhaseTerms) -> Facts:
    return {
        "phase": state.phase,
        "terms": {
            "phase": terms.phase,
            "minimum_sites": max(terms.minimum_sites, terms.minimum_better_off or 0),
            "minimum_figure_micro": micro(terms.minimum_figure),
            "maximum_regression_micro": _bound_micro(terms.maximum_regression),
            "maximum_subgroup_gap_micro": _bound_micro(terms.maximum_subgroup_gap),
            "minimum_subgroup_figure_micro": micro(terms.minimum_subgroup_figure or 0.0),
            "confidence_micro": micro(terms.confidence or 0.0),
            "change_plan": terms.change_plan or "",
            "agreements": list(terms.agreements),
            "drills": list(terms.drills),
        },
        "sites": len(state.founded().sites()),
    }


def _bound_micro(bound: float | None) -> int:
    return NEVER if bound is None else micro(bound)


def exit_facts(state: FederationState, opened: Opened, found: Reached) -> Facts:
    """`found` is what `reached` found of these terms."""
    terms, judged = opened.terms, found.subgroups_judged_micro
    floor = terms.minimum_subgroup_figure
    return {
        "sites": {
            "minimum": terms.minimum_sites,
            "conformant": len(found.conforming),
            "agreed": len(found.agreed),
            "reported": len(found.reported),
            "quarantined": len(state.quarantined),
        },
        "rounds": {
            "minimum": terms.minimum_rounds,
            "registered": len(found.rounds),
            "pending": len(found.pending),
        },
        "phase": terms.phase,
        "risk_tier": "" if found.newest is None else state.plans[found.newest[0]].plan.risk_tier,
        **figure_facts(
            figure_micro=found.judged_micro,
            minimum_figure=terms.minimum_figure,
            in_force_micro=found.before_micro,
            maximum_regression=terms.maximum_regression,
            subgroups_micro=found.subgroup_figures_micro,
            maximum_subgroup_gap=terms.maximum_subgroup_gap,
        ),
        "better_off": {
            "wanted": terms.minimum_better_off is not None,
            "minimum": terms.minimum_better_off or 0,
            "answered": 0 if found.better_off is None else found.better_off.yes,
        },
        "subgroup_floor": {
            "wanted": floor is not None,
            "minimum_micro": micro(floor or 0.0),
            "figure_micro": [] if None in judged else list(judged),
        },
        "missing_drills": list(found.missing_drills),
    }


def _not_opened(state: FederationState) -> Violation:
    return Violation("phase.not-opened", f"no terms of {state.phase} are published")


def _entry_message(code: str, state: FederationState, terms: PhaseTerms) -> str:
    asked, sites = max(terms.minimum_sites, terms.minimum_better_off or 0), len(state.founded().sites())
    example = f"deployments/examples/rollout/{terms.phase}.yaml has all of them"
    sure = (
        ", a confidence of at least 0.9, bounds of at most 0.2 on regression and between subgroups, and a floor of "
        "these above 0.5"
    )
    return {
        "phase.order": f"these are terms of {terms.phase}; the federation is in {state.phase}",
        "phase.terms-sites": f"the terms ask for {asked} sites, the federation has {sites}",
        "phase.terms-weak": f"the terms of {terms.phase} leave out a drill, an agreement or a change plan that the "
        f"rules want: {example}",
        "phase.terms-bounds": f"the terms of {terms.phase} need a minimum figure above 0.5"
        f"{sure if terms.phase == PHASES[-1] else ''}",
    }.get(code, f"the rule {code} refuses the terms")


def better_off_text(found: Reached) -> str:
    """What the newest model's sites answered, in words."""
    if not found.rounds:
        return "no model yet"
    return "its plan did not ask them" if found.better_off is None else found.better_off.text


def _exit_message(code: str, state: FederationState, opened: Opened, found: Reached) -> str:
    terms = opened.terms
    missing = ", ".join(found.missing_drills)
    wanted, newest = f"{terms.minimum_sites} sites", _judged(terms, "the newest model's figure")
    return {
        "phase.conformance": f"{wanted} must have passed the conformance check of their source"
        f"{'' if terms.phase == PHASES[0] else ', under the plan of the newest model'}",
        "phase.agreements": f"{wanted} must have recorded {', '.join(terms.agreements) or 'nothing'}",
        "phase.reported": f"{wanted} that conform and agreed must be in the model and in the figures of the last "
        "round that counts",
        "phase.quarantine": f"in quarantine: {', '.join(sorted(state.quarantined))}",
        "phase.rounds": f"{terms.minimum_rounds} registered rounds of {terms.study} are needed, there are "
        f"{len(found.rounds)}",
        "phase.pending": f"{len(found.pending)} evaluated rounds are neither registered nor refused: run their plans "
        "to the end",
        "phase.tier-low": "the newest model learned under a plan of a lower risk tier than high",
        "phase.evaluation-missing": "there is no evaluated round",
        "phase.figure": f"{newest} is under {terms.minimum_figure:g}",
        "phase.regression": f"{newest} is further under the champion's, or the best before, than the margin",
        "phase.subgroups-missing": "a subgroup of the newest model has no figure",
        "phase.subgroup-gap": "the subgroups of the newest model lie too far apart",
        "phase.better-off": f"{terms.minimum_better_off} sites must have answered that the newest model is no worse "
        f"for them than their own: {better_off_text(found)}",
        "phase.subgroup-floor": f"{_judged(terms, 'a subgroup')} is under {terms.minimum_subgroup_figure or 0:g}",
        "phase.drills": f"not passed since the terms were published: {missing}",
    }.get(code, f"the rule {code} keeps the phase from ending")


def _judged(terms: PhaseTerms, what: str) -> str:
    return what if terms.confidence is None else f"the lower {terms.confidence:.0%} limit of {what}"
