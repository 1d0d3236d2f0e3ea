"""Change what an institution.yaml says, as its people do in an editor."""

from __future__ import annotations

from pathlib import Path

import yaml


def configure(path: Path, **fields: object) -> None:
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), **fields}, sort_keys=False))
