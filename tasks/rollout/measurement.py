"""Measure a phase and write its evidence: what officers are given to sign.

A measurement that stands is not repeated; evidence is a function of the ledger, so that it is written again wherever
it is missing or damaged. What is in it lives in `tasks.evidence`.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from ledger.errors import CodedError, PolicyViolation, Violation
from ledger.evidence_manifest import Manifest, parse
from ledger.evidence_package import MANIFEST, PAYLOAD
from ledger.evidence_zip import PackedFiles
from policies.rollout import gate
from policies.rollout.record import Measured
from policies.rollout.statements import PhaseMeasured
from tasks.coordinator.party import Coordinator
from tasks.evidence.building import phase_package_name, write_phase_evidence
from tasks.step import step


@step
async def measure(coordinator: Coordinator, *, again: bool = False) -> Measured:
    """The measurement that stands, else a new one; PolicyViolation with everything that is missing.

    `again`: a new one in any case, of the rounds that came since.
    """
    coordinator.tell(f"measure {coordinator.state.phase}")
    await coordinator.heard()
    state = coordinator.state
    opened, stands = state.rollout.opened, state.rollout.measured
    if stands is not None and stands.policy_digest == state.policy_digest and not again:
        return stands
    if opened is None:
        raise PolicyViolation([Violation("phase.not-opened", f"no terms of {state.phase} are published")])
    missing = gate.exit_violations(state, opened)
    if missing:
        raise PolicyViolation(missing)
    await coordinator.say(
        PhaseMeasured(phase=state.phase, opened=opened.entry_digest, policy_digest=state.policy_digest)
    )
    measured = coordinator.state.rollout.measured
    if measured is None:  # an incident came in between
        raise PolicyViolation([Violation("phase.not-measured", "an incident was reported meanwhile")])
    return measured


@step
async def record_phase_evidence(coordinator: Coordinator, measured: Measured) -> Path:
    """The package of a measurement that is final, written unless one is there that reads well."""
    await coordinator.until_final(measured.index)
    phase = coordinator.state.phase
    path = evidence_path(coordinator.home.root, phase, measured.entry_digest)
    if await asyncio.to_thread(manifest_of, path) is None:
        await asyncio.to_thread(
            write_phase_evidence,
            coordinator.home,
            coordinator.exchange,
            phase=phase,
            measured=measured.entry_digest,
        )
    return path


def manifest_of(path: Path) -> Manifest | None:
    """Of a package every byte of which can be read; None of one that is damaged, and where there is none. Whether it
    holds is for its readers to verify."""
    try:
        with PackedFiles(path) as files:
            for name in files.names:
                files.read(name)
            return parse(files.read(PAYLOAD + MANIFEST)) if PAYLOAD + MANIFEST in files.names else None
    except (OSError, CodedError):
        return None


def evidence_path(home: Path, phase: str, measured: str) -> Path:
    return home / "evidence" / phase_package_name(phase, measured)
