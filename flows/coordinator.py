"""The coordinator's flow: a plan's rounds, in order. A violation of any gate ends it `Failed` with every reason.

What each step does lives in `tasks.coordinator`; the order here is section 3 of the design. The flow runs in the
coordinator's own Prefect, triggered by `wardround coordinator run` or by its deployment.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from prefect import flow, get_client, runtime
from prefect.client.schemas.objects import State
from prefect.states import Completed

from adapters.home import IN_USE, HomeError, write_atomically
from ledger import canonical
from ledger.canonical import JsonValue
from ledger.errors import CodedError, PolicyViolation
from policies.comparison import Answers, answers_of
from policies.events import PlanPublished, Published, RoundClosed
from policies.nights import is_done
from policies.plan import Plan
from policies.receipt import Step
from policies.rounds import goes_on
from privacy.accounting import MICRO
from tasks.coordinator.collect import UNCLOSABLE, close, collect
from tasks.coordinator.evidence import record_evidence
from tasks.coordinator.next_night import foresee
from tasks.coordinator.nights import newly_missed, nights, show_nights
from tasks.coordinator.party import Coordinator, opened_coordinator
from tasks.coordinator.publish import judge_plan, publish
from tasks.coordinator.quarantine import quarantine_outliers
from tasks.coordinator.record import finish_lineage, open_lineage
from tasks.coordinator.recording import Recording
from tasks.coordinator.release import judge_model, open_or_judge, record_evaluation, release_model
from tasks.coordinator.roster import fix_roster
from tasks.model_objects import load_model
from tasks.nightly import keep_schedule, tonight
from tasks.planning import BY_DATE, read_plan
from tasks.rotate import rotate_key
from tasks.worker.coordinator_session import CoordinatorSession


@dataclass(frozen=True, slots=True)
class RoundOutcome:
    """One round for people: nothing that is not public or noised."""

    round: int
    auc: float | None
    auc_federated: float | None
    dice_federated: float | None
    better_off: Answers | None
    sites_reported: tuple[str, ...]
    sites_missing: dict[str, str]
    seconds: float

    def to_json(self) -> dict[str, JsonValue]:
        return {
            "round": self.round,
            "auc": self.auc,
            "auc_federated": self.auc_federated,
            "dice_federated": self.dice_federated,
            "better_off": None if self.better_off is None else self.better_off.to_json(),
            "sites_reported": list(self.sites_reported),
            "sites_missing": dict(self.sites_missing),
            "seconds": self.seconds,
        }


@flow(name="coordinator", persist_result=False, retries=0, validate_parameters=False)
async def federated_round(
    home: str, plan: str, edition: str | None = None, cron: str | None = None, time_zone: str = "UTC"
) -> State[None] | None:
    """Run every round of the plan in file `plan`, as `edition` if given ("date": one run a night of the schedule).

    `cron` and `time_zone` are the schedule that a nightly run belongs to; the home keeps them. A night that is fired
    twice is run once, and the second run says what it found. One that the pools cannot repeat pauses its schedule.
    """
    if edition != BY_DATE:
        async with opened_coordinator(Path(home)) as coordinator:
            await run_plan(coordinator, read_plan(Path(plan), edition=edition))
        return None
    try:
        return await nightly_round(Path(home), Path(plan), cron, time_zone)
    except HomeError as error:
        # Of a deployment nobody is there who could be told to wait.
        if error.code != IN_USE or runtime.deployment.id is None:
            raise
        return Completed(message="Another run is under way with this home; this one did nothing.")


async def nightly_round(home: Path, plan: Path, cron: str | None, time_zone: str) -> State[None] | None:
    night = await plan_of_night(home, plan, edition=BY_DATE, cron=cron, time_zone=time_zone)
    async with opened_coordinator(home) as coordinator:
        told = await run_night(coordinator, night)
    return Completed(message=" ".join(told)) if told else None


async def plan_of_night(
    home: Path, plan: Path, *, edition: str | None, cron: str | None, time_zone: str
) -> Plan:
    """The plan in that file as `edition` if given; "date" is the night's by the schedule, which the home keeps."""
    if edition != BY_DATE:
        return read_plan(plan, edition=edition)
    read = read_plan(plan)
    if cron is not None:
        keep_schedule(home, read, cron=cron, time_zone=time_zone)
    return read_plan(plan, edition=await tonight(home, read))


