"""A federation on its way through a phase: terms, what sites record, and officers who sign."""

from __future__ import annotations

from typing import Any

from policies.events import ModelPromoted, PhaseAdvanced, PhaseMeasured, PhaseOpened
from policies.federation import PHASES
from policies.plan import Plan
from policies.rollout.drill_report import STEPS, DrillReport, DrillStep
from policies.rollout.reached import source_contract
from policies.rollout.sign_off import SignOffStatement, sign_off
from policies.rollout.statements import (
    AgreementRecorded,
    ConformanceRecorded,
    Drill,
    DrillRecorded,
    PhaseTerms,
    SignOff,
)
from tests.policies.assembly import Assembly, plan
from tests.policies.founding import CODE, COORDINATOR, OFFICERS, ORIGIN, SITES, named

EVIDENCE = named("evidence")
CHANGE_PLAN = named("change plan")
# An AUC of .91 in three groups of a thousand patients each; of few enough to be unsure; and of one group that lags.
SURE = (340, 120, 30, 10, 10, 30, 120, 340) * 3
UNSURE = tuple(count // 20 for count in SURE)
LAGGING = (*SURE[:8], 260, 130, 60, 50, 50, 60, 130, 260, *SURE[:8])


def terms(**fields: Any) -> PhaseTerms:  # noqa: ANN401
    """Of a pilot over the tiny study, whose figure in these tests is what `Assembly.evaluation` says."""
    base = {
        "phase": "pilot", "study": "tiny-study", "minimum_sites": 4, "minimum_rounds": 1, "minimum_figure": 0.51,
    }  # fmt: skip
    return PhaseTerms.from_value({**base, **fields}, what="terms")


def opened(assembly: Assembly | None = None, **fields: Any) -> Assembly:  # noqa: ANN401
    """Founded, terms published, and every site's source checked."""
    assembly = assembly or Assembly(plan=plan(rounds=2)).reach("founded")
    assembly.say(COORDINATOR, PhaseOpened(terms=terms(**fields)))
    for site in SITES:
        assembly.say(site, conformance())
    return assembly


def worked(assembly: Assembly | None = None, **fields: Any) -> Assembly:  # noqa: ANN401
    """And one model registered."""
    return opened(assembly, **fields).reach_after_founding("registered")


def measurement(assembly: Assembly, **changed: Any) -> PhaseMeasured:  # noqa: ANN401
    state = assembly.state
    opened = state.rollout.opened
    fields = {
        "phase": state.phase,
        "opened": named("nothing") if opened is None else opened.entry_digest,
        "policy_digest": state.policy_digest,
        **changed,
    }
    return PhaseMeasured(**fields)


def measured(assembly: Assembly | None = None, **fields: Any) -> Assembly:  # noqa: ANN401
    """And the terms found to be met."""
    assembly = worked(assembly, **fields)
    assembly.say(COORDINATOR, measurement(assembly))
    return assembly


def phantoms() -> dict[str, object]:
    """What the tiny plan says of its data, of phantoms."""
    return {**plan().data.to_json(), "source": "phantoms"}


def conformance(contract: str | None = None, *, code: str = CODE) -> ConformanceRecorded:
    """By default to the tiny plan's contract, with the code that it approves."""
    return ConformanceRecorded(contract_digest=contract or source_contract(plan()), code_digest=code)


def agreements() -> tuple[AgreementRecorded, ...]:
    return tuple(AgreementRecorded(kind=kind, document_digest=named(kind)) for kind in ("baa", "dpa", "irb"))


def statement(assembly: Assembly, **changed: Any) -> SignOffStatement:  # noqa: ANN401
    last = assembly.state.rollout.measured
    fields = {
        "schema_version": 1,
        "origin": ORIGIN,
        "phase": assembly.state.phase,
        "measured": named("nothing") if last is None else last.entry_digest,
        "evidence_digest": EVIDENCE,
        "policy_digest": assembly.state.policy_digest,
        **changed,
    }
    return SignOffStatement(**fields)


def signatures(
    assembly: Assembly,
    *names: str,
    **changed: Any,  # noqa: ANN401
) -> tuple[SignOff, ...]:
    said, federation = statement(assembly, **changed), assembly.state.founded()
    found = []
    for name in names or OFFICERS:
        officer = federation.officer(name)
        assert officer is not None
        found.append(sign_off(said, officer, OFFICERS[name]))
    return tuple(found)


def advanced(assembly: Assembly, **changed: Any) -> PhaseAdvanced:  # noqa: ANN401
    said = statement(assembly)
    there = PHASES[min(PHASES.index(said.phase) + 1, len(PHASES) - 1)]
    fields = {
        "phase": there,
        "measured": said.measured,
        "evidence_digest": EVIDENCE,
        "policy_digest": said.policy_digest,
        "sign_offs": signatures(assembly),
        **changed,
    }
    return PhaseAdvanced(**fields)


def clinical_plan(**fields: object) -> Plan:
    """Of high risk, with figures of subgroups."""
    evaluation = {"bins": 4, "noise_std": 3.0, "subgroups": "sex"}
    return plan(**{"rounds": 2, "risk_tier": "high", "evaluation": evaluation, **fields})


def clinical_terms(**fields: Any) -> PhaseTerms:  # noqa: ANN401
    base = {
        "phase": "clinical", "minimum_figure": 0.8, "maximum_regression": 0.05, "confidence": 0.95,
        "maximum_subgroup_gap": 0.1, "minimum_subgroup_figure": 0.7, "drills": ["rollback", "drift"],
        "change_plan": CHANGE_PLAN,
    }  # fmt: skip
    return terms(**{**base, **fields})


def in_the_clinic(histogram: tuple[int, ...] = SURE, **fields: Any) -> Assembly:  # noqa: ANN401
    """Founded in its last phase: terms, checked sources, drills passed, and a model registered."""
    assembly = Assembly(plan=clinical_plan(), phase="clinical", histogram=histogram).reach("founded")
    return again(assembly, clinical_terms(**fields))


def again(assembly: Assembly, said: PhaseTerms, *, edition: str = "1", **fields: object) -> Assembly:
    """A clinical phase under these terms, up to a registered model."""
    assembly.say(COORDINATOR, PhaseOpened(terms=said))
    for site in SITES:
        assembly.say(site, conformance())
    for drill in said.drills:
        report = named(f"{drill} {assembly.state.size}")
        assembly.say(COORDINATOR, DrillRecorded(drill=drill, report_digest=report))
    assembly.plan = clinical_plan(edition=edition, **fields)
    return assembly.reach_after_founding("registered")


def promoted(assembly: Assembly, **changed: Any) -> ModelPromoted:  # noqa: ANN401
    said = statement(assembly)
    fields = {
        "plan_digest": assembly.digest,
        "round": 1,
        "model_digest": named("model 1"),
        "measured": said.measured,
        "evidence_digest": EVIDENCE,
        "policy_digest": said.policy_digest,
        "change_plan_digest": CHANGE_PLAN,
        "sign_offs": signatures(assembly),
        **changed,
    }
    return ModelPromoted(**fields)


def refusals(assembly: Assembly, body: Any, by: str = COORDINATOR) -> set[str]:  # noqa: ANN401
    return assembly.refusals(assembly.entry(by, body))


def drill_report(
    drill: Drill, *, passed: bool = True, sabotaged: bool = False, policy_digest: str = named("policy")
) -> bytes:
    """A report as a drill leaves it."""
    report = DrillReport(
        schema_version=1,
        drill=drill,
        passed=passed,
        sabotaged=sabotaged,
        steps=tuple(DrillStep(name=name, met=passed) for name in STEPS[drill]),
        ledger=None,
        code_digest=CODE,
        policy_digest=policy_digest,
    )
    return report.canonical_bytes()
