"""The JSON documents of an evidence package, each derived from a reading of the ledger and nothing else.

Whole numbers, decimal fractions as text, names, codes and digests: the same bytes on every machine. Which files
they become lives in `payload`; the bill of materials in `ml_bom`, the model card in `tasks.coordinator.applied_card`.
"""

from __future__ import annotations

from ledger import canonical
from ledger.canonical import JsonValue
from policies.events import (
    EvaluationRecorded,
    GateVerdict,
    ModelRegistered,
    PlanApproved,
    RoundClosed,
    TrainingReceipt,
)
from policies.recount import PoolAccount, decimal_text
from privacy.accounting import ORDERS
from tasks.evidence.reading import LedgerReading, Reading, Told, refusals
from tasks.evidence.rules import RuleFiles

SCHEMA_VERSION = 1


def accounting(reading: LedgerReading, accounts: tuple[PoolAccount, ...]) -> JsonValue:
    """Every pool's spent curve, its epsilon, and each use of it (`policies.recount`)."""
    pools: list[JsonValue] = [account.to_json() for account in accounts]
    return {
        "schema_version": SCHEMA_VERSION,
        "origin": reading.origin,
        "size": reading.size,
        "orders": list(ORDERS),
        "unit": "micro",
        "pools": pools,
    }


def verdict(reading: Reading) -> JsonValue:
    """What the gates decided, over which reports, and who was missing."""
    judged = reading.all_of(GateVerdict)
    registered = next(iter(reading.all_of(ModelRegistered)), None)
    released = reading.state.released.get((reading.plan_digest, reading.round_number))
    refused: list[JsonValue] = [
        {
            "index": told.index,
            "said_by": told.institution,
            "site": body.site,
            "round": body.round,
            "step": body.step,
            "code": body.code,
        }
        for told, body in refusals(reading)
    ]
    return {
        "schema_version": SCHEMA_VERSION,
        "plan_digest": reading.plan_digest,
        "round": reading.round_number,
        "passed": registered is not None,
        "policy_digest": reading.state.policy_digest,
        "plan": next((_verdict(told, body) for told, body in judged if body.round == 0), None),
        "model": next((_verdict(told, body) for told, body in judged if body.round != 0), None),
        "counted": {step: _counted(reading, step) for step in reading.published.plan.steps},
        "refused": refused,
        "model_digest": None if released is None else released.model_digest,
        "registered": None
        if registered is None
        else {
            "index": registered[0].index,
            "model_name": registered[1].model_name,
            "version": registered[1].version,
            "run_id": registered[1].run_id,
        },
    }


def validation(reading: Reading) -> JsonValue:
    """The data contract's verdict at each site, as it signed it: that it held, and which suite was run."""
    reports: list[JsonValue] = [
        {
            "index": told.index,
            "site": told.institution,
            "step": body.statement.predicate.step,
            "passed": body.statement.predicate.validation.passed,
            "suite_digest": body.statement.predicate.validation.suite_digest,
        }
        for told, body in reading.all_of(TrainingReceipt)
    ]
    return {"schema_version": SCHEMA_VERSION, "reports": reports}


def evaluation(reading: Reading) -> JsonValue:
    """The opened, noised histogram and the figures that everybody reads off it."""
    found = next(iter(reading.all_of(EvaluationRecorded)), None)
    gates = reading.published.plan.gates
    wanted: dict[str, JsonValue] = {
        name: value if value is None else decimal_text(value)
        for name, value in (
            ("minimum_auc", gates.minimum_auc),
            ("minimum_dice", gates.minimum_dice),
            ("maximum_regression", gates.maximum_regression),
            ("maximum_subgroup_gap", gates.maximum_subgroup_gap),
        )
    }
    document: dict[str, JsonValue] = {
        "schema_version": SCHEMA_VERSION,
        "evaluated": found is not None,
        "wanted": wanted,
    }
    if found is not None:
        told, body = found
        document |= {
            "index": told.index,
            "auc_micro": body.auc_micro,
            "subgroup_auc_micro": list(body.subgroup_auc_micro),
            "dice_micro": body.dice_micro,
            "subgroup_dice_micro": list(body.subgroup_dice_micro),
            "histogram": list(body.histogram),
            "better_off": body.better_off,
            "sum_digest": body.sum_digest,
            "openings": len(body.openings),
        }
    return document


def code(reading: Reading) -> JsonValue:
    """The code that the plan approves, that stewards approved it for, and that sites say they ran."""
    approved = reading.published.plan.code_digests
    approvals: list[JsonValue] = [
        {"index": told.index, "site": told.institution, "code_digest": body.code_digest}
        for told, body in reading.all_of(PlanApproved)
    ]
    used: list[JsonValue] = [
        {
            "index": told.index,
            "site": told.institution,
            "step": body.statement.predicate.step,
            "code_digest": body.statement.predicate.code_digest,
            "approved": body.statement.predicate.code_digest in approved,
        }
        for told, body in reading.all_of(TrainingReceipt)
    ]
    return {
        "schema_version": SCHEMA_VERSION,
        "approved": list(approved),
        "approvals": approvals,
        "used": used,
    }


def policy(reading: LedgerReading, rules: RuleFiles) -> JsonValue:
    """The policy in force at the end, and the rules that belong to it if they are enclosed."""
    enclosed = rules.policy_digest == reading.state.policy_digest
    return {
        "schema_version": SCHEMA_VERSION,
        "policy_digest": reading.state.policy_digest,
        "enclosed": enclosed,
        "rules": {name: canonical.digest(data) for name, data in rules.files.items()} if enclosed else {},
    }


def receipts(reading: Reading) -> dict[str, bytes]:
    """The round's in-toto statements, counted or not, by a name that says where on the ledger each stands."""
    return {
        f"{told.index:09d}-{told.institution}-{body.statement.predicate.step}.json": (
            body.statement.canonical_bytes()
        )
        for told, body in reading.all_of(TrainingReceipt)
    }


def _verdict(told: Told, body: GateVerdict) -> JsonValue:
    return {"index": told.index, "passed": body.passed, "violations": list(body.violations)}


def _counted(reading: Reading, step: str) -> JsonValue:
    """The closed set of a step, None if it never closed."""
    by_entry = {told.entry_digest: told for told, _ in reading.all_of(TrainingReceipt)}
    for told, body in reading.all_of(RoundClosed):
        if body.step == step:
            counted: list[JsonValue] = [
                {"index": by_entry[entry].index, "site": by_entry[entry].institution, "entry_digest": entry}
                for entry in body.receipts
            ]
            missing: list[JsonValue] = [{"site": gone.site, "code": gone.code} for gone in body.missing]
            return {"index": told.index, "reports": counted, "missing": missing}
    return None
