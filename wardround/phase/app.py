"""`wardround phase`: the commands by who gives them; each module is imported only when its command runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter
from rich.console import Console

from ledger.errors import InputError

if TYPE_CHECKING:
    from adapters.home import CoordinatorConfig, Home, SiteConfig
    from policies.state import FederationState

HomeOption = Annotated[Path, Parameter(help="The institution's home, with its institution.yaml.")]
CoordinatorOption = Annotated[Path, Parameter(help="The coordinator's home, with its institution.yaml.")]

LONGEST_WAIT_S = 86_400.0

app = App(name="phase", help="Where the rollout stands; publish terms, measure, sign and end a phase.")
for path, name, summary in (
    ("standing:status", "status", "Show the phase, its terms, and what its gate waits for."),
    ("work:open_terms", "open", "Publish the terms of the phase, before its first round."),
    ("work:run", "run", "Run a phase as far as it comes: work, measurement, evidence, sign-off."),
    (
        "drilling:drill",
        "drill",
        "Play drills in a rehearsal, keep their reports, and record those that were passed.",
    ),
    ("ending:measure", "measure", "Write the evidence that the terms are met, or name what is missing."),
    ("ending:sign", "sign", "Sign, as an officer, that a phase may end: over evidence that verifies whole."),
    ("ending:advance", "advance", "End the phase with its officers' signatures, or name what is missing."),
    ("standing:incident", "incident", "Report that something went wrong; the gates above it close at once."),
):
    app.command(f"wardround.phase.{path}", name=name, help=summary)


class PhaseOptionError(InputError):
    code = "usage.option"


def require_wait(wait_s: float) -> None:
    """PhaseOptionError if nobody can wait that long."""
    if not 0 <= wait_s <= LONGEST_WAIT_S:
        raise PhaseOptionError("--wait must be 0 to 86400 seconds")


def announce_wait(wait_s: float) -> None:
    """Said at once of what is kept in a home and waits for others."""
    Console(stderr=True, highlight=False).print(
        f"kept in the home; waiting {wait_s:g} s at most for the coordinator to take it"
    )


def ledger_state(home: Home, config: SiteConfig | CoordinatorConfig) -> FederationState:
    """The coordinator's log, or what a site finds final on the exchange; LogUnavailableError while nothing is."""
    from adapters.exchange import DirectoryExchange
    from adapters.final_log import FinalLog
    from adapters.home import CoordinatorConfig
    from adapters.institution_log import LogUnavailableError, read_state

    if isinstance(config, CoordinatorConfig):
        return read_state(home)[0]
    state = FinalLog.read(home.federation, DirectoryExchange(home.resolve(config.exchange))).state
    if state.federation is None:
        raise LogUnavailableError(
            "nothing of the ledger has reached this home yet",
            remedy=f"Start the coordinator, then `wardround site run --home {home.root}`.",
        )
    return state


def opened_home(root: Path) -> tuple[Home, SiteConfig | CoordinatorConfig]:
    """A home of either role."""
    from adapters.home import CoordinatorConfig, Home, HomeError, SiteConfig

    home = Home(root)
    try:
        return home, home.read(CoordinatorConfig)
    except HomeError as error:
        if error.code != "home.role":
            raise
    return home, home.read(SiteConfig)
