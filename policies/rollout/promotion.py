"""The champions of a rollout: may this model be let into the clinic, or be taken out of it, now?

A promotion is the end of the clinical phase: what every end needs is `policies.rollout.gate`, whose signatures count
`policies.rollout.sign_off`. Going back needs nobody's signature: whoever doubts a model must be able to stop it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ledger.errors import Violation
from policies.federation import PHASES
from policies.rollout.gate import ending
from policies.rollout.reached import RoundKey, counted_rounds
from policies.rollout.statements import ModelPromoted, ModelRolledBack

if TYPE_CHECKING:
    from policies.state import FederationState


def promotion(state: FederationState, body: ModelPromoted) -> list[Violation]:
    """The clinical phase ends with the model that its evidence is of, under the change plan of its terms."""
    found: list[Violation] = []
    if state.phase != PHASES[-1]:
        said = f"the federation is in its phase {state.phase}: a model is promoted in {PHASES[-1]} alone"
        found.append(Violation("phase.order", said))
    found += ending(state, body)
    opened = state.rollout.opened
    if opened is not None and body.change_plan_digest != opened.terms.change_plan:
        found.append(Violation("model.change-plan", "this is not the change plan that the terms name"))
    newest = measured_model(state)
    if newest is None or newest != (body.plan_digest, body.round):
        found.append(Violation("model.not-measured", "the evidence is not of this model"))
    elif state.registered[newest].model_digest != body.model_digest:
        found.append(Violation("model.digest", "this is not the model that was registered"))
    return found


def rollback(state: FederationState, body: ModelRolledBack) -> list[Violation]:
    champions = state.rollout.champions.get(body.study, ())
    if not champions:
        return [Violation("model.no-champion", f"{body.study} has no champion")]
    if body.to is not None and body.to not in (one.body.model_digest for one in champions[:-1]):
        return [
            Violation("model.never-champion", f"this was no champion of {body.study} before the one in force")
        ]
    return []


def measured_model(state: FederationState) -> RoundKey | None:
    """The model that the measurement in force judged: the newest that counted there, whatever came since."""
    opened, measured = state.rollout.opened, state.rollout.measured
    if opened is None or measured is None:
        return None
    rounds = (key for key in counted_rounds(state, opened) if state.registered_at[key] < measured.index)
    return next(reversed(tuple(rounds)), None)
