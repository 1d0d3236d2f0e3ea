"""A federation at the beginning of its rollout: what its sites record, and what its officers do."""

from __future__ import annotations

from pathlib import Path

from adapters.home import Home
from adapters.unsaid import Unsaid
from flows.rollout.foundation import lay_foundation
from flows.rollout.phase import run_phase
from policies.code import running_code_digest
from policies.plan import Plan
from policies.rollout.record import Opened
from policies.rollout.signed_evidence import SignedEvidence
from policies.rollout.standing import Standing
from policies.rollout.statements import AgreementRecorded, ConformanceRecorded, PhaseTerms
from tasks.coordinator.party import Coordinator
from tasks.rollout.measurement import evidence_path
from tasks.rollout.signatures import keep, sign_evidence, statement_to_sign
from tests.consortium import SITES, Consortium, tiny_plan
from tests.policies.founding import named

TERMS = PhaseTerms(
    phase="foundation", study="dry-round", minimum_sites=4, minimum_rounds=1, minimum_figure=0.0,
    agreements=("baa", "dpa", "irb"),
)  # fmt: skip


def dry_round() -> Plan:
    return tiny_plan(
        name="dry-round",
        study="dry-round",
        risk_tier="minimal",
        data={
            "source": "phantoms",
            "image": {"height_px": 8, "width_px": 8, "modalities": ["OT"]},
            "labels": [0, 1],
            "minimum_patients": 20,
            "held_out_fraction": 0.5,
        },
    )


def new(root: Path) -> Consortium:
    return Consortium.found(root, phase="foundation")


def record(consortium: Consortium, *sites: str) -> None:
    """Leave at these sites, by default all, what they are to record."""
    for site in sites or SITES:
        unsaid = Unsaid(consortium.founded.sites[site])
        for kind in ("baa", "dpa", "irb"):
            unsaid.put(AgreementRecorded.from_value({"kind": kind, "document_digest": named(kind)}, what="x"))
        conformance = ConformanceRecorded(
            contract_digest=named("contract"), code_digest=running_code_digest()
        )
        unsaid.put(conformance)


async def founding(coordinator: Coordinator, *, terms: PhaseTerms = TERMS, wait_s: float = 20.0) -> Standing:
    async def work(party: Coordinator, opened: Opened) -> None:
        await lay_foundation(party, opened, plan=dry_round(), wait_s=wait_s)

    return await run_phase(coordinator, terms, work)


def package(consortium: Consortium) -> Path:
    state = consortium.state()
    assert state.rollout.measured is not None
    return evidence_path(consortium.founded.coordinator, state.phase, state.rollout.measured.entry_digest)


def signatures(consortium: Consortium, *officers: str) -> list[SignedEvidence]:
    """Of these officers, by default enough of every role, over the evidence that was measured last."""
    stewards = tuple(f"steward-of-{site}" for site in SITES[:3])
    chosen = officers or (*stewards, "the-compliance-officer")
    federation = consortium.founded.federation
    return [
        sign_evidence(package(consortium), consortium.founded.officers[name], federation) for name in chosen
    ]


def sign(consortium: Consortium, *officers: str) -> None:
    home = Home(consortium.founded.coordinator)
    statement = statement_to_sign(home.root, consortium.state())
    assert statement is not None
    keep(home, signatures(consortium, *officers), statement)
