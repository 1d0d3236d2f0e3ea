"""The coordinator while it runs a plan: its keys, the log it appends to, its process, the exchange.

It holds no key that opens an update and sees no site's. What a step does lives in the module of its name.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from adapters import mail
from adapters.bell import listen
from adapters.clock import Clock, SystemClock
from adapters.exchange import DirectoryExchange, Exchange
from adapters.home import CoordinatorConfig, Home
from adapters.institution_log import open_sequencer
from adapters.sequencer import RefusedEntry, Sequencer
from ledger.errors import PolicyViolation
from ledger.event import entry_digest
from ledger.keys import Signer
from policies.events import Body
from policies.federation import Federation
from policies.state import FederationState
from tasks import progress
from tasks.background import Background
from tasks.progress import Progress
from tasks.speech import next_entry
from tasks.worker.coordinator_session import CoordinatorSession
from tasks.worker.process import Worker, WorkerProcess

T = TypeVar("T")
LEDGER_TIMEOUT_S = 120.0


class Coordinator:
    def __init__(
        self,
        home: Home,
        config: CoordinatorConfig,
        exchange: Exchange,
        sequencer: Sequencer,
        background: Background,
        worker: Worker[CoordinatorSession],
        clock: Clock,
    ) -> None:
        self.home, self.config, self.exchange, self.worker = home, config, exchange, worker
        self.signer: Signer = home.signer("signing", config.name)
        self.refusals_read = 0
        """How many of `refused` were looked at: a receipt can be refused before its step is collected."""
        self.registering: asyncio.Task[None] | None = None
        """The registration of an earlier round's model, while a later round is under way: verdicts wait for it."""
        self._sequencer, self._background, self._clock = sequencer, background, clock
        self._speaking = asyncio.Lock()

    @property
    def name(self) -> str:
        return self.config.name

    @property
    def now_s(self) -> int:
        return self._clock.now_s()

    @property
    def federation(self) -> Federation:
        """The members in force."""
        return self.state.founded()

    @property
    def state(self) -> FederationState:
        """The fold of everything appended."""
        return self._sequencer.state

    @property
    def refused(self) -> dict[str, RefusedEntry]:
        """Entries that the log did not take, by digest, in the order they came."""
        return self._sequencer.refused

    @property
    def final_size(self) -> int:
        return self._sequencer.final_size

    @property
    def final_root_hex(self) -> str:
        """Root of the newest final checkpoint."""
        return self._sequencer.final_root.hex()

    def tell(self, step: str, round_number: int = 0, done: int = 0, total: int = 0) -> None:
        progress.tell(Progress(self.name, step, round_number, done, total))

    def keep_diagnostics(self, text: str) -> None:
        with self.home.log.open("a") as log:
            log.write(f"{datetime.now(UTC).isoformat()} {text}\n")

    async def until(
        self, found: Callable[[FederationState], T | None], *, timeout_s: float, waiting_for: str
    ) -> T:
        return await self._background.until(
            lambda: found(self.state), timeout_s=timeout_s, waiting_for=waiting_for
        )

    async def until_final(self, index: int) -> None:
        await self.until(
            lambda _: True if index < self.final_size else None,
            timeout_s=LEDGER_TIMEOUT_S,
            waiting_for="a quorum of witnesses",
        )

    async def heard(self) -> None:
        """Until what the sites had sent by now is taken in. Whoever holds the log could else speak before them."""
        seen = self._sequencer.turns
        self._background.nudge()
        await self.until(
            lambda _: True if self._sequencer.turns > seen + 1 else None,
            timeout_s=LEDGER_TIMEOUT_S,
            waiting_for="the log",
        )

    async def say(self, body: Body, *, final: bool = True, also: Sequence[Signer] = ()) -> int:
        """Append an event of the coordinator's own, which `also` sign; its index, by default once it is final."""
        async with self._speaking:  # the next entry of its chain continues this one
            index = await self._append(body, also)
        if final:
            await self.until_final(index)
        return index

    async def _append(self, body: Body, also: Sequence[Signer]) -> int:
        signers = (self.signer, *also)
        entry = next_entry(self.state, body, name=self.name, signers=signers, clock=self._clock)
        digest = entry_digest(entry)
        self._sequencer.submit(entry)
        self._background.nudge()

        def answer(state: FederationState) -> int | None:
            if digest in self.refused:
                raise PolicyViolation(self.refused[digest].violations)
            return state.indices.get(digest)

        return await self.until(answer, timeout_s=LEDGER_TIMEOUT_S, waiting_for="the log")


def spawned_worker(home: Home, config: CoordinatorConfig) -> Worker[CoordinatorSession]:
    return WorkerProcess(CoordinatorSession, home.root, party=config.name, log=home.log)


@asynccontextmanager
async def opened_coordinator(
    root: Path,
    *,
    clock: Clock | None = None,
    exchange: Exchange | None = None,
    worker: Callable[[Home, CoordinatorConfig], Worker[CoordinatorSession]] = spawned_worker,
) -> AsyncIterator[Coordinator]:
    """Open the home, the log and the process; close all three. Tests and simulations bring twins."""
    clock = clock or SystemClock()
    home = Home(root)
    config = home.read(CoordinatorConfig)
    shared = exchange or DirectoryExchange(home.resolve(config.exchange))
    # Two runs at once would append for each other: a scheduler that fires twice.
    with home.alone():
        working = worker(home, config)
        try:
            sequencer = open_sequencer(home, home.federation, shared)
            async with Background(sequencer) as background:
                heard = listen(shared, mail.concerns_log, background.nudge)
                looked = listen(shared, mail.concerns_sums, background.look)
                try:
                    yield Coordinator(home, config, shared, sequencer, background, working, clock)
                finally:
                    heard()
                    looked()
        finally:
            home.close()
            working.close()
