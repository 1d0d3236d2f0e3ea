"""How a phase begins, ends and falls back: stories of those who would hurry it."""

from __future__ import annotations

import pytest

from policies.events import IncidentReported, PhaseOpened, PolicyAdopted, SiteQuarantined
from policies.rollout.reached import source_contract
from policies.rollout.standing import standing
from policies.rollout.statements import DrillRecorded
from tests.policies.assembly import Assembly, plan
from tests.policies.founding import COORDINATOR, SITES, named
from tests.policies.rollout.phases import (
    advanced,
    agreements,
    clinical_terms,
    conformance,
    measured,
    measurement,
    opened,
    phantoms,
    refusals,
    signatures,
    terms,
    worked,
)

A, B, C, D = SITES


def test_a_pilot_that_met_its_terms_ends_and_the_expansion_begins() -> None:
    assembly = measured()
    assembly.say(COORDINATOR, advanced(assembly))
    assert assembly.state.phase == "expansion"
    (ended,) = assembly.state.rollout.ended
    assert ended.body.ended == "pilot" and ended.body.evidence_digest == named("evidence")
    assert assembly.state.rollout.opened is None


def test_nothing_ends_without_terms_or_out_of_order() -> None:
    assembly = Assembly().reach("registered")
    assert refusals(assembly, advanced(assembly)) == {"phase.not-opened"}
    assembly = measured()
    assert "phase.order" in refusals(assembly, advanced(assembly, phase="clinical"))
    assert "phase.order" in refusals(assembly, advanced(assembly, phase="pilot"))


def test_terms_are_of_the_phase_in_force_and_of_the_federation_s_size() -> None:
    assembly = Assembly().reach("founded")
    assert refusals(assembly, PhaseOpened(terms=terms(minimum_sites=5))) == {"phase.terms-sites"}
    assert refusals(assembly, PhaseOpened(terms=clinical_terms())) == {"phase.order"}
    assert refusals(assembly, PhaseOpened(terms=terms(minimum_figure=0.5))) == {"phase.terms-bounds"}
    assert refusals(assembly, PhaseOpened(terms=terms()), by=A) == {"event.role"}


def test_thresholds_stand_once_a_round_was_announced_under_them() -> None:
    assembly = opened()
    assembly.say(COORDINATOR, PhaseOpened(terms=terms(minimum_figure=0.9)))  # nothing began yet
    assembly.reach_after_founding("published")
    assert refusals(assembly, PhaseOpened(terms=terms())) == {"phase.terms-fixed"}


def test_rounds_from_before_the_terms_do_not_count() -> None:
    assembly = opened(Assembly(plan=plan(rounds=2)).reach("registered"))
    missing = {"phase.rounds", "phase.evaluation-missing", "phase.reported"}
    assert refusals(assembly, measurement(assembly)) == missing
    assert refusals(assembly, advanced(assembly)) == {*missing, "phase.not-measured"}


def test_a_model_under_the_floor_ends_no_phase() -> None:
    figure = worked().state.evaluated
    (evaluated,) = figure.values()
    assert evaluated.figure_micro is not None
    over = (evaluated.figure_micro + 1) / 1_000_000
    assembly = worked(minimum_figure=over)
    assert refusals(assembly, measurement(assembly)) == {"phase.figure"}


def test_foundation_wants_every_site_s_agreements_and_a_checked_source() -> None:
    dry = plan(rounds=2, risk_tier="minimal", data=phantoms())
    assembly = Assembly(plan=dry, phase="foundation").reach("founded")
    wanted = {"phase": "foundation", "minimum_figure": 0.0, "agreements": ["baa", "dpa", "irb"]}
    assembly.say(COORDINATOR, PhaseOpened(terms=terms(**wanted)))
    for site in (A, B, C):
        for paper in agreements():
            assembly.say(site, paper)
        assembly.say(site, conformance())
    assembly.say(D, agreements()[0])
    assert refusals(assembly, agreements()[0], by=D) == {"agreement.twice"}
    assert refusals(assembly, conformance(), by=A) == {"conformance.twice"}
    assembly.reach_after_founding("registered")
    missing = {"phase.conformance", "phase.agreements", "phase.reported"}
    assert refusals(assembly, measurement(assembly)) == missing
    assembly.say(D, conformance())
    for paper in agreements()[1:]:
        assembly.say(D, paper)
    assembly.say(COORDINATOR, measurement(assembly))
    assembly.say(COORDINATOR, advanced(assembly))
    assert assembly.state.phase == "pilot"


