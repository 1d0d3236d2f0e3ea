"""`wardround coordinator`: run a plan once, or serve the nightly schedule, as the coordinator.

The flow is `flows.coordinator`; nothing of a round is decided here. Prefect is the coordinator's own:
PREFECT_API_URL if set, else, for `run`, a private one in the home that ends with the command.
"""

from __future__ import annotations

import asyncio
import functools
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from zoneinfo import ZoneInfo

from cyclopts import App, Parameter
from rich.console import Console

from ledger.errors import CodedError, InputError, PolicyViolation
from wardround import rotation
from wardround.display import Display
from wardround.preflight import checked

if TYPE_CHECKING:
    from prefect.client.schemas.objects import ConcurrencyLimitConfig

    from policies.plan import Plan

app = App(name="coordinator", help="Run plans as the coordinator, once or on a schedule.")
app.command(
    "wardround.nights:nights", name="nights", help="What came of each night, and which ones were missed."
)
app.command(
    "wardround.statistics:statistics",
    name="statistics",
    help="Ask joint statistics of the sites that take part, by an inquiry.",
)

HomeOption = Annotated[Path, Parameter(help="The coordinator's home, with its institution.yaml.")]
PlanOption = Annotated[Path, Parameter(help="The plan, as YAML; see `wardround plan`.")]


class ServeOptionError(InputError):
    code = "usage.option"


class NoPrefectError(InputError):
    code = "prefect.not-set"


class PrefectUnreachableError(CodedError):
    code = "prefect.unreachable"


@app.command
def run(
    *,
    home: HomeOption,
    plan: PlanOption,
    edition: Annotated[
        str | None, Parameter(help="Edition of this run instead of the plan's; `date` is the night's date.")
    ] = None,
    json: Annotated[bool, Parameter(help="Print one JSON object as the last line of stdout.")] = False,
) -> None:
    """Run every round of a plan with the sites that take part. Exit 3 names every gate that it failed."""
    began = time.monotonic()
    wanted = checked(home, plan, functools.partial(_read_plan, home, edition))
    with Display(), prefect_api(home):
        from flows.coordinator import federated_round

        try:
            asyncio.run(federated_round(home=str(home.resolve()), plan=str(plan.resolve()), edition=edition))
        except PolicyViolation as violation:
            if any(one.code == "participation.too-few" for one in violation.violations):
                violation.remedy = (
                    "Why a site withheld its report stands in the site.log of its own home alone."
                )
            raise
    _show(home, wanted.content_digest(), seconds=time.monotonic() - began, json=json)


@app.command
def serve(
    *,
    home: HomeOption,
    plan: PlanOption,
    cron: Annotated[str, Parameter(help="When to run: minute hour day month weekday.")] = "0 2 * * *",
    time_zone: Annotated[str, Parameter(help="Time zone of --cron, as Europe/Berlin.")] = "UTC",
    edition: Annotated[
        str, Parameter(help="Edition of each run: `date` writes the day's, so that a plan runs once a day.")
    ] = "date",
) -> None:
    """Serve the deployment coordinator/nightly until stopped, on the Prefect of PREFECT_API_URL."""
    from tasks.nightly import keep_schedule
    from tasks.planning import BY_DATE, read_plan

    wanted = checked(home, plan, functools.partial(read_plan, edition=edition))
    _check_schedule(cron, time_zone)
    require_prefect_api()
    from prefect.schedules import Cron
    from prefect.types.entrypoint import EntrypointType

    from flows.coordinator import federated_round

    schedule = Cron(cron, timezone=time_zone)
    parameters = {"home": str(home.resolve()), "plan": str(plan.resolve()), "edition": edition}
    if edition == BY_DATE:
        keep_schedule(home, wanted, cron=cron, time_zone=time_zone)  # nights count from now on, run or not
        parameters |= {"cron": cron, "time_zone": time_zone}
    Console(stderr=True, highlight=False).print(
        f"serving coordinator/nightly: {cron} ({time_zone}); stop with Ctrl-C", soft_wrap=True
    )
    federated_round.serve(
        name="nightly",
        schedule=schedule,
        parameters=parameters,
        global_limit=one_at_a_time(),
        print_starting_message=False,
        entrypoint_type=EntrypointType.MODULE_PATH,
    )


