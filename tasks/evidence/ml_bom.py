"""The model's bill of materials: CycloneDX 1.6, one machine-learning-model component with its model card.

Derived from the ledger alone, so serial number and timestamp are too: the first from what the package is about, the
second from log time. Datasets are named by the commitments of the receipts, which only their site can open; the
environment is a document of its own (`environment`). Specification: CycloneDX 1.6 JSON schema.
"""

from __future__ import annotations

import uuid
from datetime import UTC, datetime

from ledger.canonical import JsonValue
from policies.events import TrainingReceipt
from policies.facts import uses_patients
from policies.recount import decimal_text
from privacy.accounting import MICRO
from privacy.histogram import SUBGROUPS
from tasks.coordinator.applied_card import LIMITS, trust_setting
from tasks.evidence.reading import Reading

_SHA256 = "SHA-256"


def ml_bom(reading: Reading) -> dict[str, JsonValue]:
    """The bill of materials of the round's model; of a round that released none, without its hash."""
    subject = f"urn:wardround:{reading.origin}:{reading.plan_digest}:{reading.round_number}"
    when = datetime.fromtimestamp(reading.state.log_time_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    datasets = _datasets(reading)
    components: list[JsonValue] = [
        _model(reading, [ref for ref, _ in datasets]),
        *(data for _, data in datasets),
    ]
    depends: list[JsonValue] = [{"ref": "model", "dependsOn": [ref for ref, _ in datasets]}]
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, subject)}",
        "version": 1,
        "metadata": {
            "timestamp": when,
            "lifecycles": [{"phase": "post-build"}],
            "tools": {"components": [_tool(reading)]},
            "properties": [
                {"name": "wardround:ledger_origin", "value": reading.origin},
                {"name": "wardround:ledger_size", "value": str(reading.size)},
                {"name": "wardround:plan_digest", "value": reading.plan_digest},
                {"name": "wardround:round", "value": str(reading.round_number)},
                {"name": "wardround:policy_digest", "value": reading.state.policy_digest},
            ],
        },
        "components": components,
        "dependencies": depends,
    }


def _tool(reading: Reading) -> JsonValue:
    """The program, by the code that the plan approves; CycloneDX gives a component one hash an algorithm."""
    approved = reading.published.plan.code_digests
    tool: dict[str, JsonValue] = {"type": "application", "name": "wardround"}
    if len(approved) == 1:
        tool["hashes"] = [{"alg": _SHA256, "content": approved[0]}]
    return tool


def _model(reading: Reading, dataset_refs: list[str]) -> JsonValue:
    plan, key = reading.published.plan, (reading.plan_digest, reading.round_number)
    released, registered = reading.state.released.get(key), reading.state.registered.get(key)
    model: dict[str, JsonValue] = {
        "type": "machine-learning-model",
        "bom-ref": "model",
        "name": plan.study,
        "version": f"{plan.edition}+round-{reading.round_number}",
        "description": f"MONAI {plan.network.name}, trained under differential privacy over several hospitals.",
        "modelCard": _card(reading, dataset_refs),
        "properties": [{"name": "wardround:passed", "value": "true" if registered is not None else "false"}],
    }
    if released is not None:
        model["hashes"] = [{"alg": _SHA256, "content": released.model_digest}]
    parent = reading.state.model_before(reading.plan_digest, max(1, reading.round_number))
    if parent is not None:
        ancestor: JsonValue = {
            "type": "machine-learning-model",
            "name": f"{plan.study} before this round",
            "hashes": [{"alg": _SHA256, "content": parent}],
        }
        model["pedigree"] = {"ancestors": [ancestor]}
    return model


def _card(reading: Reading, dataset_refs: list[str]) -> JsonValue:
    plan = reading.published.plan
    references: list[JsonValue] = [{"ref": ref} for ref in dataset_refs]
    considerations: dict[str, JsonValue] = {
        "users": ["Researchers of the members of the federation"],
        "useCases": ["Research within the federation"],
        "technicalLimitations": [LIMITS],
        "ethicalConsiderations": [
            {
                "name": "What the model says about one patient",
                "mitigationStrategy": "Patient-level DP-SGD: noise multiplier "
                f"{decimal_text(plan.training.noise_multiplier)}, clip {decimal_text(plan.training.clip_l2)}. "
                f"{trust_setting(plan)} The budget of each site's register is on the ledger (accounting.json).",
            }
        ],
    }
    return {
        "modelParameters": {
            "approach": {"type": "supervised"},
            "task": "image classification",
            "architectureFamily": "convolutional network",
            "modelArchitecture": f"MONAI {plan.network.name}",
            "datasets": references,
            "inputs": [{"format": plan.data.described()}],
            "outputs": [{"format": "one score a label"}],
        },
        "quantitativeAnalysis": {"performanceMetrics": _metrics(reading)},
        "considerations": considerations,
    }


def _metrics(reading: Reading) -> list[JsonValue]:
    evaluated = reading.state.evaluated.get((reading.plan_digest, reading.round_number))
    if evaluated is None or evaluated.figure_micro is None:
        return []
    figure = reading.published.plan.figure
    found: list[JsonValue] = [
        _metric(figure, evaluated.figure_micro, "held-out patients of all sites, noised")
    ]
    kind = reading.published.plan.evaluation.subgroups
    found.extend(
        _metric(figure, value, f"{kind} {group}, noised")
        for group, value in zip(SUBGROUPS[kind], evaluated.subgroup_figures_micro, strict=False)
        if value is not None
    )
    return found


def _metric(figure: str, value_micro: int, part: str) -> JsonValue:
    return {"type": figure, "value": f"{value_micro // MICRO}.{value_micro % MICRO:06d}", "slice": part}


def _datasets(reading: Reading) -> list[tuple[str, JsonValue]]:
    """(bom-ref, component) for every report, whether it counted or not, by the site's own commitment."""
    found: list[tuple[str, JsonValue]] = []
    patients = uses_patients(reading.published.plan)
    for told, body in reading.all_of(TrainingReceipt):
        about = body.statement.predicate
        ref = f"data-{told.index}"
        use = "training" if about.step == "training" else "evaluation"
        data: JsonValue = {
            "type": "dataset",
            "name": f"{'register' if patients else 'phantoms'} of {told.institution}",
            "description": "Named by a commitment that is keyed and salted at the site. Nobody else can open it.",
            "classification": "health data; never leaves the site" if patients else "made up; of no patient",
        }
        component: JsonValue = {
            "type": "data",
            "bom-ref": ref,
            "name": f"{told.institution}, {use}",
            "data": [data],
            "properties": [
                {"name": "wardround:dataset_commitment", "value": about.dataset_commitment},
                {"name": "wardround:ledger_index", "value": str(told.index)},
            ],
        }
        found.append((ref, component))
    return found
