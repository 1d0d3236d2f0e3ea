"""A founded federation whose sequencer and replicas move only when a test turns them."""

from __future__ import annotations

from pathlib import Path

from adapters import mail
from adapters.clock import FixedClock
from adapters.exchange import DirectoryExchange, Exchange
from adapters.home import Home, SourceConfig
from adapters.institution_log import open_replica, open_sequencer
from adapters.replica import Replica
from adapters.sequencer import Sequencer
from ledger.event import entry_digest
from policies.events import Body, ConsentPublished
from policies.federation import Pool
from tasks.found import Founded, FoundingSite, found
from tasks.speech import next_entry
from tests.consents import POLICY, WAIVER

NOW_S = 1_800_000_000
SITES = ("site-a", "site-b", "site-c", "site-d")


class Post:
    """The federation, its exchange, the coordinator's sequencer and a replica a site."""

    def __init__(self, root: Path) -> None:
        sources = tuple(FoundingSite(name, SourceConfig(kind="npz", path="none"), WAIVER) for name in SITES)
        pool = Pool.of(epsilon_cap_micro=1, delta=1e-5)
        self.founded: Founded = found(root, sources, name="post", pool=pool, clock=FixedClock(NOW_S))
        self.exchange: Exchange = DirectoryExchange(self.founded.exchange)
        self.sequencer = self.open_sequencer()
        self.replicas = {name: self.open_replica(name) for name in SITES}

    def open_sequencer(self) -> Sequencer:
        return open_sequencer(Home(self.founded.coordinator), self.founded.federation, self.exchange)

    def open_replica(self, name: str) -> Replica:
        home = Home(self.founded.sites[name])
        return open_replica(home, self.founded.federation, self.exchange, name=name, clock=FixedClock(NOW_S))

    def turn(self, *names: str, times: int = 6) -> None:
        for _ in range(times):
            self.sequencer.turn()
            for name in names or SITES:
                self.replicas[name].turn()

    def say(self, site: str, study: str) -> bytes:
        """A site says something that it always may: another version of its consent policy for every `study`."""
        published = POLICY.with_fields({"policy_version": study, "purposes": [study]})
        return self.put(site, ConsentPublished.from_value(published.to_json(), what="consent policy"))

    def put(self, site: str, body: Body) -> bytes:
        """A site puts the next event of its chain into its inbox."""
        home, state = Home(self.founded.sites[site]), self.replicas[site].state
        entry = next_entry(
            state, body, name=site, signers=[home.signer("signing", site)], clock=FixedClock(NOW_S)
        )
        sequence, _ = state.chain.position(site)
        self.exchange.put(f"{mail.inbox(site, sequence)}/{entry_digest(entry)}", entry)
        return entry
