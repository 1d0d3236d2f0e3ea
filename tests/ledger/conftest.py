"""A small federation for the ledger's tests: real keys, a real log, real witnesses, one fixed clock."""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass, field

import pytest

from ledger.chain import EventChain
from ledger.event import NO_PREVIOUS, Event, entry_digest, sign_event
from ledger.finality import merge_cosignatures
from ledger.keys import MemorySigner
from ledger.log import Log
from ledger.memory import MemoryStorage
from ledger.policy import Policy, quorum_policy
from ledger.storage import Storage
from ledger.witness import Witness
from ledger.witness_storage import MemoryWitnessStorage, SqliteWitnessStorage
from tests.ledger.packaging import ended, packaged
from tests.ledger.witnessing import create

ORIGIN = "ledger.example/wards"
NOW_S = 1_800_000_000
SITES = ("site-a", "site-b", "site-c", "site-d")


class Author:
    """An institution that signs its events in sequence."""

    def __init__(self, name: str, *, scheme: str = "ed25519") -> None:
        self.signer = MemorySigner(name, seed=name.encode(), scheme=scheme)
        self.name = name
        self.sequence = 0
        self.previous = NO_PREVIOUS

    def event(self, kind: str, body=None, *, time_s: int = NOW_S, also=(), **changes) -> bytes:
        fields = {
            "origin": ORIGIN,
            "type": kind,
            "institution": self.name,
            "sequence": self.sequence,
            "previous": self.previous,
            "time_s": time_s,
            "body": body or {},
        }
        data = sign_event(Event(**(fields | changes)), [self.signer, *also])
        self.sequence += 1
        self.previous = entry_digest(data)
        return data


@dataclass
class Federation:
    storage: Storage = field(default_factory=MemoryStorage)
    now_s: int = NOW_S
    names: tuple[str, ...] = SITES

    def __post_init__(self) -> None:
        self.log_signer = MemorySigner("log", seed=b"log")
        self.log = Log.create(self.storage, origin=ORIGIN, signer=self.log_signer)
        self.coordinator = Author("coordinator")
        self.sites = {
            name: Author(name, scheme="ecdsa-p256" if name == "site-b" else "ed25519") for name in SITES
        }
        self.cosigners = {
            name: MemorySigner(f"{name}/witness", seed=b"w" + name.encode()) for name in self.names
        }
        self.witnesses = {
            name: Witness.create(
                MemoryWitnessStorage(),
                log_vkey=self.log.vkey,
                signer=signer,
                gate=EventChain(ORIGIN),
                clock=lambda: self.now_s,
            )
            for name, signer in self.cosigners.items()
        }

    @property
    def policy(self) -> Policy:
        return quorum_policy(self.log.vkey, [witness.vkey for witness in self.witnesses.values()])

    def founding(self, *, valid_until_s=None) -> bytes:
        members = [
            {
                "name": author.name,
                "key": author.signer.public.to_json(),
                "role": "site" if author.name in self.witnesses else "coordinator",
                "witness_vkey": self.witnesses[author.name].vkey if author.name in self.witnesses else None,
                "valid_until_s": (valid_until_s or {}).get(author.name),
            }
            for author in (self.coordinator, *self.sites.values())
        ]
        return self.coordinator.event(
            "federation.founded",
            {"members": members, "log_vkey": self.log.vkey},
            also=[author.signer for author in self.sites.values()],
        )

    def grow(self, count: int) -> None:
        """Found if need be, then let the sites speak in turn."""
        if self.log.size == 0 and count:
            self.log.append([self.founding()])
            count -= 1
        names = list(self.sites)
        batch = []
        for number in range(count):
            author = self.sites[names[number % len(names)]]
            batch.append(author.event("budget.reserved", {"number": number, "study": "chest"}))
        if batch:
            self.log.append(batch)

    def cosign(self, names=None) -> bytes:
        """The current checkpoint with the cosignatures of these sites' (or all) witnesses."""
        lines = []
        for name in names or self.names:
            witness = self.witnesses[name]
            start = witness.size
            lines.append(
                witness.add_checkpoint(
                    self.log.witness_request(start), list(self.log.entries(start, self.log.size))
                )
            )
        return merge_cosignatures(self.log.checkpoint(), lines, policy=self.policy)


@pytest.fixture
def federation() -> Federation:
    return Federation()


@pytest.fixture(scope="session")
def make_federation() -> type[Federation]:
    return Federation


@pytest.fixture(scope="session")
def make_author() -> type[Author]:
    return Author


@pytest.fixture(params=["memory", "sqlite"])
def witness_storage(request, tmp_path):
    made = MemoryWitnessStorage() if request.param == "memory" else SqliteWitnessStorage(tmp_path / "w.db")
    yield made
    made.close()


@pytest.fixture
def witness(federation, witness_storage) -> Witness:
    return create(federation, witness_storage)


@pytest.fixture(scope="module")
def members(make_federation) -> dict[str, bytes]:
    """The files of a package of N = 271 entries under a checkpoint of size 274."""
    federation = make_federation()
    cut = ended(federation)
    federation.grow(3)
    with zipfile.ZipFile(io.BytesIO(packaged(federation, cut))) as packed:
        return {name: packed.read(name) for name in packed.namelist()}
