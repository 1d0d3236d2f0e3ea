"""The gate's verdict as SARIF 2.1.0 (OASIS), for code scanning: a result a finding, at the line of the plan's field.

runs[0].tool.driver.rules[]      every code that was found
runs[0].results[]                ruleId, message, the plan file and line; the site as its logical location
runs[0].invocations[0]           the exit code, and the notes as toolExecutionNotifications
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from ledger.canonical import JsonValue
from ledger.listing import plain
from policies.forecast import PLAN

if TYPE_CHECKING:
    from ledger.errors import Violation
    from wardround.gate_case import Case

SCHEMA: Final = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"


def sarif(cases: Sequence[Case], notes: Sequence[str], *, exit_code: int) -> str:
    codes = sorted({item.code for case in cases for _, item in case.findings})
    said = [*notes, *(note for case in cases if case.judgement is not None for note in case.judgement.notes)]
    driver: dict[str, JsonValue] = {
        "name": "wardround gate",
        "version": _version(),
        "rules": [{"id": code, "shortDescription": {"text": f"the rule {code}"}} for code in codes],
    }
    run: dict[str, JsonValue] = {
        "tool": {"driver": driver},
        "columnKind": "unicodeCodePoints",
        "invocations": [
            {
                "executionSuccessful": True,
                "exitCode": exit_code,
                "toolExecutionNotifications": [
                    {"level": "note", "message": {"text": plain(note)}} for note in dict.fromkeys(said)
                ],
            }
        ],
        "results": [_result(case, site, item, codes) for case in cases for site, item in case.findings],
    }
    return f"{json.dumps({'$schema': SCHEMA, 'version': '2.1.0', 'runs': [run]}, indent=2)}\n"


def _result(case: Case, site: str, item: Violation, codes: list[str]) -> JsonValue:
    location: dict[str, JsonValue] = {
        "physicalLocation": {
            "artifactLocation": {"uri": _uri(case.path)},
            "region": {"startLine": case.line(item)},
        }
    }
    if site != PLAN:
        location["logicalLocations"] = [{"name": site, "kind": "member"}]
    return {
        "ruleId": item.code,
        "ruleIndex": codes.index(item.code),
        "level": "error",
        "message": {"text": plain(item.message)},
        "locations": [location],
    }


def _uri(path: Path) -> str:
    """Relative to where the command runs, if the file lies below: code scanning matches paths of the repository."""
    whole = path.absolute()
    if whole.is_relative_to(Path.cwd()):
        return quote(whole.relative_to(Path.cwd()).as_posix())
    return whole.as_uri()


def _version() -> str:
    try:
        return version("wardround")
    except PackageNotFoundError:  # run from a source tree
        return "0"
