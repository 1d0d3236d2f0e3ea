"""Release the aggregate, record its evaluation, judge the model. What the sum became, on the ledger.

The verdict is the one that follows from the ledger (`policies.gates`); it is recorded before anything is
registered, and a violation fails the run with every reason.
"""

from __future__ import annotations

from adapters import objects
from ledger.errors import PolicyViolation, Violation
from policies.events import (
    AggregateReleased,
    EvaluationRecorded,
    GateVerdict,
    InquiryPublished,
    PlanPublished,
    Published,
    StatisticsReleased,
)
from policies.gates import release_violations
from policies.opening import evaluation_lane_count, evaluation_parts, figures_micro_of
from policies.receipt import Step
from privacy.statistics import lane_count
from tasks.aggregate import lanes_from_bytes, outcome_of
from tasks.coordinator.opening import confirm, open_sum
from tasks.coordinator.party import Coordinator
from tasks.model_objects import previous_model, server_state
from tasks.opening import ImpossibleSumError, Opened
from tasks.step import step
from tasks.worker.coordinator_session import CoordinatorSession


@step
async def release_model(
    coordinator: Coordinator, published: PlanPublished, round_number: int, base: bytes, total: Opened
) -> bytes:
    """Apply the sum and put the model's digest on the ledger; returns the model's safetensors bytes."""
    coordinator.tell("release the model", round_number)
    aggregate = await coordinator.worker.call(
        CoordinatorSession.next_model,
        published.plan,
        round_number,
        base,
        total.lanes,
        sizes=total.sizes,
        previous=await previous_model(coordinator, published, round_number),
        server_state=await server_state(coordinator, published, round_number),
    )
    openings = await confirm(coordinator, published, round_number, "training", total, outcome_of(aggregate))
    if aggregate.server_state is not None:
        objects.store(coordinator.exchange, aggregate.server_state)
    await coordinator.say(
        AggregateReleased(
            plan_digest=published.plan_digest,
            round=round_number,
            sum_digest=total.digest,
            model_digest=objects.store(coordinator.exchange, aggregate.model),
            norm_l2_micro=aggregate.norm_l2_micro,
            cosines_micro=aggregate.cosines_micro,
            outliers=aggregate.outliers,
            server_state_digest=aggregate.server_state_digest,
            openings=openings,
        )
    )
    return aggregate.model


@step
async def record_evaluation(
    coordinator: Coordinator, published: PlanPublished, round_number: int, total: Opened
) -> int | None:
    """Read the AUC or Dice (micro-units) off the opened, noised histogram and record it."""
    plan = published.plan
    lanes = lanes_from_bytes(total.lanes, count=evaluation_lane_count(plan, round_number))
    histogram, better_off = evaluation_parts(lanes, plan)
    figures = figures_micro_of(histogram, plan)
    await coordinator.say(
        EvaluationRecorded(
            plan_digest=published.plan_digest,
            round=round_number,
            sum_digest=total.digest,
            histogram=tuple(histogram.tolist()),
            auc_micro=figures.auc,
            subgroup_auc_micro=figures.subgroup_aucs,
            dice_micro=figures.dice,
            subgroup_dice_micro=figures.subgroup_dices,
            better_off=better_off,
            openings=await confirm(coordinator, published, round_number, "evaluation", total),
        )
    )
    return figures.auc if figures.dice is None else figures.dice


@step
async def release_statistics(coordinator: Coordinator, published: InquiryPublished, total: Opened) -> None:
    """Put an inquiry's opened, noised sum on the ledger; whoever reads it has the figures."""
    coordinator.tell("release the figures")
    lanes = lanes_from_bytes(total.lanes, count=lane_count(published.inquiry.queries))
    await coordinator.say(
        StatisticsReleased(
            plan_digest=published.plan_digest,
            sum_digest=total.digest,
            lanes=tuple(lanes.tolist()),
            openings=await confirm(coordinator, published, 1, "statistics", total),
        )
    )


async def open_or_judge(
    coordinator: Coordinator, published: Published, round_number: int, kind: Step
) -> Opened:
    """The step's opened sums. If they can never be opened the round gets its verdict, so that it ends for everybody,
    and the run fails with it and with the reason."""
    try:
        return await open_sum(coordinator, published, round_number, kind)
    except ImpossibleSumError as error:
        reason = Violation(error.code, error.public_message)
    try:
        await judge_model(coordinator, published, round_number)
    except PolicyViolation as violation:
        raise PolicyViolation([*violation.violations, reason]) from None
    raise PolicyViolation([reason])


@step
async def judge_model(coordinator: Coordinator, published: Published, round_number: int) -> None:
    """Record the verdict of all gates on a round's model or an inquiry's figures, unless a run that was cut off did;
    raise with every violation."""
    coordinator.tell("judge", round_number)
    if coordinator.registering is not None:  # a gate compares with the model that is registered
        await coordinator.registering
    recorded = coordinator.state.verdicts.get((published.plan_digest, round_number))
    if recorded is not None:  # a run that was cut off: a verdict is given once
        if not recorded.passed:
            raise PolicyViolation(
                [
                    Violation(code, f"round {round_number} failed this gate in an earlier run")
                    for code in recorded.violations
                ]
            )
        return
    violations = release_violations(coordinator.state, published.plan_digest, round_number)
    await coordinator.say(
        GateVerdict(
            plan_digest=published.plan_digest,
            round=round_number,
            passed=not violations,
            violations=tuple(violation.code for violation in violations),
        )
    )
    if violations:
        raise PolicyViolation(violations)
