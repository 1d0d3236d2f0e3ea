"""What a round's released histogram says of its model: for MLflow, plots and cards, from the ledger alone.

Whoever has the ledger arrives at the same figures; every one carries the histogram's noise. Nothing here decides: the
gates have their own AUC, in whole micro-units (`policies.opening`).
"""

from __future__ import annotations

from dataclasses import dataclass

from policies.comparison import answers_of
from policies.cost import epsilon_micro, plan_cost
from policies.events import PlanPublished
from policies.opening import histogram_cells
from policies.state import FederationState
from privacy.accounting import MICRO
from privacy.decision_curve import NetBenefit, decision_curve
from privacy.histogram import OTHER, SUBGROUPS, mean
from privacy.scores import ScoreFigures, of_histogram


def score_figures(state: FederationState, published: PlanPublished, round_number: int) -> ScoreFigures | None:
    """Of all held-out patients together; None where the round was not evaluated, and where masks are learned."""
    key = (published.plan_digest, round_number)
    evaluated, terms = state.evaluated.get(key), published.plan.evaluation
    if evaluated is None or published.plan.figure != "AUC":
        return None
    rows = histogram_cells(evaluated.histogram, terms)
    # Each site's noise is on each cell of each subgroup's histogram.
    noises = len(state.closed[*key, "evaluation"].receipts) * len(rows)
    return of_histogram(rows.sum(axis=0), noise_std=float(terms.noise_std * noises**0.5))


def net_benefits(
    state: FederationState, published: PlanPublished, round_number: int
) -> tuple[NetBenefit, ...]:
    """The decision curve of all held-out patients together; empty where it is not defined."""
    evaluated, terms = state.evaluated.get((published.plan_digest, round_number)), published.plan.evaluation
    if evaluated is None or published.plan.figure != "AUC":
        return ()
    rows = histogram_cells(evaluated.histogram, terms)
    return decision_curve(rows.sum(axis=0))


def round_metrics(state: FederationState, published: PlanPublished, round_number: int) -> dict[str, float]:
    """By the name under which MLflow keeps them."""
    key = (published.plan_digest, round_number)
    found: dict[str, float] = {}
    released, evaluated = state.released.get(key), state.evaluated.get(key)
    if released is not None:
        found["update_norm_l2"] = released.norm_l2_micro / MICRO
    figures = score_figures(state, published, round_number)
    if figures is not None:
        found |= {f"{name}_federated": value for name, value in figures.numbers().items() if name != "auc"}
    if evaluated is not None:
        terms, figure = published.plan.evaluation, published.plan.figure.lower()
        if figure == "dice":
            distance = mean(histogram_cells(evaluated.histogram, terms)[:, 1].sum(axis=0))
            found |= {} if distance is None else {"hausdorff_federated": float(distance)}
        names = [name for name in SUBGROUPS[terms.subgroups] if name != OTHER]
        groups = zip(names, evaluated.subgroup_figures_micro, strict=False)
        found |= {f"{figure}_federated.{name}": micro / MICRO for name, micro in groups if micro is not None}
    answers = answers_of(state, *key)
    if answers is not None:
        found |= {"better_off_answers": float(answers.yes), "better_off_estimate": answers.estimate.value}
    found["epsilon_of_plan"] = _epsilon(published, round_number)
    return found


@dataclass(frozen=True, slots=True)
class Course:
    """How a plan went, by round: what of it is on the ledger so far."""

    rounds: tuple[int, ...]
    figure_name: str
    figure: tuple[float | None, ...]
    """AUC or Dice."""
    norm_l2: tuple[float | None, ...]
    epsilon: tuple[float, ...]
    """What the plan's rounds up to this one cost a patient of each site, at the plan's δ."""


def course(state: FederationState, published: PlanPublished, last: int) -> Course:
    digest, rounds = published.plan_digest, tuple(range(1, last + 1))
    evaluated = [state.evaluated.get((digest, number)) for number in rounds]
    released = [state.released.get((digest, number)) for number in rounds]
    return Course(
        rounds,
        published.plan.figure,
        tuple(
            None if one is None or one.figure_micro is None else one.figure_micro / MICRO for one in evaluated
        ),
        tuple(None if one is None else one.norm_l2_micro / MICRO for one in released),
        tuple(_epsilon(published, number) for number in rounds),
    )


def _epsilon(published: PlanPublished, rounds: int) -> float:
    plan = published.plan
    return epsilon_micro(plan_cost(plan, rounds=rounds), plan.budget.delta) / MICRO
