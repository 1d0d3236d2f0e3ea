"""A federation on its way through a phase: terms, what sites record, and officers who sign."""

from __future__ import annotations

from typing import Any

from policies.events import PhaseAdvanced, PhaseMeasured, PhaseOpened
from policies.federation import PHASES
from policies.rollout.sign_off import SignOffStatement, sign_off
from policies.rollout.statements import AgreementRecorded, ConformanceRecorded, PhaseTerms, SignOff
from tests.policies.assembly import Assembly, plan
from tests.policies.founding import CODE, COORDINATOR, OFFICERS, ORIGIN, SITES, named

EVIDENCE = named("evidence")


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


def conformance() -> ConformanceRecorded:
    return ConformanceRecorded(contract_digest=named("contract"), code_digest=CODE)


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


def refusals(assembly: Assembly, body: Any, by: str = COORDINATOR) -> set[str]:  # noqa: ANN401
    return assembly.refusals(assembly.entry(by, body))
