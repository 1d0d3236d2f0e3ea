"""The gates of the rollout: may this be said of it now? Pure readings of the folded state.

The kernel here asks what comes after what; thresholds are rules (decisions `phase_entry` and `phase_exit`), which
are told the facts below in whole numbers. Every reason is collected. Whose signatures count is
`policies.rollout.sign_off`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ledger.errors import Violation
from policies.facts import Facts, micro
from policies.federation import PHASES
from policies.plan import Plan
from policies.rego import Rules, installed_rules
from policies.rollout.record import Opened, Rollout
from policies.rollout.sign_off import sign_off_violations
from policies.rollout.statements import (
    AgreementRecorded,
    ConformanceRecorded,
    DrillRecorded,
    PhaseAdvanced,
    PhaseMeasured,
    PhaseOpened,
    PhaseTerms,
)
from privacy.accounting import MICRO

if TYPE_CHECKING:
    from policies.state import FederationState


_OTHER_POLICY = Violation("phase.other-policy", "the policy in force is another one")


def opening(state: FederationState, body: PhaseOpened, *, rules: Rules | None = None) -> list[Violation]:
    """Terms are of the phase in force, and stand once a round of their study has begun."""
    found = [
        Violation(code, _entry_message(code, state.rollout, body.terms))
        for code in (rules or installed_rules()).decide("phase_entry", entry_facts(state, body.terms))
    ]
    before = state.rollout.opened
    if before is not None and _began(state, before):
        found.append(
            Violation("phase.terms-fixed", "a plan was published under these terms: they stand until it ends")
        )
    return found


def measuring(state: FederationState, body: PhaseMeasured, *, rules: Rules | None = None) -> list[Violation]:
    """The terms in force are met now, under the policy in force."""
    opened = state.rollout.opened
    if opened is None:
        return [_not_opened(state)]
    found: list[Violation] = []
    if (body.phase, body.opened) != (state.phase, opened.entry_digest):
        found.append(Violation("phase.other-terms", "these are not the terms in force"))
    if body.policy_digest != state.policy_digest:
        found.append(_OTHER_POLICY)
    return [*found, *exit_violations(state, opened, rules=rules)]


def advance(state: FederationState, body: PhaseAdvanced, *, rules: Rules | None = None) -> list[Violation]:
    """The next phase begins: on what was measured, which still holds, signed by whom the federation wants."""
    opened, measured = state.rollout.opened, state.rollout.measured
    found: list[Violation] = []
    if body.ended != state.phase:
        at = PHASES.index(state.phase)
        then = f"after {state.phase} comes {PHASES[at + 1]}" if at + 1 < len(PHASES) else "this is the last"
        found.append(Violation("phase.order", f"{body.phase} cannot begin now: {then}"))
    if opened is None:
        return [*found, _not_opened(state)]
    if measured is None:
        said = "nothing was measured under these terms, or an incident was reported since"
        found.append(Violation("phase.not-measured", said))
    elif body.measured != measured.entry_digest:
        found.append(Violation("phase.other-evidence", "there is newer evidence than this, or none like it"))
    in_force = state.policy_digest
    if body.policy_digest != in_force or (measured is not None and measured.policy_digest != in_force):
        found.append(_OTHER_POLICY)
    found += exit_violations(state, opened, rules=rules)
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
    return []


def exit_violations(state: FederationState, opened: Opened, *, rules: Rules | None = None) -> list[Violation]:
    """What is missing before the phase of these terms may end; signatures apart."""
    told = exit_facts(state, opened)
    return [
        Violation(code, _exit_message(code, state, opened, told))
        for code in (rules or installed_rules()).decide("phase_exit", told)
    ]


def entry_facts(state: FederationState, terms: PhaseTerms) -> Facts:
    return {
        "phase": state.phase,
        "terms": {
            "phase": terms.phase,
            "minimum_sites": terms.minimum_sites,
            "minimum_figure_micro": micro(terms.minimum_figure),
            "regression_bounded": terms.maximum_regression is not None,
            "subgroups_bounded": terms.maximum_subgroup_gap is not None,
            "agreements": list(terms.agreements),
            "drills": list(terms.drills),
        },
        "sites": len(state.founded().sites()),
    }


def exit_facts(state: FederationState, opened: Opened) -> Facts:
    terms, told = opened.terms, state.rollout
    sites = [site.name for site in state.founded().sites()]
    rounds = counted_rounds(state, opened)
    newest = rounds[-1] if rounds else None
    evaluated = None if newest is None else state.evaluated.get(newest)
    figure = None if evaluated is None else evaluated.figure_micro
    subgroups = () if evaluated is None else evaluated.subgroup_figures_micro
    before = best_before(state, opened)
    gap, regression = terms.maximum_subgroup_gap, terms.maximum_regression
    return {
        "sites": {
            "minimum": terms.minimum_sites,
            "conformant": sum(conforms(state, site) for site in sites),
            "agreed": sum(
                all((site, kind) in told.agreements for kind in terms.agreements) for site in sites
            ),
            "reported": 0 if newest is None else len(state.reported(*newest)),
            "quarantined": len(state.quarantined),
        },
        "rounds": {"minimum": terms.minimum_rounds, "registered": len(rounds)},
        "evaluated": figure is not None,
        "figure_micro": figure or 0,
        "minimum_figure_micro": micro(terms.minimum_figure),
        "in_force": {"known": before is not None, "figure_micro": before or 0},
        "maximum_regression_micro": MICRO if regression is None else micro(regression),
        "subgroups": {
            "wanted": gap is not None,
            "figure_micro": [] if None in subgroups else list(subgroups),
        },
        "maximum_subgroup_gap_micro": MICRO if gap is None else micro(gap),
        "missing_drills": list(missing_drills(told, opened)),
    }


def counted_rounds(state: FederationState, opened: Opened) -> list[tuple[str, int]]:
    """(plan, round) of the study's models that were registered under plans published since the terms, in order."""
    return [
        key
        for key in state.registered
        if (plan := _plan(state, key[0])) is not None
        and plan.study == opened.terms.study
        and state.published_at[key[0]] > opened.index
    ]


