"""What a round's model card says, in the fields of the CHAI Applied Model Card (v0.2), as JSON and as Markdown.

Only what is on the ledger, so that it says nothing new about patients: no counts, no exact site figures. The one
exception is the AUC on public images, which are nobody's training data and which the ledger does not know. A
field that nobody here can fill says so; whoever takes a model to the clinic fills it and answers for it. The field
names are those of the Coalition for Health AI's schema; numbers are text in it.

Sites are hostile or honest, so the card says what the federation's gates found, never what a model is good for.
"""

from __future__ import annotations

from datetime import UTC, datetime

from ledger.canonical import JsonValue
from policies.comparison import answers_of
from policies.events import PlanPublished
from policies.gates import epsilon_text
from policies.plan import Plan
from policies.recount import decimal_text
from policies.state import FederationState
from privacy.accounting import MICRO
from privacy.histogram import SUBGROUPS

NOT_STATED = "Not stated."
LIMITS = (
    "Research within the federation. Not a medical device; not validated for clinical use. A hostile site can "
    "under-noise its own patients' contribution or lie about its code; the evidence package says what was checked."
)
SUMMED = "A patient known to several sites is protected by the sum of their guarantees."

_TITLES = {
    "BasicInfo": "Model",
    "ReleaseInfo": "Release",
    "ModelSummary": "Summary",
    "UsesAndDirections": "Uses and directions",
    "Warnings": "Warnings",
    "AISystemFacts": "AI system facts",
    "TransparencyInformation": "Transparency",
    "UsefulnessUsabilityEfficacy": "Usefulness, usability and efficacy",
    "FairnessEquity": "Fairness and equity",
    "SafetyReliability": "Safety and reliability",
    "Resources": "Resources",
}


def trust_setting(plan: Plan) -> str:
    """Of what the plan's noise makes what private."""
    share, least = plan.noise_share, plan.participation.minimum_sites
    if share is None:
        return "Each site's update is private by its own noise (noise: local)."
    return (
        f"Private as a sum (noise: distributed): the noise protects the sum of at least {least} sites' updates, as "
        f"long as {share.shares} of them add their share and do not give it away; {plan.training.colluding} may "
        f"collude. A single site's update is hidden by the protected sum ({plan.scheme}), not by noise."
    )


def applied_model_card(
    state: FederationState, published: PlanPublished, round_number: int, *, public_auc: float | None = None
) -> dict[str, JsonValue]:
    """The card of a round, passed or failed, from the state at its end or later."""
    plan, key = published.plan, (published.plan_digest, round_number)
    registered, released = state.registered.get(key), state.released.get(key)
    verdict = state.verdicts.get(key)
    stage = "candidate: it passed every gate of its plan"
    if verdict is not None and not verdict.passed:
        stage = f"refused by its gates: {', '.join(verdict.violations)}"
    norms = f"in place of batch norms group norm of up to {plan.network.norm_groups} groups"
    network = f"MONAI {plan.network.described()}, {norms}"
    digest = "none: the sum was not opened" if released is None else f"SHA-256 {released.model_digest}"
    version = "" if registered is None else f", version {registered.version} of {registered.model_name}"
    return {
        "BasicInfo": {
            "ModelName": f"{plan.study}, round {round_number}",
            "ModelDeveloper": f"federation {state.founded().name}",
            "DeveloperContact": NOT_STATED,
        },
        "ReleaseInfo": {
            "ReleaseStage": stage,
            "ReleaseDate": datetime.fromtimestamp(state.log_time_s, UTC).strftime("%Y-%m-%d"),
            "ReleaseVersion": f"plan {plan.name}, edition {plan.edition}, round {round_number}{version}",
            "GlobalAvailability": "The members of the federation.",
        },
        "ModelSummary": {
            "Summary": f"{network}; model file (safetensors): {digest}; plan {published.plan_digest}; "
            f"ledger {state.origin}.",
            "Keywords": ["federated learning", "differential privacy", plan.study],
        },
        "UsesAndDirections": {
            "IntendedUseAndWorkflow": LIMITS,
            "PrimaryIntendedUsers": "Researchers of the members.",
            "HowToUse": "Load the safetensors file of that digest into the network named here.",
            "TargetedPatientPopulation": f"Patients of {_sites(state, published, round_number)} who consented to "
            "the plan's purpose.",
            "CautionedOutOfScopeSettings": "Any clinical decision; patients and devices unlike those of these sites.",
        },
        "Warnings": {
            "KnownRisksAndLimitations": LIMITS,
            "KnownBiasesOrEthicalConsiderations": "Sites differ in patients and devices, and weigh alike whatever "
            "their size. Subgroups are compared only where the plan asks for it.",
            "ClinicalRiskLevel": f"Risk tier of the plan: {plan.risk_tier}. No clinical use.",
        },
        "TrustIngredients": {
            "AISystemFacts": _facts(state, plan, network),
            "TransparencyInformation": {
                "FundingSource": NOT_STATED,
                "StakeholdersConsulted": "The data stewards of the sites that approved the plan.",
            },
        },
        "KeyMetrics": {
            "UsefulnessUsabilityEfficacy": _usefulness(state, published, round_number, public_auc),
            "FairnessEquity": _fairness(state, published, round_number),
            "SafetyReliability": _privacy(state, plan),
        },
        "Resources": {
            "EvaluationReferences": f"Evidence package of plan {published.plan_digest}, round {round_number}.",
            "PeerReviewedPublications": "None.",
            "PatientConsentOrDisclosure": f"Consent policy {plan.consent.policy_version}, purpose "
            f"{plan.consent.purpose}, applied by each site.",
        },
        "Bibliography": "",
    }


