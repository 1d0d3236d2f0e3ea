"""The payload of an evidence package: every file that is derived from the ledger, by its path below payload/.

A pure function of the entries up to the end of the round or phase and, for the rules, of the policy that was in
force then: whoever has both gets these bytes, on any machine, in any locale and time zone. The ledger's own files and
the manifest are added by `ledger.evidence_package`. Nothing comes from anywhere else, so nothing about patients can
get in.

    of a round:  plan.json  policy/policy.json  policy/*.rego  receipts/*.json  accounting.json  verdict.json
                 validation.json  evaluation.json  model-card.md  model-card.json  ml-bom.json  code.json
    of a phase:  phase.json  plans/*.json  policy/policy.json  policy/*.rego  accounting.json
"""

from __future__ import annotations

from ledger import canonical
from ledger.canonical import JsonValue
from policies.recount import PoolAccount
from tasks.coordinator.applied_card import applied_model_card, markdown
from tasks.evidence import documents
from tasks.evidence.ml_bom import ml_bom
from tasks.evidence.phase import phase_document, phase_plans
from tasks.evidence.reading import PhaseReading, Reading
from tasks.evidence.rules import RuleFiles


def derived(
    reading: Reading | PhaseReading, accounts: tuple[PoolAccount, ...], rules: RuleFiles
) -> dict[str, bytes]:
    """The derived files of the round or phase that `reading` ends with. `accounts` are its recount's."""
    files = _of_round(reading) if isinstance(reading, Reading) else _of_phase(reading)
    told: dict[str, JsonValue] = {
        "accounting.json": documents.accounting(reading, accounts),
        "policy/policy.json": documents.policy(reading, rules),
    }
    files |= {name: canonical.encode(value) for name, value in told.items()}
    if rules.policy_digest == reading.state.policy_digest:
        files |= {f"policy/{name}": data for name, data in rules.files.items()}
    return files


def _of_round(reading: Reading) -> dict[str, bytes]:
    card = applied_model_card(reading.state, reading.published, reading.round_number)
    told: dict[str, JsonValue] = {
        "code.json": documents.code(reading),
        "evaluation.json": documents.evaluation(reading),
        "ml-bom.json": ml_bom(reading),
        "model-card.json": card,
        "validation.json": documents.validation(reading),
        "verdict.json": documents.verdict(reading),
    }
    files = {name: canonical.encode(value) for name, value in told.items()}
    files["plan.json"] = reading.published.plan.canonical_bytes()
    files["model-card.md"] = markdown(card).encode()
    return files | {f"receipts/{name}": data for name, data in documents.receipts(reading).items()}


def _of_phase(reading: PhaseReading) -> dict[str, bytes]:
    plans = {f"plans/{digest}.json": plan.canonical_bytes() for digest, plan in phase_plans(reading).items()}
    return {"phase.json": canonical.encode(phase_document(reading)), **plans}
