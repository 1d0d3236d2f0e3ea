"""An in-memory consortium: the product's rehearsal (`flows.rehearsal`) as tests found it and look into it.

Nothing is mocked. What differs from a demo is where the sessions run (threads) and how small the plan is.
A test changes one thing, by a seam that the product has anyway: a worker, an exchange, a file.
"""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adapters.home import ConsentConfig, Home, SourceConfig
from adapters.sources.invented import write_shard as write_shard
from flows import rehearsal
from flows.rehearsal import PowerCut as PowerCut
from flows.rehearsal import Rehearsal
from policies.federation import Phase
from tasks.rehearsal.cast import coordinator_worker as coordinator_worker
from tasks.rehearsal.cast import site_worker as site_worker
from tasks.rehearsal.founding import found_to_throw_away, invented_sources
from tests.consents import WAIVER
from tests.plans import tiny_plan as tiny_plan

Outcome = rehearsal.Outcome
SITES = ("hospital-a", "hospital-b", "hospital-c", "hospital-d")


@dataclass
class Consortium(Rehearsal):
    """A founded federation in a test's folder, bent through the seams of `tasks.rehearsal.cast`."""

    @classmethod
    def found(
        cls,
        root: Path,
        *,
        sites: tuple[str, ...] = SITES,
        cap: float = 100.0,
        patients: dict[str, int] | None = None,
        token_module: Path | None = None,
        consent: ConsentConfig = WAIVER,
        data: dict[str, SourceConfig] | None = None,
        families: tuple[str, ...] = ("Classifier",),
        phase: Phase = "pilot",
    ) -> Consortium:
        """`data` by site, for other sources than shards of small images."""
        return cls(
            found_to_throw_away(
                root,
                invented_sources(root, sites, patients) if data is None else data,
                name="test",
                epsilon_cap=cap,
                consent=consent,
                model_families=families,
                phase=phase,
                token_module=token_module,
            )
        )

    def site_log(self, name: str) -> str:
        return Home(self.founded.sites[name]).log.read_text()

    def report(self) -> dict[str, Any]:
        """What the coordinator says of its rounds."""
        value: dict[str, Any] = json.loads(Home(self.founded.coordinator).report.read_text())
        return value

    def registered_versions(self) -> int:
        """Model versions in the registry, whatever the ledger says."""
        with sqlite3.connect(self.founded.coordinator / "mlflow.db") as store:
            count: int = store.execute("SELECT COUNT(*) FROM model_versions").fetchone()[0]
        return count
