"""A small folder of rules, as texts or files, and what it is refused for."""

from __future__ import annotations

from pathlib import Path

import pytest

from policies.rego import DECISIONS, Rules
from policies.rego_sources import RulesInvalidError

HOLDS = {"fine": True}
DEFAULT = "default ok := false\n"


def sources(concept: str = "ok if input.fine == true\n", decisions: str = "", **more: str) -> dict[str, str]:
    """A folder whose every decision refuses with `test.refused` unless `data.wardround.c.ok` holds."""
    listed = "".join(f'{decision} contains "test.refused" if not c.ok\n' for decision in DECISIONS)
    return {
        "c.rego": f"package wardround.c\nimport rego.v1\n{DEFAULT}{concept}",
        "decisions.rego": f"package wardround.decision\nimport data.wardround.c\nimport rego.v1\n{listed}{decisions}",
        **more,
    }


def written(folder: Path, **more: str) -> Path:
    for name, text in sources(**more).items():
        (folder / name).write_text(text)
    return folder


def refusal(found: dict[str, str]) -> tuple[str, str]:
    with pytest.raises(RulesInvalidError) as refused:
        Rules(found)
    return refused.value.code, refused.value.public_message
