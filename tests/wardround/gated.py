"""A federation's ledger as a build finds it: an export that a quorum cosigned, under the policy that runs here.

Nobody trains in it: members with keys in memory say what is due (`tests.policies.assembly`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import yaml

from ledger.canonical import JsonValue
from ledger.export import export
from ledger.log import Log
from ledger.sqlite import SqliteStorage
from policies.code import running_code_digest, running_policy_digest
from policies.plan import Plan
from tests.plans import tiny_plan
from tests.policies.assembly import STAGES
from tests.policies.founding import CODE, COORDINATOR, LOG, ORIGIN, federation
from tests.tasks.evidence.witnessed import Witnessed, cosigned


def here(**fields: object) -> Plan:
    """The tiny plan, approved for the code that runs here and for that of the members who only talk."""
    return tiny_plan(**fields).with_fields({"code_digests": [running_code_digest(), CODE]})


@dataclass
class Gated(Witnessed):
    plan: Plan = field(default_factory=lambda: here(rounds=2))
    policy_digest: str = field(default_factory=running_policy_digest)

    def _take(self, stage: str) -> None:
        if stage == "founded":
            founding = federation(cap=self.cap).with_fields({"policy_digest": self.policy_digest})
            self.say(COORDINATOR, founding)
        else:
            super()._take(stage)

    def go_on(self, after: str, until: str) -> Gated:
        for stage in STAGES[STAGES.index(after) + 1 : STAGES.index(until) + 1]:
            self._take(stage)
        return self

    def published_at(self, folder: Path) -> Path:
        log = self.log()
        export(log, folder, cosigned(log), policy=self.quorum)
        return folder

    def stored_at(self, path: Path) -> Path:
        """The coordinator's database."""
        storage = SqliteStorage(path)
        log = Log.create(storage, origin=ORIGIN, signer=LOG)
        log.append(self.entries)
        storage.close()
        return path


def gated(until: str = "founded", **fields: object) -> Gated:
    made = Gated(**fields)  # type: ignore[arg-type]
    made.reach(until)
    return made


def write_plan(path: Path, plan: Plan, fields: dict[str, JsonValue] | None = None) -> Path:
    """The plan as a file, with top-level fields that need not be valid."""
    path.write_text(yaml.safe_dump({**plan.to_json(), **(fields or {})}, sort_keys=False))
    return path