@app.command
def rotate_key(*, home: HomeOption) -> None:
    """Make the coordinator's next signing key, where the one in force is (a file or the token).

    The next run puts it on the ledger, signed by both keys, and signs with it from then on. The log's own key
    is another one: it changes with a new term (docs/adr/0009).
    """
    rotation.begin(home, "coordinator")


@app.command
def move_ledger(*, home: HomeOption) -> None:
    """Move a log that outgrew its file into the PostgreSQL database that institution.yaml names as `ledger`.

    Stop the coordinator first. The file is kept under another name and no longer read. Cut short, run it again.
    """
    from adapters.home import Home
    from adapters.institution_log import move_log, read_state

    institution = Home(home)
    move_log(institution)
    state, root = read_state(institution)
    Console(highlight=False).print(f"moved {state.size} entries, root {root}", soft_wrap=True)


def _read_plan(home: Path, edition: str | None, path: Path) -> Plan:
    from tasks.nightly import tonight
    from tasks.planning import BY_DATE, read_plan

    plan = read_plan(path, edition=edition)
    return read_plan(path, edition=asyncio.run(tonight(home, plan))) if edition == BY_DATE else plan


def _check_schedule(cron: str, time_zone: str) -> None:
    from prefect.client.schemas.schedules import CronSchedule
    from pydantic import ValidationError

    wrong = []
    try:
        ZoneInfo(time_zone)
    except (OSError, ValueError, LookupError):
        wrong.append("--time-zone must be a name like Europe/Berlin")
    try:
        CronSchedule(cron=cron)
    except ValidationError:
        wrong.append("--cron must be five fields: minute hour day month weekday")
    if wrong:
        raise ServeOptionError("; ".join(wrong))


@contextmanager
def prefect_api(home: Path) -> Iterator[None]:
    """The institution's Prefect: PREFECT_API_URL if set, else one in `home` that ends with the command."""
    from adapters.prefect_server import PrefectServer

    if os.environ.get("PREFECT_API_URL"):
        require_prefect_api()
        yield
        return
    server = PrefectServer(home.resolve() / "prefect")
    server.start()
    try:
        server.wait()
        yield
    finally:
        server.stop()


def require_prefect_api() -> None:
    """Raise unless PREFECT_API_URL is set and answers."""
    from adapters.prefect_server import answers

    url = os.environ.get("PREFECT_API_URL", "")
    if not url:
        raise NoPrefectError(
            "a schedule needs a Prefect server, and PREFECT_API_URL is not set",
            remedy="Start this institution's own (`prefect server start`) and set PREFECT_API_URL.",
        )
    if not answers(url.rstrip("/"), timeout_s=5.0):
        raise PrefectUnreachableError(
            "no Prefect server answers at PREFECT_API_URL",
            remedy="Start it, or correct or unset the variable.",
        )


def one_at_a_time() -> ConcurrencyLimitConfig:
    """A run that is due while another one works is dropped: homes and keys are for one run at a time."""
    from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy

    return ConcurrencyLimitConfig(limit=1, collision_strategy=ConcurrencyLimitStrategy.CANCEL_NEW)


def _show(home: Path, plan_digest: str, *, seconds: float, json: bool) -> None:
    from adapters.home import Home
    from adapters.institution_log import read_state
    from wardround.summary import Summary, read_report

    institution = Home(home)
    state, root = read_state(institution)
    report = read_report(institution)
    rounds = report.get("rounds") if report.get("plan_digest") == plan_digest else []
    summary = Summary(
        out=institution.root.parent,
        plan_digest=plan_digest,
        state=state,
        size=state.size,
        root=root,
        rounds=[item for item in rounds if isinstance(item, dict)] if isinstance(rounds, list) else [],
        sites={},
        seconds=seconds,
    )
    if json:
        sys.stdout.write(f"{summary.to_json()}\n")
        return
    console = Console(highlight=False)
    console.print(summary.round_table())
    console.print(f"plan      {plan_digest}", soft_wrap=True)
    console.print(f"ledger    {state.origin}, {state.size} entries, root {root}", soft_wrap=True)
    registered = summary.registered()
    if registered is not None:
        console.print(
            f"mlflow    run {registered['run_id']}, model {registered['model']} version {registered['version']} "
            "(candidate)",
            soft_wrap=True,
        )
