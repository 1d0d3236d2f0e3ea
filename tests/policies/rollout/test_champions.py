"""How a model becomes a champion and stops being one: stories of those who hurry the one or hinder the other."""

from __future__ import annotations

import pytest

from policies.events import IncidentReported, ModelRolledBack, PhaseOpened
from policies.rollout.gate import exit_facts
from policies.rollout.reached import reached
from policies.rollout.statements import PhaseTerms
from tests.policies.assembly import Assembly
from tests.policies.founding import COORDINATOR, SITES, named
from tests.policies.rollout.phases import (
    CHANGE_PLAN,
    EVIDENCE,
    LAGGING,
    SURE,
    UNSURE,
    again,
    clinical_plan,
    clinical_terms,
    in_the_clinic,
    measured,
    measurement,
    promoted,
    refusals,
    signatures,
)

STUDY = "tiny-study"


def validated(**fields: object) -> Assembly:
    assembly = in_the_clinic(**fields)  # type: ignore[arg-type]
    assembly.say(COORDINATOR, measurement(assembly))
    return assembly


def test_what_learned_under_a_lower_risk_tier_is_no_champion() -> None:
    """Such a plan may have sums that the coordinator opens with one key holder alone."""
    low = {"risk_tier": "minimal", "protection": {"scheme": "homomorphic-unmasked"}}
    assembly = Assembly(plan=clinical_plan(**low), phase="clinical", histogram=SURE).reach("founded")
    again(assembly, clinical_terms(), **low)
    assert refusals(assembly, measurement(assembly)) == {"phase.tier-low"}


def championed() -> Assembly:
    assembly = validated()
    assembly.say(COORDINATOR, promoted(assembly))
    return assembly


def later(assembly: Assembly, edition: str, **fields: object) -> Assembly:
    """Another clinical phase of the study, up to its measurement."""
    again(assembly, clinical_terms(**fields), edition=edition)
    assembly.say(COORDINATOR, measurement(assembly))
    return assembly


def back(to: str | None = None, **changed: object) -> ModelRolledBack:
    return ModelRolledBack.from_value(
        {"study": STUDY, "to": to, "kind": "model-harm", **changed}, what="rollback"
    )


def champion(assembly: Assembly) -> tuple[str, int] | None:
    found = assembly.state.rollout.champion(STUDY)
    return None if found is None else (found.body.plan_digest, found.body.round)


def test_a_model_that_met_its_terms_becomes_the_champion_and_the_phase_waits_for_new_terms() -> None:
    assembly = championed()
    state = assembly.state
    assert champion(assembly) == (assembly.digest, 1)
    assert state.phase == "clinical" and state.rollout.opened is None and state.rollout.measured is None
    (found,) = state.rollout.champions[STUDY]
    assert found.body.evidence_digest == EVIDENCE and found.terms == clinical_terms()


def test_a_model_is_promoted_in_the_clinic_alone_and_by_the_coordinator() -> None:
    assembly = measured()  # a pilot
    assert refusals(assembly, promoted(assembly)) == {
        "phase.order", "phase.signature", "phase.sign-off", "model.change-plan",
    }  # fmt: skip
    assembly = validated()
    assert refusals(assembly, promoted(assembly), by=SITES[0]) == {"event.role"}
    assert refusals(championed(), promoted(assembly)) == {"phase.not-opened", "model.not-measured"}


@pytest.mark.parametrize(
    ("changed", "codes"),
    [
        ({"model_digest": named("another model")}, {"model.digest"}),
        ({"round": 2}, {"model.not-measured"}),
        ({"plan_digest": named("another plan")}, {"model.not-measured"}),
        ({"change_plan_digest": named("a wider one")}, {"model.change-plan"}),
        ({"measured": named("older")}, {"phase.other-evidence", "phase.signature", "phase.sign-off"}),
        ({"evidence_digest": named("nicer")}, {"phase.signature", "phase.sign-off"}),
    ],
)
def test_it_is_the_very_model_that_was_measured_under_the_change_plan_that_officers_saw(
    changed: dict[str, object], codes: set[str]
) -> None:
    assembly = validated()
    assert refusals(assembly, promoted(assembly, **changed)) == codes


def test_a_model_that_was_registered_after_the_measurement_is_not_what_officers_signed() -> None:
    assembly = validated()
    first, signed = assembly.digest, promoted(assembly)
    assembly.plan = assembly.plan.with_fields({"edition": "2"})
    assembly.reach_after_founding("registered")
    assert refusals(assembly, promoted(assembly)) == {"model.not-measured"}
    assembly.say(COORDINATOR, signed)
    assert champion(assembly) == (first, 1)


def test_too_few_signatures_promote_nothing() -> None:
    assembly = validated()
    few = promoted(assembly, sign_offs=signatures(assembly, "steward-a", "compliance"))
    assert refusals(assembly, few) == {"phase.sign-off"}


def test_an_incident_between_signature_and_promotion_sends_the_evidence_back() -> None:
    assembly = validated()
    signed = promoted(assembly)
    assembly.say(SITES[1], IncidentReported(severity="minor", kind="model-harm"))
    assert refusals(assembly, signed) == {"phase.not-measured", "model.not-measured"}


# -- how sure one must be --------------------------------------------------------------------------------------


def test_a_figure_that_only_looks_good_enough_is_held_at_its_lower_limit() -> None:
    sure, unsure = in_the_clinic(SURE), in_the_clinic(UNSURE)
    figures = [next(iter(one.state.evaluated.values())).figure_micro for one in (sure, unsure)]
    assert all(figure is not None and figure > 850_000 for figure in figures)
    assert not refusals(sure, measurement(sure))
    assert refusals(unsure, measurement(unsure)) == {"phase.figure", "phase.subgroup-floor"}


