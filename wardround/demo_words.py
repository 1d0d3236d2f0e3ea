"""What `wardround demo` says of its folder: how to go on in it, and where the sites of a failed run say why."""

from __future__ import annotations

import shlex
from pathlib import Path


def ways_on(out: Path, *, ours: bool) -> str:
    """What can be done about a folder that is there already."""
    if not ours:
        return "It is not an earlier demo: choose another --out."
    anew = "Choose another --out, or add --overwrite to begin anew"
    return f"To go on with it: {resuming(out)}. {anew}." if (out / "plan.yaml").exists() else f"{anew}."


def resuming(out: Path) -> str:
    return f"wardround demo --out {shlex.quote(str(out))} --resume"


def site_logs(out: Path) -> str:
    """Between hospitals a site's reason stays with it; in a demo all homes are the reader's. Empty before any is."""
    return f"Each site's reason: {out / 'sites' / '*' / 'site.log'}" if (out / "sites").is_dir() else ""
