"""The installed rules, decision by decision: one document that is admitted, and every way to spoil a fact of it.

Whatever is missing, of another kind, negative or huge must be refused, whichever fact it is: a rule that lets one
through was written as `refuse if x > y`, and this table is what finds it. How rules are evaluated is
tests/policies/test_rego.py.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Final, get_args

import pytest

from ledger.canonical import JsonValue
from policies.plan import Scheme
from policies.rego import DECISIONS, INSTALLED, installed_rules
from policies.rego_sources import read_sources
from policies.rego_subset import CODE
from tests.policies.admitted import ADMITTED, DIGEST, Document

Path_ = tuple[str | int, ...]

FREE: Final[set[tuple[str, Path_, str]]] = {
    # Either answer is a proper one: there may be no model in force, no wish for subgroups or answers, a benchmark's
    # delta, no patient of whom a plan learns.
    ("release", ("in_force", "known"), "False"),
    ("release", ("subgroups", "wanted"), "False"),
    ("phase_exit", ("in_force", "known"), "False"),
    ("phase_exit", ("subgroups", "wanted"), "False"),
    ("phase_exit", ("better_off", "wanted"), "False"),
    ("phase_exit", ("subgroup_floor", "wanted"), "False"),
    ("cohort_size", ("delta_fixed_by_benchmark",), "True"),
    ("plan", ("plan", "patients"), "False"),
}
"""(decision, fact, spoilt value) that is admitted all the same, with the reason above it."""

GONE: Final = object()
SPOILT: Final[tuple[object, ...]] = (
    GONE, None, "x", "5", "", -1, True, False, 2**53, 2**64 + 5, -(2**53), [], {}, [1], {"a": 1}, 0.5, "research\0",
)  # fmt: skip


def leaves(value: JsonValue, path: Path_ = ()) -> Iterator[Path_]:
    """The path of every scalar, of every list and of every object inside the document."""
    if path:
        yield path
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from leaves(inner, (*path, name))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from leaves(inner, (*path, number))


def changed(document: Document, path: Path_, value: object) -> Document:
    found = copy.deepcopy(document)
    at: object = found
    for step in path[:-1]:
        at = at[step]  # type: ignore[index]
    if value is GONE:
        del at[path[-1]]  # type: ignore[attr-defined]
    else:
        at[path[-1]] = value  # type: ignore[index]
    return found


def value_at(document: Document, path: Path_) -> object:
    at: object = document
    for step in path:
        at = at[step]  # type: ignore[index]
    return at


@pytest.mark.parametrize("decision", DECISIONS)
def test_what_meets_every_threshold_exactly_is_admitted(decision: str) -> None:
    assert installed_rules().decide(decision, ADMITTED[decision]) == ()


@pytest.mark.parametrize("decision", DECISIONS)
def test_whatever_is_missing_of_another_kind_negative_or_huge_is_refused(decision: str) -> None:
    document, admitted = ADMITTED[decision], set()
    for path in leaves(document):
        for value in SPOILT:
            was = value_at(document, path)
            # An element that is left out leaves a shorter list, which is what it says.
            if (value is GONE and isinstance(path[-1], int)) or (type(was) is type(value) and was == value):
                continue
            if installed_rules().decide(decision, changed(document, path, value)) == ():
                admitted.add((decision, path, "gone" if value is GONE else repr(value)))
    assert admitted == {free for free in FREE if free[0] == decision}


SPOILT_TOGETHER: Final[list[tuple[str, dict[Path_, object], set[str]]]] = [
    # Two facts that agree on nonsense: equal, or the one among the others.
    ("receipt", {("consent_root",): "", ("expected_consent_root",): ""}, {"receipt.consent-state"}),
    ("receipt", {("consent_root",): 1, ("expected_consent_root",): 1}, {"receipt.consent-state"}),
    ("receipt", {("schema", "suite"): "", ("schema", "expected_suite"): ""}, {"receipt.suite"}),
    ("receipt", {("schema", "suite"): 7, ("schema", "expected_suite"): 7}, {"receipt.suite"}),
    ("receipt", {("code", "running"): "", ("code", "approved"): [""]}, {"receipt.code"}),
    ("receipt", {("code", "running"): 7, ("code", "approved"): [7]}, {"receipt.code"}),
    ("receipt", {("code", "approved"): {"any": DIGEST}}, {"receipt.code"}),
    ("site", {("running_code",): "", ("plan", "code_digests"): [""]}, {"plan.code"}),
    ("site", {("plan", "code_digests"): {"any": DIGEST}}, {"plan.code"}),
    ("site", {("plan", "bundle"): "", ("approved_bundles",): {"": DIGEST}}, {"plan.bundle"}),
    ("site", {("plan", "network"): "", ("approved_bundles",): {DIGEST: ""}}, {"plan.bundle"}),
    ("site", {("approved_bundles",): {"any": DIGEST}}, {"plan.bundle"}),
    ("site", {("approved_bundles",): [DIGEST]}, {"plan.bundle"}),
    ("site", {("plan", "family"): "", ("policy", "families"): [""]}, {"site.model-family"}),
    ("site", {("policy", "families"): {"any": "densenet"}}, {"site.model-family"}),
    ("member", {("purpose",): "", ("consent", "purposes"): [""]}, {"consent.purpose"}),
    ("member", {("purpose",): 7, ("consent", "purposes"): [7]}, {"consent.purpose"}),
    ("member", {("consent", "purposes"): {"any": "research"}}, {"consent.purpose"}),
    ("plan", {("plan", "code_digests"): {"any": DIGEST}}, {"plan.no-code"}),
    (
        "cohort_size",
        {("cohort_patients",): 0, ("minimum_patients",): 0, ("policy_minimum_patients",): 0},
        {"site.cohort"},
    ),
    # Two hospitals can tell each other's updates from their sum, whatever the plan asks for.
    ("plan", {("plan", "minimum_sites"): 2}, {"plan.too-few-members"}),
    ("plan", {("plan", "risk_tier"): "", ("plan", "scheme"): ""}, {"phase.risk-tier", "plan.scheme"}),
    ("plan", {("plan", "robust_sites"): -1, ("federation", "sites"): 4}, {"plan.robust-sites"}),
    ("release", {("minimum_sites",): 2}, {"participation.too-few"}),
    # An AUC over 1 beats every floor and every model.
    ("release", {("figure_micro",): 1_000_001}, {"evaluation.below-floor", "evaluation.regression"}),
    (
        "release",
        {("in_force", "known"): False, ("in_force", "figure_micro"): -1},
        {"evaluation.regression"},
    ),
    (
        "release",
        {("in_force", "known"): False, ("maximum_regression_micro",): "any"},
        {"evaluation.regression"},
    ),
    (
        "release",
        {("maximum_regression_micro",): 1_000_001},
        {"evaluation.regression"},
    ),
    (
        "release",
        {("subgroups", "wanted"): False, ("subgroups", "figure_micro"): "none"},
        {"evaluation.subgroups-missing"},
    ),
    (
        "release",
        {("subgroups", "wanted"): False, ("maximum_subgroup_gap_micro",): "any"},
        {"evaluation.subgroup-gap"},
    ),
    ("release", {("maximum_subgroup_gap_micro",): 1_000_001}, {"evaluation.subgroup-gap"}),
    # A benchmark fixes delta, and nothing else about it.
    *(
        ("cohort_size", {("delta_fixed_by_benchmark",): True, (name,): value}, {"site.delta"})
        for name in ("register_patients", "delta_pico")
        for value in (0, -1, "x")
    ),
    *(
        ("cohort_size", {(name,): value}, {"site.delta"})
        for name in ("register_patients", "delta_pico")
        for value in (0, "x")
    ),
    # What was never published is neither of another purpose nor out of date, and is one reason.
    (
        "reservation",
        {("consent", "published"): False, ("purpose",): "advertising", ("log_time_s",): 1},
        {"consent.version"},
    ),
    (
        "reservation",
        {("consent_state", "published"): False, ("consent_state", "age_s"): 10},
        {"consent.state-missing"},
    ),
    # Stages: figures that rest on what does not hold are not judged.
    ("release", {("missing_required",): ["x"], ("opened",): False}, {"participation.required-missing"}),
    (
        "release",
        {("reported",): 2, ("norm_micro",): 9, ("evaluated",): False, ("subgroups", "figure_micro"): []},
        {"participation.too-few"},
    ),
    ("release", {("opened",): False, ("norm_micro",): 9, ("evaluated",): False}, {"aggregate.missing"}),
    (
        "release",
        {("evaluated",): False, ("figure_micro",): 0, ("subgroups", "figure_micro"): [0, 10**6]},
        {"evaluation.missing"},
    ),
    (
        "release",
        {("norm_micro",): 9, ("in_force", "figure_micro"): 10**6, ("subgroups", "figure_micro"): []},
        {"update.norm"},
    ),
    ("release", {("norm_micro",): 9, ("subgroups", "figure_micro"): [0, 10**6]}, {"update.norm"}),
]
"""(decision, what is changed at once, exactly the codes): what the table above cannot see, fact by fact."""


@pytest.mark.parametrize(("decision", "changes", "codes"), SPOILT_TOGETHER)
def test_facts_that_are_spoilt_together_are_refused(
    decision: str, changes: dict[Path_, object], codes: set[str]
) -> None:
    document = ADMITTED[decision]
    for path, value in changes.items():
        document = changed(document, path, value)
    assert set(installed_rules().decide(decision, document)) == codes


@pytest.mark.parametrize("decision", DECISIONS)
def test_nothing_at_all_is_refused_by_every_rule_that_comes_first(decision: str) -> None:
    assert len(installed_rules().decide(decision, {})) >= 2


HIGH: Final[dict[Path_, object]] = {("plan", "risk_tier"): "high", ("plan", "scheme"): "masked"}
CLINICAL: Final[dict[Path_, object]] = HIGH | {("federation", "phase"): "clinical"}
MINIMAL: Final[dict[Path_, object]] = {("plan", "risk_tier"): "minimal"}

REFUSED: Final[list[tuple[str, dict[Path_, object], set[str]]]] = [
    ("plan", {("plan", "code_digests"): []}, {"plan.no-code"}),
    ("plan", {("federation", "sites"): 3, ("plan", "robust_sites"): 0}, {"plan.too-few-members"}),
    ("plan", {("federation", "sites"): 5}, {"plan.too-many-members"}),
    ("plan", {("unknown_sites",): ["elsewhere"]}, {"plan.unknown-site"}),
    ("plan", {("plan", "epsilon_micro"): 10}, {"budget.plan-cap"}),
    ("plan", {("federation", "phase"): "foundation"}, {"phase.risk-tier", "phase.patient-data"}),
    ("plan", MINIMAL | {("federation", "phase"): "foundation"}, {"phase.patient-data"}),
    ("plan", HIGH, {"phase.risk-tier"}),
    ("plan", HIGH | {("federation", "phase"): "expansion"}, {"phase.risk-tier"}),
    ("plan", {("federation", "phase"): "beyond"}, {"phase.risk-tier", "phase.patient-data"}),
    # Without masks a coordinator and one key holder read every update; with shares, the aggregators together.
    ("plan", {("plan", "scheme"): "homomorphic-unmasked"}, {"plan.scheme"}),
    ("plan", CLINICAL | {("plan", "scheme"): "homomorphic-unmasked"}, {"plan.scheme"}),
    ("plan", CLINICAL | {("plan", "scheme"): "shared"}, {"plan.scheme"}),
    ("plan", {("plan", "scheme"): "plain"}, {"plan.scheme"}),
    ("plan", {("plan", "robust_sites"): 5}, {"plan.robust-sites"}),
    ("member", {("cost_rdp_micro",): 11}, {"budget.pool-cap"}),
    ("member", {("consent", "published"): False}, {"consent.version"}),
    ("member", {("purpose",): "advertising"}, {"consent.purpose"}),
    ("member", {("log_time_s",): 49}, {"consent.not-in-force"}),
    ("member", {("consent", "valid_until_s"): 50}, {"consent.not-in-force"}),
    ("member", {("quarantined",): True}, {"site.quarantined"}),
    # A version that was never published says nothing about purposes and times.
    (
        "member",
        {("consent", "published"): False, ("purpose",): "advertising", ("log_time_s",): 1},
        {"consent.version"},
    ),
    ("reservation", {("cost_rdp_micro",): 11}, {"budget.pool-cap"}),
    ("reservation", {("consent", "published"): False}, {"consent.version"}),
    ("reservation", {("purpose",): "advertising"}, {"consent.purpose"}),
    ("reservation", {("log_time_s",): 49}, {"consent.not-in-force"}),
    ("reservation", {("quarantined",): True}, {"site.quarantined"}),
    ("reservation", {("approved",): False}, {"plan.not-approved"}),
    ("reservation", {("consent_state", "published"): False}, {"consent.state-missing"}),
    ("reservation", {("consent_state", "age_s"): 10}, {"consent.state-stale"}),
    ("receipt", {("code", "running"): "c" * 64}, {"receipt.code"}),
    ("receipt", {("schema", "passed"): False}, {"receipt.validation"}),
    ("receipt", {("schema", "suite"): "c" * 64}, {"receipt.suite"}),
    ("receipt", {("consent_root",): "c" * 64}, {"receipt.consent-state"}),
    ("receipt", {("quarantined",): True}, {"site.quarantined"}),
    ("release", {("reported",): 2}, {"participation.too-few"}),
    ("release", {("missing_required",): ["hospital-a"]}, {"participation.required-missing"}),
    ("release", {("opened",): False}, {"aggregate.missing"}),
    ("release", {("norm_micro",): 9}, {"update.norm"}),
    ("release", {("evaluated",): False}, {"evaluation.missing"}),
    ("release", {("norm_micro",): 9, ("evaluated",): False}, {"update.norm", "evaluation.missing"}),
    # 799,999 is within what may be lost against 819,999, and under the floor.
    (
        "release",
        {("figure_micro",): 799_999, ("in_force", "figure_micro"): 819_999},
        {"evaluation.below-floor"},
    ),
    ("release", {("in_force", "figure_micro"): 820_001}, {"evaluation.regression"}),
    ("release", {("subgroups", "figure_micro"): [800_000]}, {"evaluation.subgroups-missing"}),
    ("release", {("subgroups", "figure_micro", 0): 779_999}, {"evaluation.subgroup-gap"}),
    # A later stage is not judged before the earlier ones hold: its figures mean nothing yet.
    ("release", {("reported",): 2, ("opened",): False, ("figure_micro",): 0}, {"participation.too-few"}),
    ("release", {("opened",): False, ("norm_micro",): 9, ("figure_micro",): 0}, {"aggregate.missing"}),
    ("release", {("norm_micro",): 9, ("figure_micro",): 0}, {"update.norm"}),
    ("statistics", {("reported",): 2}, {"participation.too-few"}),
    ("statistics", {("missing_required",): ["hospital-a"]}, {"participation.required-missing"}),
    ("statistics", {("opened",): False}, {"aggregate.missing"}),
    ("continuation", {("reported",): 2, ("norm_micro",): 9}, {"participation.too-few"}),
    ("continuation", {("missing_required",): ["d"]}, {"participation.required-missing"}),
    ("continuation", {("opened",): False, ("norm_micro",): 9}, {"aggregate.missing"}),
    ("continuation", {("norm_micro",): 9}, {"update.norm"}),
    ("phase_entry", {("phase",): "expansion"}, {"phase.order"}),
    ("phase_entry", {("sites",): 3}, {"phase.terms-sites"}),
    ("phase_entry", {("terms", "drills"): ["rollback"]}, {"phase.terms-weak"}),
    (
        "phase_entry",
        {("phase",): "foundation", ("terms", "phase"): "foundation", ("terms", "agreements"): ["baa", "irb"]},
        {"phase.terms-weak"},
    ),
    ("phase_entry", {("terms", "minimum_figure_micro"): 500_000}, {"phase.terms-bounds"}),
    ("phase_entry", {("terms", "maximum_regression_micro"): 200_001}, {"phase.terms-bounds"}),
    ("phase_entry", {("terms", "maximum_subgroup_gap_micro"): 200_001}, {"phase.terms-bounds"}),
    ("phase_entry", {("terms", "minimum_subgroup_figure_micro"): 500_000}, {"phase.terms-bounds"}),
    ("phase_entry", {("terms", "confidence_micro"): 899_999}, {"phase.terms-bounds"}),
    ("phase_entry", {("terms", "change_plan"): ""}, {"phase.terms-weak"}),
    ("phase_exit", {("sites", "conformant"): 3}, {"phase.conformance"}),
    ("phase_exit", {("sites", "agreed"): 3}, {"phase.agreements"}),
    ("phase_exit", {("sites", "reported"): 3}, {"phase.reported"}),
    ("phase_exit", {("sites", "quarantined"): 1}, {"phase.quarantine"}),
    ("phase_exit", {("rounds", "registered"): 2}, {"phase.rounds"}),
    ("phase_exit", {("rounds", "pending"): 1}, {"phase.pending"}),
    ("phase_exit", {("risk_tier",): "limited"}, {"phase.tier-low"}),
    ("phase_exit", {("missing_drills",): ["rollback"]}, {"phase.drills"}),
    ("phase_exit", {("evaluated",): False, ("figure_micro",): 0}, {"phase.evaluation-missing"}),
    ("phase_exit", {("figure_micro",): 799_999, ("in_force", "figure_micro"): 819_999}, {"phase.figure"}),
    ("phase_exit", {("in_force", "figure_micro"): 820_001}, {"phase.regression"}),
    ("phase_exit", {("subgroups", "figure_micro"): [800_000]}, {"phase.subgroups-missing"}),
    ("phase_exit", {("subgroups", "figure_micro", 0): 779_999}, {"phase.subgroup-gap"}),
    ("phase_exit", {("better_off", "answered"): 2}, {"phase.better-off"}),
    ("phase_exit", {("subgroup_floor", "figure_micro", 0): 599_999}, {"phase.subgroup-floor"}),
    ("phase_exit", {("subgroup_floor", "figure_micro"): []}, {"phase.subgroup-floor"}),
    (
        "phase_exit",
        {("evaluated",): False, ("subgroup_floor", "figure_micro"): []},
        {"phase.evaluation-missing"},
    ),
    ("site_statistics", {("plan", "noise_multiplier_micro"): 799_999}, {"site.noise-floor"}),
    ("site_statistics", {("plan", "epsilon_micro"): 9}, {"site.plan-cap"}),
    ("site_statistics", {("running_code",): "c" * 64}, {"plan.code"}),
    ("site_statistics", {("approved_by_steward",): False}, {"plan.not-approved"}),
    ("site", {("plan", "noise_multiplier_micro"): 799_999}, {"site.noise-floor"}),
    ("site", {("plan", "clip_l2_micro"): 1_000_001}, {"site.clip-ceiling"}),
    ("site", {("plan", "comparison_epsilon_micro"): 3_000_001}, {"site.comparison"}),
    ("site", {("plan", "drift_margin_micro"): 99_999}, {"site.drift-margin"}),
    ("site", {("plan", "epsilon_micro"): 9}, {"site.plan-cap"}),
    ("site", {("plan", "family"): "transformer"}, {"site.model-family"}),
    ("site", {("running_code",): "c" * 64}, {"plan.code"}),
    ("site", {("plan", "bundle"): "c" * 64}, {"plan.bundle"}),
    ("site", {("plan", "network"): "c" * 64}, {"plan.bundle"}),
    ("site", {("approved_by_steward",): False}, {"plan.not-approved"}),
    ("cohort_size", {("cohort_patients",): 59}, {"site.cohort"}),
    ("cohort_size", {("minimum_patients",): 61}, {"site.cohort"}),
    ("cohort_size", {("register_patients",): 1_001}, {"site.delta"}),
    ("cohort_size", {("delta_pico",): 100_000_001}, {"site.delta"}),
]
"""(decision, what is changed, exactly the codes that it is refused under)."""


@pytest.mark.parametrize(("decision", "changes", "codes"), REFUSED)
def test_a_rule_refuses_one_step_over_its_threshold_and_alone(
    decision: str, changes: dict[Path_, object], codes: set[str]
) -> None:
    document = ADMITTED[decision]
    for path, value in changes.items():
        document = changed(document, path, value)
    assert set(installed_rules().decide(decision, document)) == codes


def test_every_code_of_every_decision_is_in_the_table() -> None:
    """A rule that is added without a row here, or is left out by accident, is noticed."""
    listed = {(decision, code) for decision, _, codes in REFUSED for code in codes}
    text = read_sources(INSTALLED)["decisions.rego"]
    words = [line.split('"') for line in text.splitlines() if ' contains "' in line]
    written = {(line[0].split()[0], line[1]) for line in words}
    assert listed == written and all(CODE.fullmatch(code) for _, code in written)


ALSO_ADMITTED: Final[list[tuple[str, dict[Path_, object]]]] = [
    ("plan", CLINICAL),
    ("plan", CLINICAL | {("plan", "scheme"): "homomorphic"}),
    *(("plan", MINIMAL | {("plan", "scheme"): each}) for each in get_args(Scheme)),
    *(("plan", {("plan", "scheme"): each}) for each in ("masked", "homomorphic")),
    ("plan", {("plan", "robust_sites"): 0}),
    ("plan", {("federation", "phase"): "expansion"}),
    ("plan", MINIMAL | {("federation", "phase"): "foundation", ("plan", "patients"): False}),
    ("release", {("in_force", "known"): False, ("in_force", "figure_micro"): 1_000_000}),
    ("release", {("in_force", "figure_micro"): 1_000_000, ("maximum_regression_micro",): 1_000_000}),
    ("release", {("subgroups", "wanted"): False, ("subgroups", "figure_micro"): []}),
    # A published benchmark fixes delta, and this hospital's own policy says that it may.
    ("cohort_size", {("delta_pico",): 100_000_001, ("delta_fixed_by_benchmark",): True}),
]


@pytest.mark.parametrize(("decision", "changes"), ALSO_ADMITTED)
def test_what_a_rule_does_not_ask_for_is_no_reason(decision: str, changes: dict[Path_, object]) -> None:
    document = ADMITTED[decision]
    for path, value in changes.items():
        document = changed(document, path, value)
    assert installed_rules().decide(decision, document) == ()