async def run_night(coordinator: Coordinator, plan: Plan) -> list[str]:
    """The run of the night that the plan's edition names; what there is to tell of it, and of nights before it."""
    told = []
    listed = await nights(coordinator.home.root, coordinator.state, now_s=coordinator.now_s)
    missed = newly_missed(listed, plan.edition)
    with suppress(CodedError):  # the night is run all the same, and the log says why it was not shown
        await show_nights(coordinator, listed, missed)
    if missed:
        told.append(f"Missed since the last run: {', '.join(one.date.isoformat() for one in missed)}.")
    if is_done(coordinator.state, plan):
        told.append(f"The run of {plan.edition} was done before: nothing was trained or spent.")
    published = await run_plan(coordinator, plan)
    refused = await foresee(coordinator, published)
    if refused:
        await pause_schedule()
        reasons = "; ".join(violation.message for violation in refused)
        told.append(f"This night's run is done. The next one is stopped: {reasons}")
    return told


async def pause_schedule() -> None:
    """Pause the deployment that this run came from, if it came from one."""
    deployment_id = runtime.deployment.id
    if deployment_id is not None:
        async with get_client() as client:
            await client.pause_deployment(deployment_id)


async def run_plan(coordinator: Coordinator, plan: Plan) -> PlanPublished:
    """Every round of the plan that is not registered yet; each leaves its evidence, passed or failed."""
    await rotate_key(coordinator)
    published = await publish(coordinator, plan)
    ended = 0
    try:
        await judge_plan(coordinator, published)
        lineage = await open_lineage(coordinator, published)
        recording = Recording(coordinator, published, lineage)
        passed = False
        try:
            model = await load_model(coordinator, published, published.base_model_digest)
            began = time.monotonic()
            for round_number in range(1, plan.rounds + 1):
                ended = round_number
                registered = coordinator.state.registered.get((published.plan_digest, round_number))
                if registered is not None:  # a run that was cut off continues after its last registered round
                    model = await load_model(coordinator, published, registered.model_digest)
                    await record_evidence(coordinator, published, round_number)
                    began = time.monotonic()
                    continue
                model, reported, missing = await train_round(coordinator, published, round_number, model)
                if not plan.evaluates(round_number):
                    continue
                outcome = await judge_round(
                    coordinator, published, round_number, model, reported=reported, missing=missing
                )
                outcome = replace(outcome, seconds=time.monotonic() - began)
                began = time.monotonic()
                metrics = {
                    "auc_federated": outcome.auc_federated,
                    "dice_federated": outcome.dice_federated,
                    "auc_public_test": outcome.auc,
                }
                recording.begin(
                    round_number,
                    model,
                    metrics={key: value for key, value in metrics.items() if value is not None},
                    public_auc=outcome.auc,
                    registered=partial(keep_report, coordinator, published, outcome),
                )
            await recording.finished()
            passed = True
        finally:
            await recording.settle()
            await finish_lineage(coordinator, published, lineage, passed=passed)
    except PolicyViolation:
        with suppress(CodedError):  # the violation is what the run fails with
            await record_evidence(coordinator, published, ended)
        raise
    return published


