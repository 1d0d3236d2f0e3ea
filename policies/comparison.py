"""How many sites said that they are better off: what the opened answers of a plan's last evaluation come to.

Readings of the folded state, the same for whoever has the ledger. Each answer is a randomised response
(`privacy.randomised_response`); that it was drawn honestly is the site's word, like its noise. Giving the answer is
`tasks.worker.site_session`; what a phase asks of the count, `policies.rollout.gate`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ledger.canonical import JsonValue
from privacy.randomised_response import Estimate, estimate

if TYPE_CHECKING:
    from policies.state import FederationState


@dataclass(frozen=True, slots=True)
class Answers:
    """Of the sites of a closed evaluation; whose is whose nobody knows."""

    yes: int
    asked: int
    epsilon: float
    """Of each answer."""

    @property
    def estimate(self) -> Estimate:
        """How many are better off in truth, as far as the answers tell."""
        return estimate(self.yes, asked=self.asked, epsilon=self.epsilon)

    @property
    def text(self) -> str:
        """For people: what was said, and what is behind it."""
        told = self.estimate
        return f"{self.yes} of {self.asked} sites said yes (estimate {told.value:.1f} ± {told.spread:.1f})"

    def to_json(self) -> dict[str, JsonValue]:
        told = self.estimate
        return {
            "yes": self.yes,
            "asked": self.asked,
            "epsilon": self.epsilon,
            "estimate": told.value,
            "spread": told.spread,
        }


def answers_of(state: FederationState, plan_digest: str, round_number: int) -> Answers | None:
    """The answers to a round's question; None where it asked none, where nothing is recorded yet, and where the sum
    is no number of sites: then somebody hostile answered with more than a yes or less than a no."""
    published, recorded = state.plans.get(plan_digest), state.evaluated.get((plan_digest, round_number))
    terms = None if published is None else published.plan.evaluation.compare
    if terms is None or recorded is None or recorded.better_off is None:
        return None
    asked = len(state.closed[plan_digest, round_number, "evaluation"].receipts)
    if not 0 <= recorded.better_off <= asked:
        return None
    return Answers(recorded.better_off, asked, terms.epsilon)
