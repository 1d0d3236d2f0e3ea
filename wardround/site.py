"""`wardround site`: take part in one plan, or serve the site flow, as a hospital.

The flow is `flows.site`; what a site agrees to is decided there and by its institution.yaml. Prefect is the
hospital's own (see `wardround.coordinator`): nobody outside can start anything here. What came of a run is read
from the ledger afterwards, so that a round in which this site reported nothing never ends as a success.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter
from rich.console import Console

from ledger.errors import CodedError, InputError, PolicyViolation, Violation
from wardround import rotation
from wardround.coordinator import one_at_a_time, prefect_api, require_prefect_api
from wardround.display import Display
from wardround.site_report import report

if TYPE_CHECKING:
    from adapters.home import Home, SiteConfig
    from policies.events import Published
    from policies.state import FederationState

app = App(name="site", help="Take part in plans as a hospital, once or for as long as it is served.")

app.command(report)
app.command(
    "wardround.site_records:agreement",
    name="agreement",
    help="Record an agreement by its digest; the paper stays.",
)
app.command(
    "wardround.site_records:conform",
    name="conform",
    help="Check the site's own source; if all is well, record that on the ledger.",
)
app.command(
    "wardround.quarantine:vote_release",
    name="vote-release",
    help="Vote to take another site back out of quarantine.",
)

HomeOption = Annotated[Path, Parameter(help="The site's home, with its institution.yaml.")]
OVERLAP_S = 20
"""A served run ends this long before the next is due, so that a witness is nearly always there."""


class SiteOptionError(InputError):
    code = "usage.option"


class WithheldError(CodedError):
    """This site said on the ledger that it would not report. The code decides what kind of error that is."""

    code = "site.withheld"


@app.command
def run(
    *,
    home: HomeOption,
    plan_digest: Annotated[
        str | None, Parameter(help="Take part in this plan only. Else in the newest open one.")
    ] = None,
    wait: Annotated[float, Parameter(help="Seconds to wait for a plan.")] = 300.0,
) -> None:
    """Take part in one plan, from accepting it to its last verdict. No plan within --wait is no error."""
    institution, config = _checked(home)
    if not 0 <= wait <= 86_400:
        raise SiteOptionError("--wait must be 0 to 86400 seconds")
    if plan_digest is not None and (len(plan_digest) != 64 or set(plan_digest) - set("0123456789abcdef")):
        raise SiteOptionError(
            "--plan-digest must be 64 hexadecimal digits", remedy="See `wardround plan validate`."
        )
    before = _plans(institution, config)
    with Display(), prefect_api(home):
        from flows.site import site_round

        asyncio.run(site_round(home=str(home.resolve()), plan_digest=plan_digest, wait_s=wait))
    _conclude(institution, config, plan_digest, before, wait)


@app.command
def serve(
    *,
    home: HomeOption,
    interval: Annotated[
        int, Parameter(help="Seconds from one run to the next. Each looks for a plan nearly as long.")
    ] = 120,
) -> None:
    """Serve the deployment site/round until stopped, on the Prefect of PREFECT_API_URL."""
    _checked(home)
    if not 30 <= interval <= 86_400:
        raise SiteOptionError("--interval must be 30 to 86400 seconds")
    require_prefect_api()
    from prefect.schedules import Interval
    from prefect.types.entrypoint import EntrypointType

    from flows.site import site_round

    Console(stderr=True, highlight=False).print(
        f"serving site/round every {interval} s; stop with Ctrl-C", soft_wrap=True
    )
    site_round.serve(
        name="round",
        schedule=Interval(interval),
        parameters={"home": str(home.resolve()), "wait_s": float(interval - OVERLAP_S)},
        global_limit=one_at_a_time(),
        print_starting_message=False,
        entrypoint_type=EntrypointType.MODULE_PATH,
    )


@app.command
def rotate_key(*, home: HomeOption) -> None:
    """Make the site's next signing key, where the one in force is (a file or the token).

    The next run puts it on the ledger, signed by both keys, and signs with it from then on.
    """
    rotation.begin(home, "site")


@app.command
def restore_journal(*, home: HomeOption) -> None:
    """Draw in the journal of the hospital's register what this home's ledger shows and the journal lacks.

    After a loss, run it for every home of the hospital before any of them trains.
    """
    from adapters.pool_journal import PoolJournal

    institution, config = _checked(home)
    journal = PoolJournal(institution.resolve(config.pool), config.policy.pool, owner=config.name)
    drawn = journal.restore(_final_state(institution, config), config.name)
    Console(highlight=False).print(
        f"{drawn} draws of {config.name} restored in {institution.resolve(config.pool)}"
    )


def _checked(home: Path) -> tuple[Home, SiteConfig]:
    from adapters.home import Home, SiteConfig

    institution = Home(home)
    config = institution.read(SiteConfig)
    _ = institution.federation, institution.passphrase
    return institution, config


def _final_state(home: Home, config: SiteConfig) -> FederationState:
    """The fold of what is final on the exchange, verified from the founding event on."""
    from adapters.exchange import DirectoryExchange
    from adapters.final_log import FinalLog

    return FinalLog.read(home.federation, DirectoryExchange(home.resolve(config.exchange))).state


def _plans(home: Home, config: SiteConfig) -> frozenset[tuple[str, int]]:
    """Verdicts that were there before the run, by plan and round."""
    return frozenset(_final_state(home, config).verdicts)


def _conclude(
    home: Home, config: SiteConfig, plan_digest: str | None, before: frozenset[tuple[str, int]], wait: float
) -> None:
    """Say what came of the run; raise if this site withheld a report, or a gate refused the plan or a model."""
    state = _final_state(home, config)
    published = _followed(state, config.name, plan_digest, before)
    console = Console(highlight=False)
    if published is None:
        console.print(f"No open plan for {config.name} within {wait:g} s.")
        return
    plan, digest = published.plan, published.plan_digest
    reported = sorted(
        number
        for about, number, step, site in state.receipts
        if (about, step, site) == (digest, plan.steps[0], config.name)
    )
    console.print(f"plan      {plan.name}, edition {plan.edition}, {digest}", soft_wrap=True)
    console.print(f"reported  rounds {', '.join(map(str, reported)) or 'none'} of {plan.rounds}")
    console.print(f"budget    {_budget(state, config.name)}")
    withheld = {
        number: code
        for (about, number, _, site), code in state.refusals.items()
        if (about, site) == (digest, config.name)
    }
    refused = [
        Violation(code, f"the plan's gates refused {'the plan' if number == 0 else f'round {number}'}")
        for (about, number), verdict in state.verdicts.items()
        if about == digest and not verdict.passed
        for code in verdict.violations
    ]
    if withheld:
        # On the ledger there is only a code that tells nothing of patients; here is the real one.
        reasons = {
            number: _withheld(home, digest).get(str(number), code) for number, code in withheld.items()
        }
        error = WithheldError(
            f"{config.name} reported nothing in "
            f"{'; '.join(f'round {number}: {reasons[number]}' for number in sorted(reasons))}",
            remedy="Its site.log says why.",
        )
        first = reasons[min(reasons)]
        error.kind = "input" if first.startswith("data.") else "policy" if _is_policy(first) else "fault"
        raise error
    entry = state.verdicts.get((digest, 0))
    if entry is not None and not entry.passed:
        # Nothing was trained, so that the figures are still those of the verdict.
        from policies.gates import plan_violations

        refused = plan_violations(state, plan) or refused
    if refused:
        raise PolicyViolation(refused)


def _withheld(home: Home, plan_digest: str) -> dict[str, str]:
    """Round → code, as the site's own report has them."""
    try:
        report = json.loads(home.report.read_text())
    except FileNotFoundError:
        return {}
    return dict(report.get("withheld", {})) if report.get("plan_digest") == plan_digest else {}


def _is_policy(code: str) -> bool:
    return code.split(".")[0] in {
        "budget",
        "cohort",
        "consent",
        "contract",
        "drift",
        "plan",
        "policy",
        "site",
    }


def _followed(
    state: FederationState, site: str, plan_digest: str | None, before: frozenset[tuple[str, int]]
) -> Published | None:
    """The plan that this run took part in: the one asked for, else the newest that this run saw move."""
    for digest in reversed(state.published_at):
        published = state.published(digest)
        if published is None or plan_digest not in (None, digest):
            continue
        moved = any(about == digest and (about, number) not in before for about, number in state.verdicts)
        verdict = state.verdicts.get((digest, 0))
        refused = verdict is not None and not verdict.passed
        if moved and (refused or site in state.approvals.get(digest, frozenset())):
            return published
    return None


def _budget(state: FederationState, site: str) -> str:
    from policies.gates import epsilon_text
    from privacy.accounting import MICRO

    member = None if state.federation is None else state.federation.member(site)
    if member is None or member.pool is None:
        return "unknown"
    spent = epsilon_text(member.pool.epsilon_micro(state.spent_by(site)))
    return f"ε={spent} spent of {member.pool.epsilon_cap_micro / MICRO:g} at δ={member.pool.delta:g}"