def test_no_plan_with_patients_is_trained_before_the_foundation_is_laid() -> None:
    wanted = {"phase": "foundation", "minimum_figure": 0.0, "agreements": ["baa", "dpa", "irb"]}
    assembly = Assembly(plan=plan(risk_tier="minimal"), phase="foundation").reach("founded")
    assembly.say(COORDINATOR, PhaseOpened(terms=terms(**wanted)))
    assembly.reach_after_founding("passed")
    assert assembly.state.verdicts[assembly.digest, 0].violations == ("phase.patient-data",)


def test_a_check_of_a_source_counts_for_terms_that_are_in_force() -> None:
    assembly = Assembly().reach("founded")
    assert refusals(assembly, conformance(), by=A) == {"conformance.not-asked"}
    opened(assembly)
    assembly.say(COORDINATOR, PhaseOpened(terms=terms(minimum_rounds=2)))
    assembly.say(A, conformance())  # anew, under the new terms


def test_a_site_in_quarantine_keeps_the_phase_from_ending() -> None:
    assembly = measured()
    assembly.say(COORDINATOR, SiteQuarantined(site=D, code="test.drill"))
    assert refusals(assembly, measurement(assembly)) == {"phase.quarantine"}
    assert refusals(assembly, advanced(assembly)) == {"phase.quarantine"}  # measured before it, signed or not


def test_drills_are_passed_anew_under_every_terms() -> None:
    assembly = measured()
    assembly.say(COORDINATOR, advanced(assembly))
    poisoning = DrillRecorded(drill="poisoning", report_digest=named("report"))
    assert refusals(assembly, poisoning) == {"drill.not-asked"}
    every = ["poisoning", "quarantine", "key-rotation", "consent-withdrawal", "restore"]
    few = terms(phase="expansion", drills=every[1:])
    assert refusals(assembly, PhaseOpened(terms=few)) == {"phase.terms-weak"}
    assembly.say(COORDINATOR, PhaseOpened(terms=terms(phase="expansion", drills=every)))
    for drill in every[1:]:
        assembly.say(COORDINATOR, DrillRecorded(drill=drill, report_digest=named(drill)))
    assert "phase.drills" in refusals(assembly, measurement(assembly))
    assembly.say(COORDINATOR, poisoning)
    assert "phase.drills" not in refusals(assembly, measurement(assembly))
    assembly.say(COORDINATOR, PhaseOpened(terms=terms(phase="expansion", drills=every)))
    assert "phase.drills" in refusals(assembly, measurement(assembly))


@pytest.mark.parametrize(
    ("severity", "then"), [("minor", "expansion"), ("major", "pilot"), ("critical", "foundation")]
)
def test_an_incident_closes_the_gates_above_it_at_once(severity: str, then: str) -> None:
    assembly = measured()
    assembly.say(COORDINATOR, advanced(assembly))
    body = IncidentReported.from_value({"severity": severity, "kind": "data-exposure"}, what="incident")
    assembly.say(B, body)  # any member may
    assert assembly.state.phase == then
    assert assembly.state.rollout.incidents[0].institution == B


def test_an_incident_in_the_middle_of_a_phase_makes_its_work_count_no_more() -> None:
    assembly = measured()
    signed = advanced(assembly)
    assembly.say(A, IncidentReported(severity="major", kind="wrong-data"))
    assert assembly.state.phase == "foundation"
    assert refusals(assembly, signed) == {"phase.order", "phase.not-opened"}


# -- signatures ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "codes"),
    [
        (("steward-a", "compliance"), {"phase.sign-off"}),
        (("steward-a", "steward-b"), {"phase.sign-off"}),
        (("steward-a", "steward-a", "compliance"), {"phase.signed-twice", "phase.sign-off"}),
        (("steward-a", "steward-b", "compliance"), set()),
    ],
)
def test_enough_of_every_role_sign_and_nobody_counts_twice(names: tuple[str, ...], codes: set[str]) -> None:
    assembly = measured()
    assert refusals(assembly, advanced(assembly, sign_offs=signatures(assembly, *names))) == codes


@pytest.mark.parametrize(
    "changed",
    [
        {"evidence_digest": named("an older evidence file")},
        {"origin": "wardround/another/term-1"},
        {"policy_digest": named("another policy")},
        {"measured": named("another measurement")},
        {"phase": "foundation"},
    ],
)
def test_who_signed_something_else_did_not_sign_this(changed: dict[str, str]) -> None:
    assembly = measured()
    signed = signatures(assembly, **changed)
    assert refusals(assembly, advanced(assembly, sign_offs=signed)) == {"phase.signature", "phase.sign-off"}


