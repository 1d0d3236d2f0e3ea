"""Record a round that passed: MLflow metrics, a registered model version, and the ledger's word for both.

Each leads to the other: the version's tags carry the ledger's origin, index and root, and the ledger's
`model.registered` the run and the version. A model that failed its gate never gets here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from adapters.lineage import Lineage, ModelVersion, folder_of
from policies.events import ModelRegistered, PlanPublished
from policies.receipt import Step
from policies.state import FederationState
from privacy.accounting import MICRO
from tasks.coordinator.card import model_card
from tasks.coordinator.party import Coordinator
from tasks.coordinator.plots import course_svg, decision_svg, reliability_svg, roc_svg
from tasks.coordinator.scores import course, net_benefits, round_metrics, score_figures
from tasks.step import repeatable_step, step


@repeatable_step
async def open_lineage(coordinator: Coordinator, published: PlanPublished) -> Lineage:
    plan = published.plan
    flat = {
        f"{group}.{key}": str(value)
        for group in (
            "participation",
            "data",
            "network",
            "training",
            "update",
            "evaluation",
            "budget",
            "gates",
        )
        for key, value in getattr(plan, group).to_json().items()
    }
    return await asyncio.to_thread(
        Lineage.open,
        coordinator.home.root,
        experiment=plan.study,
        run_name=f"{plan.name}-{plan.edition}",
        tags={
            "wardround.plan_digest": published.plan_digest,
            "wardround.ledger_origin": coordinator.state.origin,
        },
        parameters={"rounds": str(plan.rounds), "protection": plan.scheme, **flat},
    )


@step
async def record_round(
    coordinator: Coordinator,
    published: PlanPublished,
    round_number: int,
    model: bytes,
    lineage: Lineage,
    metrics: Mapping[str, float],
    public_auc: float | None,
) -> ModelVersion:
    """Register the round's model as candidate, then say so on the ledger."""
    coordinator.tell("record", round_number)
    digest, state = published.plan_digest, coordinator.state
    spent = {
        f"epsilon.{site.name}": site.pool.epsilon_micro(state.spent_by(site.name)) / MICRO
        for site in coordinator.federation.sites()
        if site.pool is not None
    }
    datasets = _commitments(coordinator, digest, round_number, "training")
    figures = round_metrics(state, published, round_number)
    await asyncio.to_thread(lineage.log_round, round_number, {**figures, **metrics, **spent}, datasets)
    card = model_card(state, published, round_number, public_auc=public_auc)
    model_digest = state.released[digest, round_number].model_digest
    version = await asyncio.to_thread(
        lineage.register,
        round_number,
        model,
        card,
        tags={
            "wardround.plan_digest": digest,
            "wardround.round": str(round_number),
            "wardround.model_digest": model_digest,
            "wardround.ledger_origin": state.origin,
        },
    )
    index = await coordinator.say(
        ModelRegistered(
            plan_digest=digest,
            round=round_number,
            model_digest=model_digest,
            run_id=lineage.run_id,
            model_name=version.name,
            version=version.version,
        )
    )
    await asyncio.to_thread(
        lineage.tag_version,
        version,
        {"wardround.ledger_index": str(index), "wardround.ledger_root": coordinator.final_root_hex},
    )
    return version


@repeatable_step
async def finish_lineage(
    coordinator: Coordinator, published: PlanPublished, lineage: Lineage, *, passed: bool
) -> None:
    """End the run, and draw how it went."""
    coordinator.tell("finished" if passed else "failed")
    await asyncio.to_thread(lineage.finish, passed=passed)
    await asyncio.to_thread(_keep_plots, lineage, coordinator.state, published)


def _keep_plots(lineage: Lineage, state: FederationState, published: PlanPublished) -> None:
    """Of the last round that was evaluated, and of the whole course. Not of every round, as drawing takes as long as
    a round may; whoever has the ledger can draw the others."""
    rounds = [number for digest, number in state.evaluated if digest == published.plan_digest]
    if not rounds:
        return
    figures = score_figures(state, published, max(rounds))
    if figures is not None:
        drawn = {
            "roc.svg": roc_svg(figures),
            "reliability.svg": reliability_svg(figures),
            "decision.svg": decision_svg(net_benefits(state, published, max(rounds))),
        }
        files = {name: data for name, data in drawn.items() if data is not None}
        lineage.log_files(folder_of(max(rounds)), files)
    lineage.log_files("", {"rounds.svg": course_svg(course(state, published, max(rounds)))})


def _commitments(coordinator: Coordinator, plan_digest: str, round_number: int, kind: Step) -> dict[str, str]:
    return {
        receipt.site: receipt.statement.predicate.dataset_commitment
        for receipt in coordinator.state.usable_receipts(plan_digest, round_number, kind)
    }
