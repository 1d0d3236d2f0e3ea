"""Every task with its number of seeds, and one run of one of them in a process of its own."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final

from tests.benchmarks.learning import chest_xray, heart, phantoms
from tests.benchmarks.learning.study import Case, Figures

TASKS: Final = {
    one.TASK.name: (one.TASK, seeds) for one, seeds in ((chest_xray, 3), (heart, 5), (phantoms, 2))
}
NEEDED: Final = {"chest-xray": chest_xray.NPZ, "heart": heart.TABLES, "phantoms": phantoms.PLAN}
"""What must lie beside the checkout."""


def run(name: str, case: Case, seed: int, folder: str) -> tuple[Figures, float]:
    """Figures and seconds."""
    began = time.monotonic()
    return TASKS[name][0].run(case, seed, Path(folder)), time.monotonic() - began
