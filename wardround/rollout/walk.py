"""The walk through the four phases: at each gate something is made to fail first, and mended once the gate refused.

Every step calls what an institution would: the phases' flows, a hospital's conformance check, officers' signatures. A
walk that was cut off is continued, for each of them looks at the ledger first. What is made to fail lives in
`wardround.rollout.failures`, what is printed in `wardround.rollout.story`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from adapters.home import Home
from adapters.institution_log import read_state
from adapters.officer import OfficerFolder
from flows.consortium import all_serving
from flows.rollout.clinical import clinical
from flows.rollout.expansion import expansion
from flows.rollout.foundation import foundation
from flows.rollout.pilot import pilot
from ledger.errors import CodedError, PolicyViolation, Violation
from policies.federation import PHASES, Officer, OfficerRole, Phase
from policies.gates import figure_text
from policies.rollout.reached import Reached, reached
from policies.rollout.sign_off import SignOffStatement
from policies.rollout.signed_evidence import SignedEvidence
from policies.rollout.statements import Drill
from policies.state import FederationState
from tasks.coordinator.party import opened_coordinator
from tasks.rollout.measurement import evidence_path
from tasks.rollout.promotion import end_phase
from tasks.rollout.signatures import keep, signed_evidence, verified
from tasks.rollout.terms import enter, read_terms
from wardround.rollout.act import Act, Refusal
from wardround.rollout.act import keep as keep_act
from wardround.rollout.cast import IMAGES, Cast
from wardround.rollout.failures import FAILURES
from wardround.rollout.records import Records, keeping_records

NIGHTS: Final[dict[Phase, int]] = {"foundation": 1, "pilot": 3, "expansion": 1, "clinical": 1}
FOUNDING_WAIT_S: Final = 120.0
REGULATOR: Final[OfficerRole] = "regulatory-officer"


class NotRefusedError(CodedError):
    code = "rollout.not-refused"


@dataclass
class Walk:
    cast: Cast
    stop_at: Phase | None
    """The phase whose failure is left as it is."""
    tell: Callable[[str], None]

    def state(self) -> FederationState:
        return read_state(Home(self.cast.coordinator))[0]

    async def through(self) -> None:
        """All phases. PolicyViolation at the gate of `stop_at`, with everything that it wants."""
        with keeping_records(self.cast) as records:
            async with all_serving(self.cast.sites):
                await self.phase_by_phase(records)

    async def phase_by_phase(self, records: Records) -> None:
        for phase in PHASES:
            if self.is_over(phase):
                continue
            act, began = Act(phase), time.monotonic()
            await self.play(act, records)
            act.seconds = round(time.monotonic() - began, 1)
            keep_act(self.cast.root, act)

    def is_over(self, phase: Phase) -> bool:
        state = self.state()
        if phase == PHASES[-1]:
            return state.rollout.champion(IMAGES) is not None
        return PHASES.index(state.phase) > PHASES.index(phase)

    async def play(self, act: Act, records: Records) -> None:
        # 1. Something fails, and the gate says no.
        failure = FAILURES[act.phase]
        failure.prepare(self.cast)
        async with opened_coordinator(self.cast.coordinator) as coordinator:
            await enter(coordinator, read_terms(self.cast.terms(act.phase)))
        recording = asyncio.create_task(records.of_phase(act.phase))
        try:
            await self.refused(act, failure.told, failure.code, failure.happen(self.cast, self.run))
        finally:
            await recording
        # 2. It is mended, and the phase does its work.
        await failure.mend(self.cast, records)
        for night in range(1, NIGHTS[act.phase] + 1):
            await self.run(act.phase, night)
        # 3. Officers read the evidence and sign; the phase ends.
        await self.end(act)
        self.tell(f"{act.phase}: over, signed by {len(act.signed)} officers")

    async def refused(self, act: Act, told: str, code: str, attempt: Awaitable[None]) -> None:
        """What the gate says to it; whatever else goes wrong is no part of the demo."""
        self.tell(f"{act.phase}: {told}")
        try:
            await attempt
        except PolicyViolation as refused:
            codes = tuple(sorted({one.code for one in refused.violations}))
            if code not in codes:
                raise
            act.refusals.append(Refusal(told=told, codes=codes))
            self.tell(f"{act.phase}: refused, {', '.join(codes)}")
            if self.stop_at == act.phase:
                keep_act(self.cast.root, act)
                raise
        else:
            raise NotRefusedError(f"the gate of {act.phase} let through what was made to fail")

    async def run(
        self,
        phase: Phase,
        night: int = 1,
        *,
        terms: Path | None = None,
        sabotage: Drill | None = None,
        wait_s: float = FOUNDING_WAIT_S,
    ) -> None:
        """A phase's flow, once."""
        home, plan = str(self.cast.coordinator), str(self.cast.plan(phase))
        under, edition = str(terms or self.cast.terms(phase)), f"night-{night}"
        match phase:
            case "foundation":
                await foundation(home=home, terms=under, plan=plan, wait_s=wait_s)
            case "pilot":
                asks = night == NIGHTS[phase]
                plan = str(self.cast.last_night) if asks else plan
                await pilot(home=home, terms=under, plan=plan, edition=edition)
            case "expansion":
                await expansion(home=home, terms=under, plan=plan, edition=edition, sabotage=sabotage)
            case "clinical":
                await clinical(home=home, terms=under, plan=plan, edition=edition, sabotage=sabotage)

    async def end(self, act: Act) -> None:
        """Verify the evidence whole, offline, as officers do; sign; and carry the signatures to the ledger."""
        state, federation = self.state(), self.cast.federation
        opened, measured = state.rollout.opened, state.rollout.measured
        if opened is None or measured is None:
            raise PolicyViolation([Violation("phase.not-measured", f"{act.phase} was not measured")])
        act.figures = _figures(reached(state, opened)) if act.phase != PHASES[0] else "of phantoms"
        evidence = evidence_path(self.cast.coordinator, act.phase, measured.entry_digest)
        act.evidence = evidence.name
        self.tell(f"{act.phase}: officers verify the evidence and sign")
        statement = await verified(evidence, federation)
        needed = dict(federation.sign_offs_for(act.phase))
        signers: list[Officer] = []
        for officer in federation.officers:
            if needed.get(officer.role, 0):
                needed[officer.role] -= 1
                signers.append(officer)
        signed = [
            signed_evidence(statement, officer, OfficerFolder(self.cast.officer(officer.name)))
            for officer in signers
        ]
        last = [one for one, by in zip(signed, signers, strict=True) if by.role == REGULATOR]
        if last and act.phase == PHASES[-1]:
            others = [one for one in signed if one not in last]
            told = f"the {REGULATOR} has not signed"
            await self.refused(act, told, "phase.sign-off", self._advanced(others, statement))
        act.signed = tuple(officer.name for officer in signers)
        # A walk that is cut off from here on finds the phase over, and never comes back to tell of it.
        keep_act(self.cast.root, act)
        await self._advanced(signed, statement)

    async def _advanced(self, signed: list[SignedEvidence], statement: SignOffStatement) -> None:
        keep(Home(self.cast.coordinator), signed, statement)
        async with opened_coordinator(self.cast.coordinator) as coordinator:
            await end_phase(coordinator, statement)


def _figures(found: Reached) -> str:
    told = [f"AUC {figure_text(found.figure_micro)}"]
    if found.limits is not None:
        told.append(f"its lower limit {figure_text(found.judged_micro)}")
    if found.better_off is not None:
        told.append(f"better off: {found.better_off.text}")
    return ", ".join(told)
