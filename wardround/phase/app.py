"""`wardround phase`: the commands by who gives them; each module is imported only when its command runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

from ledger.errors import InputError

if TYPE_CHECKING:
    from adapters.home import CoordinatorConfig, Home, SiteConfig

HomeOption = Annotated[Path, Parameter(help="The institution's home, with its institution.yaml.")]
CoordinatorOption = Annotated[Path, Parameter(help="The coordinator's home, with its institution.yaml.")]

app = App(name="phase", help="Where the rollout stands; publish terms, measure, sign and end a phase.")
for path, name, summary in (
    ("standing:status", "status", "Show the phase, its terms, and what its gate waits for."),
    ("work:open_terms", "open", "Publish the terms of the phase, before its first round."),
    ("work:run", "run", "Run a phase as far as it comes: work, measurement, evidence, sign-off."),
    ("ending:measure", "measure", "Write the evidence that the terms are met, or name what is missing."),
    ("ending:sign", "sign", "Sign, as an officer, that a phase may end: over evidence that verifies whole."),
    ("ending:advance", "advance", "End the phase with its officers' signatures, or name what is missing."),
    ("standing:incident", "incident", "Report that something went wrong; the gates above it close at once."),
):
    app.command(f"wardround.phase.{path}", name=name, help=summary)


class PhaseOptionError(InputError):
    code = "usage.option"


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