def test_a_signature_under_another_s_name_and_a_stranger_s_count_for_nothing() -> None:
    assembly = measured()
    first, second, third = signatures(assembly)
    lent = second.with_fields({"signature": first.signature})
    assert "phase.signature" in refusals(assembly, advanced(assembly, sign_offs=(first, lent, third)))
    stranger = first.with_fields({"officer": "nobody"})
    assert refusals(assembly, advanced(assembly, sign_offs=(stranger, second, third))) == {
        "phase.signer", "phase.sign-off",
    }  # fmt: skip


def test_other_terms_other_evidence_and_another_policy_are_named() -> None:
    assembly = measured()
    assert refusals(assembly, measurement(assembly, opened=named("others"))) == {"phase.other-terms"}
    assert refusals(assembly, measurement(assembly, phase="expansion")) == {"phase.other-terms"}
    assert refusals(assembly, measurement(assembly, policy_digest=named("other"))) == {"phase.other-policy"}
    assert "phase.other-evidence" in refusals(assembly, advanced(assembly, measured=named("others")))
    assert "phase.other-policy" in refusals(assembly, advanced(assembly, policy_digest=named("other")))


def test_a_measurement_under_a_policy_that_is_no_more_in_force_ends_nothing() -> None:
    assembly = measured()
    for site in SITES:
        if assembly.state.policy_digest != named("newer"):
            assembly.say(site, PolicyAdopted(policy_digest=named("newer")))
    assert refusals(assembly, advanced(assembly)) == {"phase.other-policy"}
    assembly.say(COORDINATOR, measurement(assembly))
    assembly.say(COORDINATOR, advanced(assembly))


def test_who_signed_before_a_newer_measurement_signed_older_evidence() -> None:
    assembly = measured()
    old = advanced(assembly)
    assembly.say(COORDINATOR, measurement(assembly))
    assert refusals(assembly, old) == {"phase.other-evidence"}
    mixed = advanced(assembly, sign_offs=old.sign_offs)
    assert refusals(assembly, mixed) == {"phase.signature", "phase.sign-off"}


def test_an_incident_that_changes_no_phase_still_sends_the_evidence_back() -> None:
    """The officers who signed had not heard of it."""
    assembly = measured()
    signed = advanced(assembly)
    assembly.say(C, IncidentReported(severity="minor", kind="other"))
    assert refusals(assembly, signed) == {"phase.not-measured"}
    assembly.say(COORDINATOR, measurement(assembly))
    assembly.say(COORDINATOR, advanced(assembly))


def test_a_federation_that_names_nobody_advances_nowhere() -> None:
    assembly = measured()
    state = assembly.state
    assert state.federation is not None
    state.federation = state.federation.with_fields({"sign_offs": []})
    assert refusals(assembly, advanced(assembly)) == {"phase.sign-off"}


def test_a_pilot_whose_sites_do_not_say_that_they_gain_does_not_end() -> None:
    """What the terms ask is counted out of the opened sum of the newest model's plan, which must have asked."""
    asking = {"bins": 4, "noise_std": 3.0, "compare": {"epsilon": 3.0}}
    assembly = worked(Assembly(plan=plan(rounds=1, evaluation=asking)).reach("founded"), minimum_better_off=4)
    assert refusals(assembly, measurement(assembly)) == set()
    for said, answered in ((3, "3 of 4"), (5, "did not ask"), (-1, "did not ask")):
        short = opened(
            Assembly(plan=plan(rounds=1, evaluation=asking)).reach("founded"), minimum_better_off=4
        )
        short.reach_after_founding("fixed")
        short.say(COORDINATOR, short.evaluation(better_off=said))
        short.say(COORDINATOR, short.verdict(1))
        short.say(COORDINATOR, short.registration())
        assert refusals(short, measurement(short)) == {"phase.better-off"}
        (condition,) = [one for one in standing(short.state).conditions if one.code == "phase.better-off"]
        assert not condition.met and answered in condition.there
    silent = worked(Assembly(plan=plan(rounds=1)).reach("founded"), minimum_better_off=1)
    assert refusals(silent, measurement(silent)) == {"phase.better-off"}


def test_terms_cannot_ask_more_sites_for_their_answer_than_there_are() -> None:
    assembly = Assembly().reach("founded")
    assert refusals(assembly, PhaseOpened(terms=terms(minimum_better_off=5))) == {"phase.terms-sites"}
    assert refusals(assembly, PhaseOpened(terms=terms(minimum_better_off=4))) == set()


def test_a_report_counts_once() -> None:
    """What was passed for other terms is not passed again by saying so."""
    assembly = opened(drills=["poisoning"])
    said = DrillRecorded(drill="poisoning", report_digest=named("poisoning"))
    assembly.say(COORDINATOR, said)
    assert refusals(assembly, said) == {"drill.twice"}


