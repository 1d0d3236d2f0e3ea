"""`wardround coordinator statistics`: ask an inquiry of all sites, and show what it came to.

The flow is `flows.statistics`. Nothing that is shown or kept is exact: every figure carries the noise of every site
that answered (docs/statistics.md).
"""

from __future__ import annotations

import asyncio
import functools
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from rich.console import Console
from rich.table import Table

from wardround.coordinator import HomeOption, prefect_api
from wardround.display import Display
from wardround.preflight import checked

if TYPE_CHECKING:
    from policies.inquiry import Inquiry
    from privacy.statistics_reading import Figure, Released


def statistics(
    inquiry: Path,
    /,
    *,
    home: HomeOption,
    edition: Annotated[
        str | None, Parameter(help="Edition of this run instead of the file's; `date` is today's date.")
    ] = None,
    json: Annotated[bool, Parameter(help="Print one JSON object as the last line of stdout.")] = False,
) -> None:
    """Ask joint statistics of the sites that take part. Asking the same edition again draws and costs nothing.

    Parameters
    ----------
    inquiry
        The inquiry, as YAML; begin with `wardround plan new --from heart-statistics`.
    """
    from tasks.planning import read_inquiry

    asked = checked(home, inquiry, functools.partial(read_inquiry, edition=edition))
    with Display(), prefect_api(home):
        from flows.statistics import joint_statistics

        asyncio.run(
            joint_statistics(home=str(home.resolve()), inquiry=str(inquiry.resolve()), edition=edition)
        )
    _show(home, asked, json=json)


def _show(home: Path, asked: Inquiry, *, json: bool) -> None:
    from adapters.home import Home
    from adapters.institution_log import read_state
    from tasks.coordinator.figures import figures_of, figures_path

    institution, digest = Home(home), asked.content_digest()
    kept = figures_path(institution, digest)
    if json:
        from json import dumps, loads

        sys.stdout.write(f"{dumps(loads(kept.read_bytes()))}\n")
        return
    state, root = read_state(institution)
    console = Console(highlight=False)
    console.print(_table(figures_of(state, digest)))
    console.print(f"inquiry   {digest}", soft_wrap=True)
    reported = ", ".join(sorted(state.reported(digest, 1)))
    console.print(f"answered  by {reported}", soft_wrap=True)
    console.print(f"figures   {kept}", soft_wrap=True)
    console.print(f"ledger    {state.origin}, {state.size} entries, root {root}", soft_wrap=True)


def _table(figures: tuple[Released, ...]) -> Table:
    table = Table(title="Joint statistics, noised")
    for heading in ("query", "figure", "value", "± 95 %"):
        table.add_column(heading, justify="right" if heading in ("value", "± 95 %") else "left")
    for released in figures:
        for number, figure in enumerate(released.figures):
            table.add_row(released.name if number == 0 else "", figure.label, *_words(figure))
    table.caption = "The half-width is that of the noise alone; – is a figure that noise alone may have made."
    return table


def _words(figure: Figure) -> tuple[str, str]:
    """Value and half-width, both to two digits of the half-width: more would only show noise."""
    if figure.value is None or figure.half_width is None:
        return "–", "–"
    digits = max(0, 1 - _magnitude(figure.half_width))
    return f"{figure.value:.{digits}f}", f"{figure.half_width:.{digits}f}"


def _magnitude(value: float) -> int:
    from math import floor, log10

    return floor(log10(value)) if value > 0 else 0
