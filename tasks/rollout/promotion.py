"""Promote the model that a clinical phase measured, and go back from it; MLflow's alias follows the ledger.

    alias candidate   the newest registered version of a study (`tasks.coordinator.record`)
    alias champion    the version that officers let into the clinic; none after a rollback to none

The ledger decides. A promotion moves the alias once it is final, a rollback as soon as it is said: nobody is to go on
with a model that harms until witnesses are back. Moved again by whatever phase runs next if that was cut off in
between. What may be promoted is `policies.rollout.promotion`, who signs `tasks.rollout.signatures`.
"""

from __future__ import annotations

import asyncio

from adapters.lineage import name_champion
from ledger.errors import CodedError, PolicyViolation, Violation
from policies.federation import PHASES
from policies.rollout import promotion
from policies.rollout.record import Champion
from policies.rollout.sign_off import SignOffStatement
from policies.rollout.statements import IncidentKind, ModelPromoted, ModelRolledBack
from tasks.background import DeadlineError
from tasks.coordinator.party import Coordinator
from tasks.rollout.signatures import advance, signed
from tasks.step import repeatable_step, step


class NotFinalYetError(CodedError):
    code = "model.not-final"


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
    await coordinator.until_final(found.index)  # said by a run that did not see it final
    await _move_aliases(coordinator)
    return found


@step
async def roll_back(
    coordinator: Coordinator, *, study: str, to: str | None, kind: IncidentKind
) -> Champion | None:
    """Go back to an earlier champion of the study by its model digest, or to none; the one in force then. Nothing is
    said where that is so already. PolicyViolation: model.no-champion, model.never-champion. NotFinalYetError: it is
    said and the alias moved, and too few witnesses have signed."""
    coordinator.tell("roll back")
    there = coordinator.state.rollout.champion(study)
    if (None if there is None else there.body.model_digest) != to:
        body = ModelRolledBack(study=study, to=to, kind=kind)
        violations = promotion.rollback(coordinator.state, body)
        if violations:
            raise PolicyViolation(violations)
        await coordinator.say(body, final=False)
    await _move_aliases(coordinator)
    said = coordinator.state.rollout.went_back(study)
    if said is not None:
        await _await_finality(coordinator, said.index)
    return coordinator.state.rollout.champion(study)


@repeatable_step
async def settle_champions(coordinator: Coordinator) -> None:
    """Let the alias of every study that ever had a champion name the one in force: at once whatever is final, then
    what a run that was cut off said and did not see final."""
    rollout, final_size = coordinator.state.rollout, coordinator.final_size
    await _move_aliases(coordinator)
    newest = max((one.index for champions in rollout.champions.values() for one in champions), default=-1)
    if newest >= final_size:  # as it was: it may have become final while aliases were moved
        await coordinator.until_final(newest)
        await _move_aliases(coordinator)


async def _await_finality(coordinator: Coordinator, index: int) -> None:
    try:
        await coordinator.until_final(index)
    except DeadlineError:
        raise NotFinalYetError(
            "the rollback stands on the coordinator's ledger and MLflow's alias is moved, but too few witnesses have "
            "signed it yet",
            remedy="It becomes final when a quorum of witnesses is back; give the same command again to see it so.",
        ) from None
    # Whatever it went back to is final with it.
    await _move_aliases(coordinator)


async def _move_aliases(coordinator: Coordinator) -> None:
    """To the newest champion of each study whose promotion is final; a rollback counts as soon as it is said."""
    state, final_size = coordinator.state, coordinator.final_size
    for study, champions in sorted(state.rollout.champions.items()):
        found = next((one for one in reversed(champions) if one.index < final_size), None)
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
