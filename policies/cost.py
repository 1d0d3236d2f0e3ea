"""What a plan costs a site's patients: its declared mechanisms, and their price.

The mechanisms of a round are derived from the plan alone, so that a site, a witness and a stranger with the
ledger arrive at the same integers. How a mechanism is priced lives in `privacy.accounting`.
"""

from __future__ import annotations

from typing import Final

from ledger.errors import InputError
from policies.inquiry import AnyPlan, Inquiry
from policies.plan import Plan
from policies.receipt import Step
from privacy import accounting
from privacy.accounting import Curve
from privacy.mechanisms import (
    DistributedGaussian,
    Gaussian,
    Mechanism,
    RandomisedResponse,
    SubsampledGaussian,
)
from privacy.statistics import mechanisms

INVERSE_ROOT_2: Final = 0.70710678
"""1/√2, rounded down by more than the rounding of a product: the noise never counts as more than it is."""


class StepUnknownError(InputError):
    code = "plan.step"


def mechanisms_of(plan: AnyPlan, step: Step, *, round_number: int) -> tuple[Mechanism, ...]:
    """The mechanisms by which one `step` of this round of `plan` depends on patients."""
    if step not in plan.steps:
        raise StepUnknownError(f"the plan has no step {step}")
    if isinstance(plan, Inquiry):
        return mechanisms(plan.queries)
    if step == "training":
        share = plan.noise_share
        if share is not None:
            return (
                DistributedGaussian(
                    noise_multiplier=plan.training.noise_multiplier,
                    sampling_rate=plan.training.sampling_rate,
                    steps=plan.training.steps,
                    shares=share.shares,
                    share_bits=share.bits,
                ),
            )
        return (
            SubsampledGaussian(
                noise_multiplier=plan.training.noise_multiplier,
                sampling_rate=plan.training.sampling_rate,
                steps=plan.training.steps,
            ),
        )
    asked = comparison_mechanism(plan) if plan.compares(round_number) else None
    return (evaluation_mechanism(plan),) if asked is None else (evaluation_mechanism(plan), asked)


def evaluation_mechanism(plan: Plan) -> Gaussian:
    """A patient has one score, hence one count in one cell: a sensitivity of 1 in L2. Of masks there are two figures,
    each in a cell of its own: a sensitivity of √2."""
    share = 1.0 if plan.data.target == "label" else INVERSE_ROOT_2
    return Gaussian(noise_multiplier=plan.evaluation.noise_std * share, count=1)


def comparison_mechanism(plan: Plan) -> RandomisedResponse | None:
    """Whether a site is better off hangs on all its patients: those that its own model learned from, and those that
    both are scored on. So it is answered by a mechanism that needs no sensitivity. None where nobody is asked."""
    terms = plan.evaluation.compare
    return None if terms is None else RandomisedResponse(epsilon=terms.epsilon, count=1)


def round_mechanisms(plan: AnyPlan, round_number: int) -> tuple[Mechanism, ...]:
    """Those of one round; a round without an evaluation has those of its training alone."""
    return tuple(
        mechanism
        for step in plan.steps_of(round_number)
        for mechanism in mechanisms_of(plan, step, round_number=round_number)
    )


def round_cost(plan: AnyPlan, round_number: int) -> Curve:
    return accounting.total(round_mechanisms(plan, round_number))


def plan_mechanisms(plan: AnyPlan) -> tuple[Mechanism, ...]:
    """Those of all rounds, one behind the other."""
    return tuple(
        mechanism for number in range(1, plan.rounds + 1) for mechanism in round_mechanisms(plan, number)
    )


def plan_cost(plan: AnyPlan, *, rounds: int | None = None) -> Curve:
    """The cost of the first `rounds` rounds, by default of all: exactly the sum of what each reserves."""
    count = plan.rounds if rounds is None else rounds
    if isinstance(plan, Inquiry):
        return round_cost(plan, 1).scaled(count)
    trained = accounting.total(mechanisms_of(plan, "training", round_number=1))
    cost = trained.scaled(count) + accounting.curve(evaluation_mechanism(plan)).scaled(
        plan.evaluations(count)
    )
    asked = comparison_mechanism(plan) if plan.compares(count) else None
    return cost if asked is None else cost + accounting.curve(asked)


def epsilon_micro(cost: Curve, delta: float) -> int:
    """Epsilon in micro-units; a pool that nothing has drawn on has spent nothing."""
    return 0 if cost == Curve.zero() else accounting.epsilon_micro(cost, delta)
