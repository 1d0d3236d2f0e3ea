"""The model card of one round, as Markdown, for the model registry. What it says is `applied_card`'s."""

from __future__ import annotations

from policies.events import PlanPublished
from policies.state import FederationState
from tasks.coordinator.applied_card import applied_model_card, markdown


def model_card(
    state: FederationState, published: PlanPublished, round_number: int, *, public_auc: float | None
) -> str:
    """`public_auc` is the model's AUC on public test images, None where there are none."""
    return markdown(applied_model_card(state, published, round_number, public_auc=public_auc))