def markdown(card: dict[str, JsonValue]) -> str:
    """The same card for people."""
    basic = card["BasicInfo"]
    name = basic["ModelName"] if isinstance(basic, dict) else ""
    lines = [f"# {name}", ""]
    for section, value in card.items():
        if isinstance(value, dict):
            lines += _section(section, value)
    return "\n".join(lines)


def _section(section: str, value: dict[str, JsonValue]) -> list[str]:
    nested = {key: inner for key, inner in value.items() if isinstance(inner, dict)}
    if nested:
        return [line for key, inner in nested.items() for line in _section(key, inner)]
    lines = [f"## {_TITLES.get(section, section)}", "", "| | |", "|---|---|"]
    for key, inner in value.items():
        if key == "Results" and isinstance(inner, list):
            rows = [item for item in inner if isinstance(item, dict)]
            lines += [f"| {_cell(row['Label'])} | {_cell(row['ValueJson'])} |" for row in rows]
        else:
            text = ", ".join(map(str, inner)) if isinstance(inner, list) else str(inner)
            lines.append(f"| {_words(key)} | {_cell(text)} |")
    return [*lines, ""]


def _cell(text: JsonValue) -> str:
    return str(text).strip('"').replace("|", "\\|")


def _words(name: str) -> str:
    """ModelName → Model name."""
    split = "".join(f" {letter.lower()}" if letter.isupper() else letter for letter in name).strip()
    return split[:1].upper() + split[1:]


def _list(values: tuple[int, ...]) -> str:
    return ", ".join(map(str, values))


def _sites(state: FederationState, published: PlanPublished, round_number: int) -> str:
    return ", ".join(sorted(state.reported(published.plan_digest, round_number))) or "no site"


def _facts(state: FederationState, plan: Plan, network: str) -> dict[str, JsonValue]:
    training = plan.training
    steps = "DP-SGD at each site"
    if plan.noise_share is not None:
        steps = "DP-SGD over all sites, each adding its share of the noise"
    return {
        "OutcomesAndOutputs": f"A score for each of the labels {_list(plan.data.labels)}.",
        "ModelType": f"{network}; {steps}, protected sums ({plan.scheme}).",
        "InputDataSource": f"Registers of the sites: {', '.join(site.name for site in state.founded().sites())}.",
        "OutputAndInputDataTypes": f"{plan.data.described()}; scores.",
        "DevelopmentDataCharacterization": "Known to each site alone. A site signed that its data met the plan's "
        "contract; the number of its patients never leaves it.",
        "BiasMitigationApproaches": NOT_STATED,
        "OngoingMaintenance": "Later rounds and plans of the study; the ledger names the model in force.",
        "Security": "Plan, code, policy, receipts and verdict are on a witnessed ledger; a site's update is never "
        "opened alone.",
        "Transparency": f"Noise multiplier {decimal_text(training.noise_multiplier)}, sampling rate "
        f"{decimal_text(training.sampling_rate)}, {training.steps} steps a round, clip "
        f"{decimal_text(training.clip_l2)}. {trust_setting(plan)}",
    }