async def train_round(
    coordinator: Coordinator, published: PlanPublished, round_number: int, base: bytes
) -> tuple[bytes, frozenset[str], Mapping[str, str]]:
    """Collect, sum, release. Returns the model, who reported, and {missing site: code}."""
    key = (published.plan_digest, round_number)
    minimum = published.plan.participation.minimum_sites
    everyone = frozenset(site.name for site in coordinator.federation.sites())

    roster = await roster_or_end(coordinator, published, round_number)
    missing = await collect(coordinator, published, round_number, "training", roster)
    reported = everyone - missing.keys()
    if len(reported) < minimum or not set(published.plan.participation.required) <= reported:
        await judge_model(coordinator, published, round_number)  # raises: it names who did not report
    closed = await close_or_end(coordinator, published, round_number, "training", missing)
    missing = {absence.site: absence.code for absence in closed.missing}
    released = coordinator.state.released.get(key)
    if released is None:
        total = await open_or_judge(coordinator, published, round_number, "training")
        model = await release_model(coordinator, published, round_number, base, total)
    else:
        model = await load_model(coordinator, published, released.model_digest)
    await quarantine_outliers(coordinator, published, round_number)
    if not published.plan.evaluates(round_number) and not goes_on(coordinator.state, *key):
        await judge_model(coordinator, published, round_number)  # raises: something speaks against the sum
    return model, everyone - missing.keys(), missing


async def judge_round(
    coordinator: Coordinator,
    published: PlanPublished,
    round_number: int,
    model: bytes,
    *,
    reported: frozenset[str],
    missing: Mapping[str, str],
) -> RoundOutcome:
    """Evaluate, judge. Returns what came of the rounds since the last evaluation, if the model passed every gate."""
    key = (published.plan_digest, round_number)
    everyone = frozenset(site.name for site in coordinator.federation.sites())
    if key not in coordinator.state.evaluated:
        absent = await collect(coordinator, published, round_number, "evaluation", reported)
        if len(everyone - absent.keys()) >= published.plan.participation.minimum_sites:
            await close_or_end(coordinator, published, round_number, "evaluation", absent)
            histogram = await open_or_judge(coordinator, published, round_number, "evaluation")
            await record_evaluation(coordinator, published, round_number, histogram)
    await judge_model(coordinator, published, round_number)
    evaluated = coordinator.state.evaluated[key]
    auc_micro, dice_micro = evaluated.auc_micro, evaluated.dice_micro
    return RoundOutcome(
        round=round_number,
        auc=await coordinator.worker.call(CoordinatorSession.public_auc, published.plan, model),
        auc_federated=None if auc_micro is None else auc_micro / MICRO,
        dice_federated=None if dice_micro is None else dice_micro / MICRO,
        better_off=answers_of(coordinator.state, *key),
        sites_reported=tuple(sorted(reported)),
        sites_missing=dict(missing),
        seconds=0.0,
    )


async def roster_or_end(coordinator: Coordinator, published: Published, round_number: int) -> frozenset[str]:
    """Fix the roster. Where the sites that approved cannot sum as the plan wants, as in `close_or_end`."""
    try:
        return await fix_roster(coordinator, published)
    except PolicyViolation:
        with suppress(PolicyViolation):  # which knows nothing of rosters
            await judge_model(coordinator, published, round_number)
        raise


async def close_or_end(
    coordinator: Coordinator,
    published: Published,
    round_number: int,
    kind: Step,
    missing: Mapping[str, str],
) -> RoundClosed:
    """Close the step. Where its scheme needs more sites than reported the round gets its verdict, for which the sites
    wait, and the run fails with the reason."""
    try:
        return await close(coordinator, published, round_number, kind, missing)
    except PolicyViolation as violation:
        if {found.code for found in violation.violations} <= UNCLOSABLE:
            with suppress(PolicyViolation):  # which says less than this one
                await judge_model(coordinator, published, round_number)
        raise


def keep_report(coordinator: Coordinator, published: PlanPublished, outcome: RoundOutcome) -> None:
    """Add a round to what `wardround demo` prints; nothing in it that is not public or noised."""
    earlier: list[JsonValue] = []
    with suppress(FileNotFoundError):
        report = canonical.decode(coordinator.home.report.read_bytes())
        if isinstance(report, dict) and report.get("plan_digest") == published.plan_digest:
            rounds = report.get("rounds")
            earlier = rounds if isinstance(rounds, list) else []
    value: dict[str, JsonValue] = {
        "plan_digest": published.plan_digest,
        "rounds": [*earlier, outcome.to_json()],
    }
    write_atomically(coordinator.home.report, canonical.encode(value))
