"""The minutes of a drill while it is played; its report at the end. A step that nobody noted is not met."""

from __future__ import annotations

from policies.code import running_code_digest, running_policy_digest
from policies.rollout.drill_report import STEPS, DrillFigure, DrillReport, DrillStep, RehearsedLedger
from policies.rollout.statements import Drill
from tasks.rehearsal.cast import Cast


class Minutes:
    def __init__(self, drill: Drill, *, sabotaged: bool = False) -> None:
        self.drill, self.sabotaged = drill, sabotaged
        self._steps = {name: DrillStep(name=name, met=False) for name in STEPS[drill]}
        self._figures: list[DrillFigure] = []
        self._ledger: RehearsedLedger | None = None

    def note(self, name: str, met: bool, *, code: str | None = None, count: int | None = None) -> None:
        """KeyError of a step that the drill does not have."""
        self._steps[name] = self._steps[name].with_fields({"met": met, "code": code or None, "count": count})

    def figure(self, name: str, micro: int) -> None:
        self._figures.append(DrillFigure(name=name, micro=micro))

    def ledger(self, cast: Cast) -> None:
        """Of the rehearsal, when nobody runs it any more."""
        size, root = cast.log()
        self._ledger = RehearsedLedger(origin=cast.founded.federation.origin, size=size, root=root)

    def broke_off(self, code: str) -> None:
        """With this code, at the first step that was not met."""
        unmet = next((step for step in self._steps.values() if not step.met), None)
        if unmet is not None:
            self.note(unmet.name, False, code=code)

    def report(self) -> DrillReport:
        steps = tuple(self._steps.values())
        return DrillReport(
            schema_version=1,
            drill=self.drill,
            passed=all(step.met for step in steps),
            sabotaged=self.sabotaged,
            steps=steps,
            figures=tuple(self._figures),
            ledger=self._ledger,
            code_digest=running_code_digest(),
            policy_digest=running_policy_digest(),
        )
