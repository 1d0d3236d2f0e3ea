"""A drill's report has every step of its drill, cannot say it passed if it did not, and has no room for prose."""

from __future__ import annotations

from typing import get_args

import pytest

from ledger.canonical import JsonValue
from ledger.errors import InputError
from policies.rollout.drill_report import MAXIMUM_BYTES, STEPS, DrillReport
from policies.rollout.statements import Drill
from tests.policies.founding import named
from tests.policies.test_text_fields import open_fields


def value(drill: Drill = "restore", *, met: bool = True, passed: bool = True) -> dict[str, JsonValue]:
    return {
        "schema_version": 1,
        "drill": drill,
        "passed": passed,
        "sabotaged": False,
        "steps": [{"name": name, "met": met} for name in STEPS[drill]],
        "ledger": None,
        "code_digest": named("code"),
        "policy_digest": named("policy"),
    }


def test_a_report_is_canonical_and_closed() -> None:
    report = DrillReport.from_value(value(), what="report")
    assert DrillReport.from_canonical(report.canonical_bytes(), what="report") == report
    assert len(report.canonical_bytes()) < MAXIMUM_BYTES
    assert open_fields(DrillReport) == []


@pytest.mark.parametrize("drill", STEPS)
def test_every_step_has_to_be_there_and_met(drill: Drill) -> None:
    assert drill in get_args(Drill)
    right = value(drill)
    DrillReport.from_value(right, what="report")
    steps = right["steps"]
    assert isinstance(steps, list)
    for wrong in (steps[1:], steps[::-1], [*steps, {"name": "another", "met": True}]):
        with pytest.raises(InputError):
            DrillReport.from_value({**right, "steps": wrong}, what="report")
    with pytest.raises(InputError):
        DrillReport.from_value(value(drill, met=False), what="report")
    with pytest.raises(InputError):
        DrillReport.from_value(value(drill, passed=False), what="report")
    failed = DrillReport.from_value(value(drill, met=False, passed=False), what="report")
    assert len(failed.unmet) == len(STEPS[drill])
