"""`wardround ledger show`: the events as tables of at most PAGE rows, or one JSON object a line."""

from __future__ import annotations

import json as json_text
import sys
from typing import Annotated

from cyclopts import Parameter
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from wardround.ledger.sources import Serving, open_export

_WHOLE = ("TYPE", "STUDY")  # names that a reader copies
PAGE = 2000  # so that memory stays flat


def show(
    path: str,
    /,
    *,
    kind: Annotated[
        str | None,
        Parameter(name="--type", help="Only this event type, or those that begin so before a dot."),
    ] = None,
    institution: Annotated[str | None, Parameter(help="Only this institution's events.")] = None,
    study: Annotated[
        str | None, Parameter(help="Only events of this study: they name it, or a plan that does.")
    ] = None,
    json: Annotated[bool, Parameter(help="One JSON object a line, with the bodies.")] = False,
    serving: Serving | None = None,
) -> None:
    """List the events. Signatures are `verify`'s affair.

    Parameters
    ----------
    path
        A demo's folder, an exchange, a static export or an archive of one, or the URL that serves one.
    """
    from ledger import source
    from ledger.listing import HEADINGS, Listing
    from ledger.reader import reading_order

    with open_export(path, serving) as files:
        tree = source.opened(files).tree
        files.expect(reading_order(tree.size))
        console, table = Console(highlight=False), _table(HEADINGS)
        for row in Listing(kind, institution, study).rows(tree.entries(0, tree.size)):
            if json:
                sys.stdout.write(json_text.dumps(row.to_json()) + "\n")
                continue
            table.add_row(*(escape(cell) for cell in row.cells()))
            if table.row_count == PAGE:
                console.print(table)
                table = _table(HEADINGS)
        if not json:
            console.print(table)


def _table(headings: tuple[str, ...]) -> Table:
    from ledger.listing import RIGHT_ALIGNED

    table = Table()
    for heading in headings:
        table.add_column(
            heading.lower(),
            justify="right" if heading in RIGHT_ALIGNED else "left",
            overflow="fold",
            no_wrap=heading in _WHOLE,
        )
    return table