def test_a_subgroup_under_the_floor_keeps_the_model_out_of_the_clinic() -> None:
    assembly = in_the_clinic(LAGGING, minimum_subgroup_figure=0.85)
    assert refusals(assembly, measurement(assembly)) == {"phase.subgroup-floor", "phase.subgroup-gap"}
    loose = in_the_clinic(LAGGING, maximum_subgroup_gap=0.2, minimum_subgroup_figure=0.51)
    assert not refusals(loose, measurement(loose))


def test_what_the_rules_are_told_is_the_lower_limit_and_every_witness_finds_it() -> None:
    assembly = in_the_clinic()
    opened = assembly.state.rollout.opened
    assert opened is not None
    found = reached(assembly.state, opened)
    assert found.limits is not None and found.limits.whole is not None and found.figure_micro is not None
    told = exit_facts(assembly.state, opened, found)
    assert told["figure_micro"] == found.limits.whole.low < found.figure_micro < found.limits.whole.high
    assert told["subgroup_floor"] == {
        "wanted": True,
        "minimum_micro": 700_000,
        "figure_micro": [one.low for one in found.limits.subgroups if one is not None],
    }
    assert len(found.limits.subgroups) == 2  # who is in neither group counts in the whole alone


@pytest.mark.parametrize(
    "left_out",
    ["maximum_regression", "confidence", "maximum_subgroup_gap", "minimum_subgroup_figure", "change_plan"],
)
def test_terms_of_the_clinic_leave_none_of_it_out(left_out: str) -> None:
    assembly = in_the_clinic()
    assembly.say(COORDINATOR, measurement(assembly))
    assembly.say(COORDINATOR, promoted(assembly))
    code = "phase.terms-weak" if left_out == "change_plan" else "phase.terms-bounds"
    assert refusals(assembly, PhaseOpened(terms=clinical_terms(**{left_out: None}))) == {code}


def test_a_later_model_must_not_be_inferior_to_the_champion_not_to_what_was_never_promoted() -> None:
    assembly = championed()
    # A better one, of a night between two clinical phases.
    assembly.histogram = (500, 0, 0, 0, 0, 0, 0, 500) * 3
    assembly.plan = clinical_plan(edition="1b")
    assembly.reach_after_founding("registered")
    assembly.histogram = SURE
    again(assembly, clinical_terms(maximum_regression=0.2), edition="2")
    opened = assembly.state.rollout.opened
    assert opened is not None
    there = assembly.state.evaluated[champion(assembly)].figure_micro  # type: ignore[index]
    assert reached(assembly.state, opened).before_micro == there
    # One that is worse than the champion, above the floors of these terms.
    loose: dict[str, float] = {"minimum_figure": 0.6, "maximum_subgroup_gap": 0.2}
    strict = championed()
    strict.histogram = LAGGING
    again(strict, clinical_terms(**loose, minimum_subgroup_figure=0.51, maximum_regression=0.01), edition="2")
    assert refusals(strict, measurement(strict)) == {"phase.regression"}


# -- back --------------------------------------------------------------------------------------------------------


def test_going_back_takes_one_word_and_no_signature() -> None:
    assembly = championed()
    assert refusals(assembly, back(), by=SITES[0]) == {"event.role"}  # a site reports an incident
    assembly.say(COORDINATOR, back())
    assert champion(assembly) is None
    assert assembly.state.rollout.rolled_back[0].body.kind == "model-harm"
    assert refusals(assembly, back()) == {"model.no-champion"}
    assert refusals(assembly, back(study="another")) == {"model.no-champion"}


def test_going_back_to_the_champion_before() -> None:
    assembly = championed()
    first = assembly.digest
    later(assembly, "2")
    assembly.say(COORDINATOR, promoted(assembly))
    assert champion(assembly) == (assembly.digest, 1) != (first, 1)
    assert refusals(assembly, back(to=named("never one"))) == {"model.never-champion"}
    assembly.say(COORDINATOR, back(to=named("model 1")))
    assert champion(assembly) == (first, 1)
    # And not forward again: that takes another clinical phase.
    assert refusals(assembly, back(to=named("model 1"))) == {"model.never-champion"}


def test_an_incident_leaves_the_champion_named_and_closes_the_gate() -> None:
    assembly = championed()
    assembly.say(SITES[2], IncidentReported(severity="major", kind="model-harm"))
    assert champion(assembly) is not None and assembly.state.phase == "expansion"


def test_what_was_measured_against_a_champion_is_measured_anew_after_a_rollback() -> None:
    assembly = championed()
    later(assembly, "2")
    signed = promoted(assembly)
    assembly.say(COORDINATOR, back())
    # The terms asked to be no worse than the champion that is gone.
    assert assembly.state.rollout.opened is None
    assert "phase.not-opened" in refusals(assembly, signed)


def test_terms_say_the_same_to_everybody() -> None:
    assert PhaseTerms.from_value(clinical_terms().to_json(), what="terms") == clinical_terms()
    assert clinical_terms().change_plan == CHANGE_PLAN


def test_a_bound_that_everything_meets_is_none() -> None:
    for wide in ({"maximum_regression": 0.21}, {"maximum_subgroup_gap": 1.0}):
        assembly = Assembly(plan=clinical_plan(), phase="clinical").reach("founded")
        assert refusals(assembly, PhaseOpened(terms=clinical_terms(**wide))) == {"phase.terms-bounds"}