def _usefulness(
    state: FederationState, published: PlanPublished, round_number: int, public_auc: float | None
) -> JsonValue:
    evaluated = state.evaluated.get((published.plan_digest, round_number))
    figure, figure_micro = published.plan.figure, None if evaluated is None else evaluated.figure_micro
    results = [_result(f"Federated {figure}, held-out patients, noised", _share(figure_micro))]
    if public_auc is not None:
        results.append(_result("AUC on public test images", f"{public_auc:.3f}"))
    answers = answers_of(state, published.plan_digest, round_number)
    if answers is not None:
        results.append(
            _result("Sites for which it is at least as good as a model of their own", answers.text)
        )
    return _metric(
        f"{figure} of at least {decimal_text(published.plan.minimum_figure)}.",
        results,
        "Read off a noised histogram of all sites' scores: its own noise is part of the figure.",
    )


def _fairness(state: FederationState, published: PlanPublished, round_number: int) -> JsonValue:
    plan, evaluated = published.plan, state.evaluated.get((published.plan_digest, round_number))
    groups = SUBGROUPS[plan.evaluation.subgroups]
    values = () if evaluated is None else evaluated.subgroup_figures_micro
    results = [
        _result(f"{plan.figure}, {plan.evaluation.subgroups} {group}", _share(value))
        for group, value in zip(groups, values, strict=False)
    ]
    gap = plan.gates.maximum_subgroup_gap
    goal = (
        "None set by the plan."
        if gap is None
        else f"A gap between {plan.figure}s of at most {decimal_text(gap)}."
    )
    return _metric(
        goal, results or [_result(f"Subgroup {plan.figure}", "not measured")], "Noised like the whole figure."
    )


def _privacy(state: FederationState, plan: Plan) -> JsonValue:
    results: list[JsonValue] = []
    for site in state.founded().sites():
        if site.pool is not None:
            spent = epsilon_text(site.pool.epsilon_micro(state.spent_by(site.name)))
            cap = epsilon_text(site.pool.epsilon_cap_micro)
            results.append(
                _result(f"ε spent at {site.name}", f"{spent} of {cap} at δ = {decimal_text(site.pool.delta)}")
            )
    return _metric(
        "Every site's register stays under its own privacy budget.",
        results,
        f"Patient-level differential privacy, for all that this federation used these patients for so far. {SUMMED} "
        f"{trust_setting(plan)}{_others(state, plan)}",
        test_type="Recomputed from the ledger",
        data="Every reservation and settlement on the ledger.",
    )


def _others(state: FederationState, plan: Plan) -> str:
    """The figures count every plan, and a plan of the other setting gives its patients another guarantee."""
    others = [one.plan for one in state.plans.values() if one.plan != plan]
    if plan.noise_share is not None or not any(one.noise_share is not None for one in others):
        return ""
    return " What other plans of this federation drew with noise: distributed is private as a sum only."


def _metric(
    goal: str,
    results: list[JsonValue],
    meaning: str,
    *,
    test_type: str = "Internal, federated",
    data: str = "A split by patient at every site, the same for all plans, never trained on.",
) -> dict[str, JsonValue]:
    return {
        "MetricGoal": goal,
        "Results": results,
        "Interpretation": meaning,
        "TestType": test_type,
        "TestingDataDescription": data,
        "ValidationProcessAndJustification": "Every witness recomputed it before it cosigned the ledger.",
    }


def _result(label: str, value: str) -> JsonValue:
    return {"Label": label, "ValueJson": f'"{value}"'}


def _share(micro: int | None) -> str:
    """Three digits by whole-number arithmetic, rounded half up."""
    if micro is None:
        return "not defined"
    thousandths = (micro + 500) // 1000
    return f"{thousandths // 1000}.{thousandths % 1000:03d}" if micro <= MICRO else str(micro)
