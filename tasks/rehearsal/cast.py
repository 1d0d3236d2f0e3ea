"""Who plays in a rehearsal: parties with real homes, keys, ledger, witnesses and gates; sessions live in threads.

Nothing is mocked. Whoever rehearses bends one thing, by a seam that the product has anyway: the process of a party,
what a party sees of the exchange, a clock, files in the homes, a power cut. What they play is `flows.rehearsal`.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field

from adapters.clock import Clock
from adapters.exchange import DirectoryExchange, Exchange
from adapters.home import CoordinatorConfig, Home, SiteConfig
from adapters.institution_log import read_state
from policies.state import FederationState
from tasks.coordinator.party import Coordinator, opened_coordinator
from tasks.found import COORDINATOR, Founded
from tasks.site.party import Site, opened_site
from tasks.worker.coordinator_session import CoordinatorSession
from tasks.worker.process import InlineWorker, Worker
from tasks.worker.site_session import SiteSession

SiteWorker = Callable[[Home, SiteConfig], Worker[SiteSession]]
CoordinatorWorker = Callable[[Home, CoordinatorConfig], Worker[CoordinatorSession]]


def site_worker(session: type[SiteSession] = SiteSession) -> SiteWorker:
    """A site whose process computes with `session`: the honest one, or one that somebody bent."""

    def begin(home: Home, config: SiteConfig) -> Worker[SiteSession]:
        return InlineWorker(session, home.root, party=config.name, log=home.log)

    return begin


def coordinator_worker(session: type[CoordinatorSession] = CoordinatorSession) -> CoordinatorWorker:
    def begin(home: Home, config: CoordinatorConfig) -> Worker[CoordinatorSession]:
        return InlineWorker(session, home.root, party=config.name, log=home.log)

    return begin


@dataclass
class Cast:
    """The parties of a founded federation, each bent where the fields have something under its name."""

    founded: Founded
    workers: dict[str, SiteWorker] = field(default_factory=dict)
    coordinator: CoordinatorWorker = field(default_factory=coordinator_worker)
    exchanges: dict[str, Callable[[Exchange], Exchange]] = field(default_factory=dict)
    """Of sites and the coordinator: what each sees of the shared folder."""
    clocks: dict[str, Clock] = field(default_factory=dict)
    """Of parties whose clock is not the machine's."""
    opened: Callable[[Coordinator], None] = lambda coordinator: None
    """Is given the coordinator before it runs anything."""

    def home(self, name: str) -> Home:
        return Home(self.founded.coordinator if name == COORDINATOR else self.founded.sites[name])

    def state(self) -> FederationState:
        """As the coordinator's stored log has it, while nobody runs it."""
        return read_state(self.home(COORDINATOR))[0]

    def log(self) -> tuple[int, str]:
        """(size, root in hex) of that log."""
        state, root = read_state(self.home(COORDINATOR))
        return state.size, root

    def opened_coordinator(self) -> AbstractAsyncContextManager[Coordinator]:
        return opened_coordinator(
            self.founded.coordinator,
            clock=self.clocks.get(COORDINATOR),
            exchange=self._exchange_of(COORDINATOR),
            worker=self.coordinator,
        )

    def opened_site(self, name: str) -> AbstractAsyncContextManager[Site]:
        return opened_site(
            self.founded.sites[name],
            clock=self.clocks.get(name),
            exchange=self._exchange_of(name),
            worker=self.workers.get(name, site_worker()),
        )

    def _exchange_of(self, name: str) -> Exchange:
        shared, bent = DirectoryExchange(self.founded.exchange), self.exchanges.get(name)
        return shared if bent is None else bent(shared)
