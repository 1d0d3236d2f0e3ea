"""A site while it takes part: its keys, its view of the ledger, its process, its way to the exchange.

Opened once a flow run and handed to every step. What a step does lives in the module of its name; what may
leave the site lives in `release`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from adapters import mail
from adapters.bell import listen
from adapters.clock import Clock, SystemClock
from adapters.exchange import DirectoryExchange, Exchange
from adapters.home import Home, HomeError, SiteConfig
from adapters.institution_log import open_replica
from adapters.outbox import Outbox
from adapters.pool_journal import PoolJournal
from adapters.replica import Replica
from ledger.errors import PolicyViolation
from ledger.event import entry_digest, parse_entry
from ledger.keys import Signer
from policies.events import Body
from policies.federation import Federation, Member
from policies.inquiry import AnyPlan
from policies.receipt import Step
from policies.state import FederationState
from tasks import progress
from tasks.aggregate import Aggregate
from tasks.background import Background
from tasks.progress import Progress
from tasks.speech import next_entry
from tasks.worker.process import Worker, WorkerProcess
from tasks.worker.site_session import SiteSession

T = TypeVar("T")
LEDGER_TIMEOUT_S = 60.0


@dataclass(slots=True)
class Drawing:
    """A reservation of this run, and the steps that have begun to use it."""

    attempt: int
    begun: set[Step] = field(default_factory=set)


class Site:
    def __init__(
        self,
        home: Home,
        config: SiteConfig,
        exchange: Exchange,
        replica: Replica,
        background: Background,
        worker: Worker[SiteSession],
        clock: Clock,
    ) -> None:
        self.home, self.config, self.exchange, self.worker = home, config, exchange, worker
        self.outbox = Outbox(home.outbox)
        self.journal = PoolJournal(home.resolve(config.pool), config.policy.pool, owner=config.name)
        self.drawn: dict[tuple[str, int], Drawing] = {}
        """What this run reserved, by plan and round. Of an earlier run's reservations nothing is known, so that they
        are settled as if all of them had been used."""
        self.aggregated: tuple[tuple[int, str, str], Aggregate] | None = None
        """What followed from the sums of the last round, by its number and the digests of its base model and of the
        sums."""
        self.signer: Signer = home.signer("signing", config.name)
        self._replica, self._background, self._clock = replica, background, clock

    @property
    def name(self) -> str:
        return self.config.name

    @property
    def federation(self) -> Federation:
        """The members in force, as far as this site knows: first those whom it founded the federation with."""
        return self.state.federation or self.home.federation

    @property
    def member(self) -> Member:
        member = self.federation.member(self.name)
        if member is None:
            raise HomeError(f"{self.name} is not a member of the federation, or no longer")
        return member

    @property
    def state(self) -> FederationState:
        """What a quorum of witnesses stands behind: the only state to act on."""
        return self._replica.final_state

    @property
    def latest(self) -> FederationState:
        """What this site's witness cosigned, maybe ahead of the quorum: where its own chains stand."""
        return self._replica.state

    @property
    def now_s(self) -> int:
        return self._clock.now_s()

    def tell(self, step: str, round_number: int = 0) -> None:
        progress.tell(Progress(self.name, step, round_number))

    def keep_diagnostics(self, text: str) -> None:
        with self.home.log.open("a") as log:
            log.write(f"{datetime.now(UTC).isoformat()} {text}\n")

    async def until(
        self, found: Callable[[FederationState], T | None], *, timeout_s: float, waiting_for: str
    ) -> T:
        """Wait until `found` sees something final. A witness that refuses ends every wait."""

        def look() -> T | None:
            if self._replica.halted is not None:
                raise self._replica.halted
            return found(self.state)

        return await self._background.until(look, timeout_s=timeout_s, waiting_for=waiting_for)

    async def say(
        self,
        body: Body,
        *,
        final: bool = False,
        also: Sequence[Signer] = (),
        timeout_s: float | None = None,
    ) -> int:
        """Put an event on the ledger, which `also` sign; its index, once it is cosigned here (or `final`)."""
        return await self.send(self.entry(body, also=also), final=final, timeout_s=timeout_s)

    def entry(self, body: Body, *, also: Sequence[Signer] = ()) -> bytes:
        """The signed entry that continues this site's chain, which may be ahead of what is final."""
        signers = (self.signer, *also)
        return next_entry(self.latest, body, name=self.name, signers=signers, clock=self._clock)

    async def send(self, entry: bytes, *, final: bool = False, timeout_s: float | None = None) -> int:
        """Send a signed entry, again if need be; raises PolicyViolation with the log's reasons if refused."""
        digest = entry_digest(entry)
        sequence = parse_entry(entry).event.sequence
        self.exchange.put(f"{mail.inbox(self.name, sequence)}/{digest}", entry)

        def answer(_: FederationState) -> int | None:
            index = (self.state if final else self.latest).indices.get(digest)
            if index is None:
                refusal = mail.fetch(self.exchange, mail.refused(digest))
                if refusal is not None:
                    raise PolicyViolation(mail.read_refusal(refusal))
            return index

        patience_s = LEDGER_TIMEOUT_S if timeout_s is None else timeout_s
        return await self.until(answer, timeout_s=patience_s, waiting_for="the ledger")


def patience_s(plan: AnyPlan) -> float:
    """How long a site waits for what others owe it: their deadline twice over, and the log's."""
    return 2.0 * plan.participation.deadline_s + LEDGER_TIMEOUT_S


def spawned_worker(home: Home, config: SiteConfig) -> Worker[SiteSession]:
    return WorkerProcess(SiteSession, home.root, party=config.name, log=home.log)


@asynccontextmanager
async def opened_site(
    root: Path,
    *,
    clock: Clock | None = None,
    exchange: Exchange | None = None,
    worker: Callable[[Home, SiteConfig], Worker[SiteSession]] = spawned_worker,
) -> AsyncIterator[Site]:
    """Open the home, the replica and the process; close all three. Tests and simulations bring twins."""
    clock = clock or SystemClock()
    home = Home(root)
    config = home.read(SiteConfig)
    shared = exchange or DirectoryExchange(home.resolve(config.exchange))
    # Two runs at once would reserve and release for each other.
    with home.alone():
        working = worker(home, config)
        try:
            replica = open_replica(home, home.federation, shared, name=config.name, clock=clock)
            async with Background(replica) as background:
                heard = listen(shared, mail.concerns_witness(config.name), background.nudge)
                looked = listen(shared, mail.concerns_sums, background.look)
                try:
                    yield Site(home, config, shared, replica, background, working, clock)
                finally:
                    heard()
                    looked()
        finally:
            home.close()
            working.close()
