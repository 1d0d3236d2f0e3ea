"""Promote the model that a clinical phase measured, and go back from it; MLflow's alias follows the ledger.

    alias candidate   the newest registered version of a study (`tasks.coordinator.record`)
    alias champion    the version that officers let into the clinic; none after a rollback to none

The ledger decides; an alias is moved after the entry is final, and moved again by whatever runs next if that was cut
off in between. What may be promoted is `policies.rollout.promotion`, who signs `tasks.rollout.signatures`.
"""

from __future__ import annotations

import asyncio

from adapters.lineage import name_champion
from ledger.errors import PolicyViolation, Violation
from policies.federation import PHASES
from policies.rollout import promotion
from policies.rollout.record import Champion
from policies.rollout.sign_off import SignOffStatement
from policies.rollout.statements import IncidentKind, ModelPromoted, ModelRolledBack
from tasks.coordinator.party import Coordinator
from tasks.rollout.signatures import advance, signed
from tasks.step import step


async def end_phase(coordinator: Coordinator, statement: SignOffStatement) -> None:
    """End the phase of this statement: the last with a promotion, every other with `phase.advanced`."""
    if statement.phase == PHASES[-1]:
        await promote(coordinator, statement)
    else:
        await advance(coordinator, statement)


@step
async def promote(coordinator: Coordinator, statement: SignOffStatement) -> Champion:
    """Say that the model of this statement's evidence is its study's champion, with the signatures that the home
    keeps; nothing where that was said. PolicyViolation names what is missing."""
    found = _promoted(coordinator, statement)
    if found is None:
        coordinator.tell("promote")
        sign_offs = await signed(coordinator, statement)
        state = coordinator.state
        opened, newest = state.rollout.opened, promotion.measured_model(state)
        if opened is None or opened.terms.change_plan is None or newest is None:
            said = "nothing was measured under terms of the clinic, or an incident was reported since"
            raise PolicyViolation([Violation("phase.not-measured", said)])
        body = ModelPromoted(
            plan_digest=newest[0],
            round=newest[1],
            model_digest=state.registered[newest].model_digest,
            measured=statement.measured,
            evidence_digest=statement.evidence_digest,
            policy_digest=statement.policy_digest,
            change_plan_digest=opened.terms.change_plan,
            sign_offs=sign_offs,
        )
        violations = promotion.promotion(state, body)
        if violations:
            raise PolicyViolation(violations)
        await coordinator.say(body)
        found = _promoted(coordinator, statement)
        if found is None:  # rolled back in the same moment
            raise PolicyViolation([Violation("model.no-champion", "the model was rolled back meanwhile")])
    await settle_champions(coordinator)
    return found


@step
async def roll_back(
    coordinator: Coordinator, *, study: str, to: str | None, kind: IncidentKind
) -> Champion | None:
    """Go back to an earlier champion of the study by its model digest, or to none; the one in force then. Nothing is
    said where that is so already. PolicyViolation: model.no-champion, model.never-champion."""
    coordinator.tell("roll back")
    there = coordinator.state.rollout.champion(study)
    if (None if there is None else there.body.model_digest) != to:
        body = ModelRolledBack(study=study, to=to, kind=kind)
        violations = promotion.rollback(coordinator.state, body)
        if violations:
            raise PolicyViolation(violations)
        await coordinator.say(body)
    await settle_champions(coordinator)
    return coordinator.state.rollout.champion(study)


async def settle_champions(coordinator: Coordinator) -> None:
    """Let the alias of every study that ever had a champion name the one in force."""
    state = coordinator.state
    for study in sorted(state.rollout.champions):
        found = state.rollout.champion(study)
        version = None
        if found is not None:
            version = state.registered[found.body.plan_digest, found.body.round].version
        await asyncio.to_thread(name_champion, coordinator.home.root, study, version)


def _promoted(coordinator: Coordinator, statement: SignOffStatement) -> Champion | None:
    for champions in coordinator.state.rollout.champions.values():
        for one in champions:
            if one.body.measured == statement.measured:
                return one
    return None
