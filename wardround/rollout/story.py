"""What a rollout demo came to: a phase a block, its refusals, its evidence as a stranger finds it, and the champion.

The packages are verified by commands of their own, as an auditor would run them: offline, from the files alone.
"""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table

from ledger.canonical import JsonValue
from policies.federation import PHASES
from policies.gates import epsilon_text, figure_text
from policies.state import FederationState
from privacy.accounting import MICRO
from wardround.rollout.act import Act, as_json, kept
from wardround.rollout.cast import IMAGES, SITES, STAYS
from wardround.rollout.walk import Walk

VERIFIERS: Final = {"ledger": ("ledger", "verify"), "evidence": ("wardround", "evidence", "verify")}


@dataclass(frozen=True, slots=True)
class Verified:
    package: Path
    verdicts: dict[str, bool]
    """By verifier, whether it passed the package."""


@dataclass(frozen=True, slots=True)
class Story:
    out: Path
    acts: tuple[Act, ...]
    state: FederationState
    packages: tuple[Verified, ...]
    seconds: float

    @classmethod
    def told(cls, walk: Walk, *, seconds: float) -> Story:
        state = walk.state()
        found = sorted((walk.cast.coordinator / "evidence").glob("*.zip"))
        phases = [path for phase in PHASES for path in found if path.name.startswith(f"{phase}-")]
        with ThreadPoolExecutor(4) as pool:
            packages = tuple(pool.map(_verified, phases))
        return cls(walk.cast.root, kept(walk.cast.root), state, packages, seconds)

    def show(self, console: Console) -> None:
        console.print(table_of(self.acts))
        for one in self.packages:
            said = ", ".join(
                f"{name} {'verified' if ok else 'NOT verified'}" for name, ok in one.verdicts.items()
            )
            console.print(f"evidence  {one.package.name}: {said}", soft_wrap=True)
        console.print(f"champion  {self.champion()}", soft_wrap=True)
        console.print(f"budget    {self.budget()}", soft_wrap=True)
        console.print(f"took      {self.seconds:.0f} s", soft_wrap=True)
        console.print("\nLook next at", soft_wrap=True)
        home = self.out / "coordinator"
        for what, command in (
            ("where it stands", f"wardround phase status --home {home}"),
            ("what one hospital gains", f"wardround phase status --home {self.out / 'sites' / SITES[0]}"),
            ("what privacy costs", str(home / "sweeps" / STAYS / "sweep.svg")),
            ("to stop the champion", f"wardround model rollback {home} --kind model-harm"),
        ):
            console.print(f"  {what:<24} {command}", soft_wrap=True)

    def champion(self) -> str:
        found = self.state.rollout.champion(IMAGES)
        if found is None:
            return "none"
        key = (found.body.plan_digest, found.body.round)
        figure = figure_text(self.state.evaluated[key].figure_micro)
        return (
            f"{self.state.registered[key].model_name} {found.body.model_digest[:16]}, federated AUC {figure}"
        )

    def budget(self) -> str:
        most = max(self._epsilon_micro().values(), default=0)
        return f"at most ε={epsilon_text(most)} of a hospital's patients, over all four phases"

    def _epsilon_micro(self) -> dict[str, int]:
        return {
            site.name: site.pool.epsilon_micro(self.state.spent_by(site.name))
            for site in self.state.founded().sites()
            if site.pool is not None
        }

    def to_json(self) -> str:
        packages: list[JsonValue] = [{"package": one.package.name, **one.verdicts} for one in self.packages]
        epsilon: dict[str, JsonValue] = {name: value / MICRO for name, value in self._epsilon_micro().items()}
        found = self.state.rollout.champion(IMAGES)
        return json.dumps(
            {
                "phases": as_json(self.acts),
                "packages": packages,
                "champion": None if found is None else found.body.model_digest,
                "epsilon": epsilon,
                "seconds": round(self.seconds, 1),
            }
        )


def _verified(package: Path) -> Verified:
    return Verified(package, {name: _passes(words, package) for name, words in VERIFIERS.items()})


def _passes(words: tuple[str, ...], package: Path) -> bool:
    command = [sys.executable, "-m", *words, str(package)]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0  # noqa: S603 - ours


def table_of(acts: tuple[Act, ...]) -> Table:
    """A phase a row; one that was left as it was made to fail has no model and no signatures."""
    table = Table(title="From nothing to a champion", title_justify="left")
    for heading in (
        "phase",
        "made to fail first",
        "the gate refused",
        "its model",
        "signed by",
        "seconds",
    ):
        table.add_column(heading, overflow="fold")
    for act in acts:
        told = "\n".join(one.told for one in act.refusals)
        codes = "\n".join(", ".join(one.codes) for one in act.refusals)
        signed = f"{len(act.signed)} officers" if act.signed else "nobody yet"
        seconds = f"{act.seconds:.0f}" if act.seconds else ""
        table.add_row(act.phase, told, codes, act.figures, signed, seconds)
    return table
