"""`wardround rollout demo`: options, the folder, Prefect; then the walk. What happens is `wardround.rollout.walk`."""

from __future__ import annotations

import asyncio
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from rich.console import Console

from ledger.errors import PolicyViolation
from policies.federation import Phase
from tasks import progress
from tasks.progress import Progress
from wardround.demo import OptionError, OutError
from wardround.display import Display

if TYPE_CHECKING:
    from wardround.rollout.walk import Walk

MARKER = ".wardround-rollout"


def demo(
    *,
    stays: Annotated[
        Path | None, Parameter(help="The UCI Diabetes 130-US hospitals data, or an extract: a CSV of stays.")
    ] = None,
    images: Annotated[Path | None, Parameter(help="PneumoniaMNIST: an .npz of chest X-rays.")] = None,
    out: Annotated[Path, Parameter(help="Folder for everything that the walk writes.")] = Path(
        "wardround-rollout"
    ),
    fail: Annotated[
        Phase | None,
        Parameter(help="Leave this phase's failure as it is: the walk ends at its gate, exit 3."),
    ] = None,
    seed: Annotated[
        int, Parameter(help="Splits the data over the hospitals; privacy noise is never seeded.")
    ] = 0,
    resume: Annotated[bool, Parameter(help="Go on with the walk in --out.", negative="")] = False,
    overwrite: Annotated[bool, Parameter(help="Remove an earlier walk in --out first.", negative="")] = False,
    json: Annotated[
        bool, Parameter(help="Print one JSON object as the last line of stdout.", negative="")
    ] = False,
) -> None:
    """Walk six hospitals through foundation, pilot, expansion and clinic, to a model that officers promoted.

    At each gate something is made to fail first, and mended once the gate has refused. Every phase leaves an evidence
    package, which is verified offline at the end. Five to eleven minutes on four cores.
    """
    began = time.monotonic()
    if not 0 <= seed < 2**32:
        raise OptionError("--seed must be 0 to 4294967295")
    if resume and (overwrite or stays or images):
        raise OptionError("--resume goes on with what is there: leave out --stays, --images and --overwrite")
    out = out.resolve()
    ours = (out / MARKER).exists()
    if resume and not ours:
        raise OutError(f"there is no walk to go on with in {out}", remedy="Leave out --resume.")
    if not resume:
        _make_room(out, ours=ours, overwrite=overwrite, inputs=(stays, images))
    with Display() as display:
        try:
            walk = _walked(out, stays, images, seed=seed, stop_at=fail, display=display)
        except PolicyViolation:
            if fail is not None:
                _show_left(out, fail)
            raise
    _show(walk, seconds=time.monotonic() - began, json=json)


def _make_room(out: Path, *, ours: bool, overwrite: bool, inputs: tuple[Path | None, ...]) -> None:
    if None in inputs:
        raise OptionError(
            "--stays and --images are needed: the walk learns from real data",
            remedy="Both are public: UCI data set 296 (diabetic_data.csv), and PneumoniaMNIST of MedMNIST v2 "
            "(pneumoniamnist.npz).",
        )
    missing = [str(path) for path in inputs if path is not None and not path.is_file()]
    if missing:
        raise OptionError(f"no such file: {', '.join(missing)}")
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not ours:
        raise OutError(f"{out} exists and is no walk of ours", remedy="Choose another --out.")
    if not overwrite:
        raise OutError(f"{out} exists", remedy="Add --resume to go on with it, or --overwrite.")
    if any(path is not None and path.resolve().is_relative_to(out) for path in inputs):
        raise OutError(
            f"--stays or --images lies in {out}, which --overwrite would remove",
            remedy="Copy it elsewhere or choose another --out.",
            code="out.holds-input",
        )
    shutil.rmtree(out)


def _walked(
    out: Path, stays: Path | None, images: Path | None, *, seed: int, stop_at: Phase | None, display: Display
) -> Walk:
    """Start Prefect, cast while it starts, walk."""
    from adapters.prefect_server import PrefectServer

    out.mkdir(parents=True, exist_ok=True)
    (out / MARKER).write_text("made by `wardround rollout demo`; --overwrite may remove this folder\n")
    server = PrefectServer(out / "coordinator" / "prefect")
    server.start()
    try:
        from wardround.rollout.cast import Cast, cast

        made = Cast(out)
        if not made.is_founded:
            if stays is None or images is None:
                raise OutError(f"the walk in {out} was never founded", remedy="Add --overwrite.")
            made = cast(out, stays=stays.resolve(), images=images.resolve(), seed=seed)
        progress.tell(Progress("prefect", "start the local server"))
        server.wait()
        progress.tell(Progress("prefect", "serving"))
        from wardround.rollout.walk import Walk

        walk = Walk(made, stop_at, display.say)
        asyncio.run(walk.through())
        return walk
    finally:
        server.stop()


def _show_left(out: Path, phase: Phase) -> None:
    """What a walk came to that was to end at a gate; the refusal follows."""
    from wardround.rollout.act import kept
    from wardround.rollout.story import table_of

    console = Console(highlight=False, width=None if sys.stdout.isatty() else 120)
    console.print(table_of(kept(out)))
    console.print(f"The failure of {phase} was made on purpose and left as it is. To mend it and go on:")
    console.print(f"  wardround rollout demo --resume --out {out}", soft_wrap=True)


def _show(walk: Walk, *, seconds: float, json: bool) -> None:
    from adapters.home import write_atomically
    from wardround.rollout.story import Story

    story = Story.told(walk, seconds=seconds)
    write_atomically(walk.cast.root / "walk.json", f"{story.to_json()}\n".encode())
    if json:
        sys.stdout.write(f"{story.to_json()}\n")
        return
    story.show(Console(highlight=False, width=None if sys.stdout.isatty() else 120))
