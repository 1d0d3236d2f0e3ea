"""A federation that only talks, with a log and witnesses: what evidence is built from, and how tests tamper."""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ledger import cosignature, evidence_manifest, note
from ledger.evidence_manifest import FileDigest
from ledger.evidence_zip import pack
from ledger.log import Log
from ledger.memory import MemoryStorage
from ledger.note import Note
from ledger.policy import Policy, quorum_policy
from policies.events import Body
from tasks.evidence.building import build, build_phase
from tasks.evidence.rules import RuleFiles
from tests.policies.assembly import Assembly
from tests.policies.founding import LOG, ORIGIN, POLICY, SITES, WITNESSES

RULES = RuleFiles(POLICY, {"budget.rego": b"package wardround.budget\n"})


@dataclass
class Witnessed(Assembly):
    """An assembly that keeps what it said."""

    entries: list[bytes] = field(default_factory=list)

    def say(self, institution: str, body: Body) -> str:
        self.entries.append(self.entry(institution, body))
        return super().say(institution, body)

    @property
    def quorum(self) -> Policy:
        witnesses = [str(cosignature.vkey_of(name, WITNESSES[name])) for name in SITES]
        return quorum_policy(str(note.vkey_of(ORIGIN, LOG)), witnesses)

    def log(self) -> Log:
        log = Log.create(MemoryStorage(), origin=ORIGIN, signer=LOG)
        log.append(self.entries)
        return log

    def build(self, round_number: int = 1, **changed: Any) -> bytes:  # noqa: ANN401
        """The package of a round of this plan, under a checkpoint that all witnesses cosigned."""
        log = self.log()
        arguments: dict[str, Any] = {
            "plan_digest": self.digest,
            "round_number": round_number,
            "final_checkpoint": cosigned(log),
            "policy": self.quorum,
            "rules": RULES,
            "tighter": False,
            **changed,
        }
        return build(log, **arguments)

    def build_phase(self, **changed: Any) -> bytes:  # noqa: ANN401
        """The package of the phase that was measured last."""
        log, last = self.log(), self.state.rollout.measured
        arguments: dict[str, Any] = {
            "measured": "" if last is None else last.entry_digest,
            "final_checkpoint": cosigned(log),
            "policy": self.quorum,
            "rules": RULES,
            "tighter": False,
            **changed,
        }
        return build_phase(log, **arguments)


def cosigned(log: Log) -> bytes:
    head = note.parse(log.checkpoint())
    lines = [
        cosignature.sign(head.text, name=name, signer=WITNESSES[name], time_s=1_700_000_000) for name in SITES
    ]
    return Note(head.text, (*head.signatures, *lines)).encode()


def files_of(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as packed:
        return {name: packed.read(name) for name in packed.namelist()}


def payload_of(data: bytes) -> dict[str, bytes]:
    start = "payload/"
    return {name.removeprefix(start): file for name, file in files_of(data).items() if name.startswith(start)}


def written(path: Path, files: dict[str, bytes]) -> Path:
    """The files as a package whose manifest fits them, as whoever tampers would write it."""
    manifest = evidence_manifest.parse(files["payload/manifest.json"])
    listed = {
        name.removeprefix("payload/"): FileDigest.of(data)
        for name, data in files.items()
        if name.startswith("payload/") and name != "payload/manifest.json"
    }
    path.write_bytes(pack({**files, "payload/manifest.json": replace(manifest, files=listed).encode()}))
    return path
