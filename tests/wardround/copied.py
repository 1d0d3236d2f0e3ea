"""A federation that a test copied together with everything in its folder."""

from __future__ import annotations

from pathlib import Path

from policies.federation import Federation
from tasks.found import Founded
from tests.consortium import SITES, Consortium


def copied(root: Path) -> Consortium:
    """The consortium whose homes lie under `root`."""
    federation = Federation.from_canonical((root / "coordinator" / "federation.json").read_bytes(), what="f")
    return Consortium(
        Founded(
            federation,
            root / "coordinator",
            {site: root / "sites" / site for site in SITES},
            root / "exchange",
            {one.name: root / "officers" / one.name for one in federation.officers},
        )
    )
