"""Two champions are promoted, one after the other, and the clinic goes back to the first, and then to none.

A rehearsal of the whole clinical phase, twice, with officers of its own. Sabotaged, nobody says that it goes back.
"""

from __future__ import annotations

from functools import partial

from flows.coordinator import run_plan
from flows.rehearsal import LEARNED_PX, Rehearsal, rehearsing
from flows.rollout.drills.minutes import Minutes
from flows.rollout.phase import run_phase
from ledger.canonical import JsonValue
from ledger.errors import PolicyViolation
from policies.plan import Plan
from policies.rollout.record import Opened
from policies.rollout.standing import Standing
from policies.rollout.statements import PhaseTerms
from tasks.coordinator.party import Coordinator
from tasks.rehearsal.clinic import (
    champion_alias,
    clinical_terms,
    conform_everywhere,
    record_drills,
    sign_as_everybody,
)
from tasks.rehearsal.plan import rehearsal_plan
from tasks.rehearsal.shards import rewrite_shard
from tasks.rollout.founding import await_sites
from tasks.rollout.promotion import roll_back

SITES = ("hospital-a", "hospital-b", "hospital-c")
PATIENTS = 300
STUDY = "rehearsal"
EVALUATION: JsonValue = {"bins": 8, "noise_std": 1.0, "subgroups": "sex"}
STRANGER = "f" * 64
RECORDED_S = 20.0


async def rollback(minutes: Minutes) -> None:
    with rehearsing(SITES, patients=dict.fromkeys(SITES, PATIENTS), phase="clinical") as rehearsal:
        for site in SITES:  # so that subgroups have figures
            rewrite_shard(rehearsal, site, study=STUDY, patients=PATIENTS, width_px=LEARNED_PX, sexes=True)
        first = await _promoted(rehearsal, _plan("1"), maximum_regression=0.2)
        minutes.note("first-champion-promoted", bool(first) and champion_alias(rehearsal, STUDY) == 1)
        second = await _promoted(rehearsal, _plan("2"), maximum_regression=0.19)
        promoted = second not in ("", first) and champion_alias(rehearsal, STUDY) == 2
        minutes.note("second-champion-promoted", promoted)
        code = await rehearsal.serve(partial(_back, to=STRANGER))
        minutes.note("never-a-champion-refused", bool(code), code=code)
        if not minutes.sabotaged:
            await rehearsal.serve(partial(_back, to=first))
        minutes.note("back-to-the-first", _champion(rehearsal) == first)
        minutes.note("alias-follows", champion_alias(rehearsal, STUDY) == 1)
        if not minutes.sabotaged:
            await rehearsal.serve(partial(_back, to=None))
        none = not _champion(rehearsal) and champion_alias(rehearsal, STUDY) is None
        minutes.note("back-to-none", none)
        minutes.ledger(rehearsal)


def _plan(edition: str) -> Plan:
    return rehearsal_plan({"edition": edition, "risk_tier": "high", "evaluation": EVALUATION})


async def _promoted(rehearsal: Rehearsal, plan: Plan, *, maximum_regression: float) -> str:
    """Digest of the champion after a clinical phase with this plan, under terms of its own; "" if there is none."""
    terms = clinical_terms(STUDY, sites=len(SITES), maximum_regression=maximum_regression)
    conform_everywhere(rehearsal, plan)
    phase = partial(_clinical, plan=plan, terms=terms)
    await rehearsal.serve(phase)
    sign_as_everybody(rehearsal)
    await rehearsal.serve(phase)
    return _champion(rehearsal)


async def _clinical(coordinator: Coordinator, *, plan: Plan, terms: PhaseTerms) -> Standing:
    async def work(party: Coordinator, opened: Opened) -> None:
        await run_plan(party, plan)
        await record_drills(party, opened)
        await await_sites(party, opened, wait_s=RECORDED_S)

    return await run_phase(coordinator, terms, work)


async def _back(coordinator: Coordinator, *, to: str | None) -> str:
    """Go back; the code with which it is refused, or ""."""
    try:
        await roll_back(coordinator, study=STUDY, to=to, kind="model-harm")
    except PolicyViolation as refused:
        return refused.code
    return ""


def _champion(rehearsal: Rehearsal) -> str:
    found = rehearsal.state().rollout.champion(STUDY)
    return "" if found is None else found.body.model_digest
