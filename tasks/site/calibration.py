"""Where a site keeps its calibration heads: local adaptation that never leaves.

    <home>/calibration/<model digest>.json    `CalibrationHead`, mode 0600

How one is fitted lives in `tasks.train.calibration`. No event, release or export reads this folder.
"""

from __future__ import annotations

from pathlib import Path

from adapters.home import Home, write_atomically
from tasks.train.calibration import CalibrationHead


def head_path(home: Home, model_digest: str) -> Path:
    return home.root / "calibration" / f"{model_digest}.json"


def keep_head(home: Home, head: CalibrationHead) -> None:
    write_atomically(head_path(home, head.model_digest), head.canonical_bytes(), mode=0o600)


def read_head(home: Home, model_digest: str) -> CalibrationHead | None:
    """The head that was kept for this model; None if there is none."""
    try:
        data = head_path(home, model_digest).read_bytes()
    except FileNotFoundError:
        return None
    return CalibrationHead.from_canonical(data, what="calibration head")