def test_nothing_that_was_learned_of_phantoms_ends_a_phase_in_which_patients_count() -> None:
    """A night of invented patients has the best of figures."""
    assembly = Assembly(plan=plan(rounds=2, data=phantoms())).reach("founded")
    worked(assembly)
    assert "phase.rounds" in refusals(assembly, measurement(assembly))


def test_who_was_left_out_of_the_figures_has_not_reported() -> None:
    assembly = worked(Assembly(plan=plan(rounds=2)).reach("founded"))
    key = (assembly.digest, 1, "evaluation")
    closed = assembly.state.closed[key]
    assembly.state.closed[key] = closed.model_copy(update={"receipts": closed.receipts[:3]})
    assert refusals(assembly, measurement(assembly)) == {"phase.reported"}


GOOD = (300, 100, 40, 10, 10, 40, 100, 300)
CHANCE = (120, 110, 110, 110, 110, 110, 110, 120)


def night(assembly: Assembly, number: int, histogram: tuple[int, ...], *, until: str) -> Assembly:
    assembly.plan, assembly.histogram = plan(rounds=1, edition=str(number)), histogram
    return assembly.reach_after_founding(until)


def test_the_newest_model_is_the_one_that_was_evaluated_last() -> None:
    """Of two nights whose figures it has seen, a coordinator would like to register the better one last."""
    assembly = opened(Assembly(plan=plan(rounds=1)).reach("founded"), minimum_figure=0.7)
    night(assembly, 1, GOOD, until="judged")
    first, better = assembly.plan, assembly.registration()
    night(assembly, 2, CHANCE, until="registered")
    assembly.plan = first
    assert refusals(assembly, better.model_copy(update={"version": 2})) == {"model.order"}


def test_a_night_that_was_evaluated_is_judged_before_the_phase_is_measured() -> None:
    """Else a figure that came off badly would be kept from the gate: it was opened, or could have been."""
    assembly = opened(Assembly(plan=plan(rounds=1)).reach("founded"), minimum_figure=0.7)
    night(assembly, 1, GOOD, until="registered")
    assert not refusals(assembly, measurement(assembly))
    for stage in ("fixed", "evaluated", "judged"):
        pending = Assembly(plan=assembly.plan, state=assembly.state.fork())
        night(pending, 2, CHANCE, until=stage)
        assert refusals(pending, measurement(pending)) == {"phase.pending"}, stage
    pending.say(COORDINATOR, pending.registration(version=2))
    assert refusals(pending, measurement(pending)) == {"phase.figure"}


def test_code_that_the_newest_models_plan_does_not_approve_checked_no_source() -> None:
    assembly = Assembly(plan=plan(rounds=2)).reach("founded")
    assembly.say(COORDINATOR, PhaseOpened(terms=terms()))
    for site in (A, B, C):
        assembly.say(site, conformance())
    assembly.say(D, conformance(code=named("code of before")))
    assembly.reach_after_founding("registered")
    assert refusals(assembly, measurement(assembly)) == {"phase.conformance", "phase.reported"}


@pytest.mark.parametrize(
    "other",
    [{"study": "another"}, {"data": {**plan().data.to_json(), "held_out_fraction": 0.3}}],
    ids=["study", "split"],
)
def test_every_study_and_every_contract_is_conformed_to_for_itself(other: dict[str, object]) -> None:
    assert source_contract(plan(**other)) != source_contract(plan(edition="2")) == source_contract(plan())


def test_a_source_that_meets_another_contract_than_the_models_does_not_conform() -> None:
    assembly = Assembly(plan=plan(rounds=2)).reach("founded")
    assembly.say(COORDINATOR, PhaseOpened(terms=terms()))
    for site in (A, B, C):
        assembly.say(site, conformance())
    assembly.say(D, conformance(named("a contract that asks for less")))
    assert "phase.conformance" not in refusals(assembly, measurement(assembly))  # nothing is learned yet
    assembly.reach_after_founding("registered")
    assert refusals(assembly, measurement(assembly)) == {"phase.conformance", "phase.reported"}
    assembly.say(D, conformance())
    assert not refusals(assembly, measurement(assembly))


def test_the_same_sites_conform_agree_and_report() -> None:
    assembly = Assembly(plan=plan(rounds=2)).reach("founded")
    assembly.say(COORDINATOR, PhaseOpened(terms=terms(minimum_sites=3, agreements=["irb"])))
    for site in (A, B, C):
        assembly.say(site, conformance())
    for site in (B, C, D):
        assembly.say(site, agreements()[2])
    assembly.reach_after_founding("registered")
    assert refusals(assembly, measurement(assembly)) == {"phase.reported"}
