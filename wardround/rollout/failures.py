"""What is made to fail at each gate of the rollout demo, and how it is mended afterwards.

    foundation    a hospital's table has a column with names: its conformance check finds it
    pilot         the threshold is lowered after the first night
    expansion     the poisoning drill is run with the defence switched off
    clinical      the drift drill is run with the monitor switched off; then the regulatory officer has not signed

Nothing here decides anything: the gates do (`policies.rollout.gate`).
"""

from __future__ import annotations

import csv
import shutil
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import yaml

from policies.federation import Phase
from policies.rollout.statements import Drill
from tasks.rollout.terms import read_terms
from wardround.rollout.cast import SITES, Cast
from wardround.rollout.records import Records

SPOILED: Final = SITES[2]


class Run(Protocol):
    """A phase's flow, once (`wardround.rollout.walk.Walk.run`)."""

    async def __call__(
        self,
        phase: Phase,
        night: int = 1,
        *,
        terms: Path | None = None,
        sabotage: Drill | None = None,
        wait_s: float = ...,
    ) -> None: ...


def _as_it_is(cast: Cast) -> None:
    """Nothing needs to be spoiled beforehand."""


async def _done_right(cast: Cast, records: Records) -> None:
    """The same, done right, is all it takes."""


@dataclass(frozen=True, slots=True)
class Failure:
    told: str
    code: str
    """Under which the gate refuses it."""
    happen: Callable[[Cast, Run], Awaitable[None]]
    """Ends with the PolicyViolation of a gate."""
    prepare: Callable[[Cast], None] = _as_it_is
    """Before the hospitals record that their sources conform."""
    mend: Callable[[Cast, Records], Awaitable[None]] = _done_right


def _name_patients(cast: Cast) -> None:
    """Add a column that no table may have."""
    table, kept = cast.stays / f"{SPOILED}.csv", _kept(cast)
    if kept.exists():
        return
    shutil.copy(table, kept)
    with kept.open(newline="") as file:
        rows = list(csv.reader(file))
    with table.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*rows[0], "patient_name"])
        writer.writerows([*row, "Invented"] for row in rows[1:])


async def _found(cast: Cast, run: Run) -> None:
    await run("foundation", wait_s=5.0)  # for what will not come


async def _mend_the_source(cast: Cast, records: Records) -> None:
    kept = _kept(cast)
    if kept.exists():
        kept.replace(cast.stays / f"{SPOILED}.csv")
    await records.conformance("foundation", SPOILED)


async def _lower_the_threshold(cast: Cast, run: Run) -> None:
    await run("pilot", 1)
    lower = cast.terms("pilot").with_name("pilot-lowered.yaml")
    wanted = read_terms(cast.terms("pilot")).with_fields({"minimum_figure": 0.51})
    lower.write_text(yaml.safe_dump(wanted.to_json(), sort_keys=False))
    await run("pilot", 1, terms=lower)


async def _without_defence(cast: Cast, run: Run) -> None:
    await run("expansion", sabotage="poisoning")


async def _without_monitor(cast: Cast, run: Run) -> None:
    await run("clinical", sabotage="drift")


FAILURES: Final[dict[Phase, Failure]] = {
    "foundation": Failure(
        f"{SPOILED}'s table has a column with names",
        "phase.conformance",
        prepare=_name_patients,
        happen=_found,
        mend=_mend_the_source,
    ),
    "pilot": Failure(
        "the threshold is lowered after the first night", "phase.terms-fixed", happen=_lower_the_threshold
    ),
    "expansion": Failure(
        "the poisoning drill runs without the defence", "phase.drills", happen=_without_defence
    ),
    "clinical": Failure("the drift drill runs without the monitor", "phase.drills", happen=_without_monitor),
}


def _kept(cast: Cast) -> Path:
    return cast.root / "data" / f"{SPOILED}.csv.kept"
