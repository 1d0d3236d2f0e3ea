"""What a phase's evidence says of it: its terms, what of them holds, and on whose word, all read off the ledger.

Federated, noised figures only; no site's own, and nothing of patients. What officers sign covers these bytes
(`policies.rollout.sign_off`). Rounds have documents of their own (`documents`), in packages of their own.
"""

from __future__ import annotations

from ledger.canonical import JsonValue
from policies.plan import Plan
from policies.rollout import gate
from policies.rollout.reached import counted_rounds, reached
from policies.rollout.record import Opened
from policies.rollout.statements import (
    AgreementRecorded,
    ConformanceRecorded,
    DrillRecorded,
    IncidentReported,
    ModelPromoted,
    ModelRolledBack,
    PhaseAdvanced,
    PhaseMeasured,
)
from tasks.evidence.phase_figures import newest_figures
from tasks.evidence.reading import PhaseReading, RuleBrokenError

SCHEMA_VERSION = 1
CHANGE_PLAN = "change-plan"


def phase_document(reading: PhaseReading) -> JsonValue:
    """`exit` is what the rules were told (`policies.rollout.gate.exit_facts`), in whole numbers: with a confidence in
    the terms, `figure_micro` there is the lower limit."""
    opened, state = _opened(reading), reading.state
    measured, found = reading.measured, reached(state, opened)
    assert isinstance(measured.body, PhaseMeasured)  # noqa: S101 - what `read_phase` ends with
    federation = state.founded()
    earlier: list[JsonValue] = [
        {"index": told.index, "ended": body.ended, "evidence_digest": body.evidence_digest}
        for told, body in reading.all_of(PhaseAdvanced)
    ]
    incidents: list[JsonValue] = [
        {"index": told.index, "said_by": told.institution, "severity": body.severity, "kind": body.kind}
        for told, body in reading.all_of(IncidentReported)
    ]
    needed: dict[str, JsonValue] = {
        role: count for role, count in federation.sign_offs_for(measured.body.phase).items()
    }
    return {
        "schema_version": SCHEMA_VERSION,
        "origin": reading.origin,
        "size": reading.size,
        "phase": measured.body.phase,
        "measured": {"index": measured.index, "entry_digest": measured.entry_digest},
        "opened": {"index": opened.index, "entry_digest": opened.entry_digest},
        "policy_digest": measured.body.policy_digest,
        "terms": opened.terms.to_json(),
        "exit": gate.exit_facts(state, opened, found),
        "newest": newest_figures(state, found, opened.terms.confidence),
        "rounds": _rounds(reading, opened),
        "agreements": _agreements(reading),
        "conformance": _conformance(reading, opened),
        "drills": _drills(reading, opened),
        "incidents": incidents,
        "earlier_phases": earlier,
        "champions": _champions(reading),
        "sign_offs_needed": needed,
    }


def phase_plans(reading: PhaseReading) -> dict[str, Plan]:
    """The plans of the rounds that count, by digest."""
    state = reading.state
    counted = counted_rounds(state, _opened(reading))
    return {digest: state.plans[digest].plan for digest, _ in counted}


def reports_of(reading: PhaseReading) -> dict[str, str]:
    """Digest → the drill of these terms that a report is of, as the newest passing of each names it; and the change
    plan."""
    opened, rollout = _opened(reading), reading.state.rollout
    found: dict[str, str] = {
        rollout.drills[drill].report_digest: drill
        for drill in opened.terms.drills
        if drill in rollout.drills and rollout.drills[drill].index > opened.index
    }
    if opened.terms.change_plan is not None:
        found[opened.terms.change_plan] = CHANGE_PLAN
    return found


def _champions(reading: PhaseReading) -> list[JsonValue]:
    """Promotions and rollbacks, in the order in which they were said."""
    promoted: list[JsonValue] = [
        {
            "index": told.index,
            "promoted": body.model_digest,
            "plan_digest": body.plan_digest,
            "round": body.round,
            "evidence_digest": body.evidence_digest,
            "change_plan_digest": body.change_plan_digest,
        }
        for told, body in reading.all_of(ModelPromoted)
    ]
    rolled_back: list[JsonValue] = [
        {"index": told.index, "rolled_back_to": body.to, "study": body.study, "kind": body.kind}
        for told, body in reading.all_of(ModelRolledBack)
    ]
    return [*promoted, *rolled_back]


def _opened(reading: PhaseReading) -> Opened:
    opened = reading.state.rollout.opened
    if opened is None:
        raise RuleBrokenError("a phase was measured without terms", index=reading.measured.index)
    return opened


def _rounds(reading: PhaseReading, opened: Opened) -> list[JsonValue]:
    state = reading.state
    found: list[JsonValue] = []
    for key in counted_rounds(state, opened):
        plan_digest, number = key
        evaluated = state.evaluated.get(key)
        found.append(
            {
                "plan_digest": plan_digest,
                "round": number,
                "model_digest": state.registered[key].model_digest,
                "version": state.registered[key].version,
                "figure": state.plans[plan_digest].plan.figure,
                "figure_micro": None if evaluated is None else evaluated.figure_micro,
                "subgroup_figures_micro": [] if evaluated is None else list(evaluated.subgroup_figures_micro),
                "reported": list(sorted(state.reported(*key))),
            }
        )
    return found


def _agreements(reading: PhaseReading) -> list[JsonValue]:
    return [
        {
            "index": told.index,
            "site": told.institution,
            "kind": body.kind,
            "document_digest": body.document_digest,
        }
        for told, body in reading.all_of(AgreementRecorded)
    ]


def _conformance(reading: PhaseReading, opened: Opened) -> list[JsonValue]:
    return [
        {
            "index": told.index,
            "site": told.institution,
            "contract_digest": body.contract_digest,
            "code_digest": body.code_digest,
        }
        for told, body in reading.all_of(ConformanceRecorded)
        if told.index > opened.index
    ]


def _drills(reading: PhaseReading, opened: Opened) -> list[JsonValue]:
    return [
        {"index": told.index, "drill": body.drill, "report_digest": body.report_digest}
        for told, body in reading.all_of(DrillRecorded)
        if told.index > opened.index
    ]