def best_before(state: FederationState, opened: Opened) -> int | None:
    """The best federated figure of the study's models from before the terms, in micro-units."""
    figures = [
        state.evaluated[key].figure_micro
        for key in state.registered
        if key in state.evaluated
        and (plan := _plan(state, key[0])) is not None
        and plan.study == opened.terms.study
        and state.published_at[key[0]] <= opened.index
    ]
    return max((figure for figure in figures if figure is not None), default=None)


def conforms(state: FederationState, site: str) -> bool:
    """Its source met its contract since the terms were published."""
    opened, said = state.rollout.opened, state.rollout.conformance.get(site)
    return opened is not None and said is not None and said[0] > opened.index


def missing_drills(rollout: Rollout, opened: Opened) -> tuple[str, ...]:
    return tuple(
        one
        for one in opened.terms.drills
        if one not in rollout.drills or rollout.drills[one].index < opened.index
    )


def _not_opened(state: FederationState) -> Violation:
    return Violation("phase.not-opened", f"no terms of {state.phase} are published")


def _began(state: FederationState, opened: Opened) -> bool:
    """A plan of the study was published since."""
    return any(
        published.plan.study == opened.terms.study and state.published_at[digest] > opened.index
        for digest, published in state.plans.items()
    )


def _plan(state: FederationState, plan_digest: str) -> Plan | None:
    published = state.plans.get(plan_digest)
    return None if published is None else published.plan


def _entry_message(code: str, rollout: Rollout, terms: PhaseTerms) -> str:
    return {
        "phase.order": f"these are terms of {terms.phase}; the federation is in {rollout.phase}",
        "phase.terms-sites": "the terms ask for more sites than the federation has",
        "phase.terms-weak": f"the terms of {terms.phase} leave out a drill or an agreement that the rules want",
        "phase.terms-bounds": f"the terms of {terms.phase} need a minimum figure above 0.5, and in the clinic "
        "bounds on regression and between subgroups",
    }.get(code, f"the rule {code} refuses the terms")


def _exit_message(code: str, state: FederationState, opened: Opened, told: Facts) -> str:
    terms = opened.terms
    missing = ", ".join(missing_drills(state.rollout, opened))
    wanted = f"{terms.minimum_sites} sites"
    return {
        "phase.conformance": f"{wanted} must have passed the conformance check of their source",
        "phase.agreements": f"{wanted} must have recorded {', '.join(terms.agreements) or 'nothing'}",
        "phase.reported": f"{wanted} must have reported in the last round that counts",
        "phase.quarantine": f"in quarantine: {', '.join(sorted(state.quarantined))}",
        "phase.rounds": f"{terms.minimum_rounds} registered rounds of {terms.study} are needed, there are "
        f"{len(counted_rounds(state, opened))}",
        "phase.evaluation-missing": "there is no evaluated round",
        "phase.figure": f"the newest model's figure is under {terms.minimum_figure:g}",
        "phase.regression": "the newest model's figure is further under the best before than the margin",
        "phase.subgroups-missing": "a subgroup of the newest model has no figure",
        "phase.subgroup-gap": "the subgroups of the newest model lie too far apart",
        "phase.drills": f"not passed since the terms were published: {missing}",
    }.get(code, f"the rule {code} keeps the phase from ending")
