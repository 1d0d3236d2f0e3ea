"""New signing keys for a rehearsal's parties, and somebody who still has an old one and tries it."""

from __future__ import annotations

from adapters import mail
from adapters.clock import SystemClock
from adapters.home import CoordinatorConfig, SiteConfig
from adapters.key_rotation import KeyRotation
from ledger.errors import PolicyViolation
from ledger.event import entry_digest
from ledger.keys import Signer
from policies.rollout.statements import IncidentReported
from policies.state import FederationState
from tasks.coordinator.party import Coordinator
from tasks.found import COORDINATOR
from tasks.rehearsal.cast import Cast
from tasks.speech import next_entry

_SAID = IncidentReported(severity="minor", kind="other")
_ANSWER_S = 20.0


def signing_key(cast: Cast, name: str) -> Signer:
    """The one in this party's home now."""
    return cast.home(name).signer("signing", name)


def make_next_key(cast: Cast, name: str) -> None:
    """As `wardround site rotate-key` does; the next run puts it on the ledger."""
    home = cast.home(name)
    config = home.read(CoordinatorConfig) if name == COORDINATOR else home.read(SiteConfig)
    KeyRotation(home, config).begin()


def key_id_in_force(state: FederationState, name: str) -> str:
    member = state.founded().member(name)
    return "" if member is None else member.key.verification_key().keyid


async def refusal_of(coordinator: Coordinator, name: str, key: Signer) -> str:
    """The first code with which the log refuses an event of this party that is signed with `key`; "" if it takes
    it."""
    if name == coordinator.name:
        return await _refusal_of_own(coordinator, key)
    sequence, _ = coordinator.state.chain.position(name)
    entry = next_entry(coordinator.state, _SAID, name=name, signers=(key,), clock=SystemClock())
    digest = entry_digest(entry)
    coordinator.exchange.put(f"{mail.inbox(name, sequence)}/{digest}", entry)

    def answer(state: FederationState) -> str | None:
        if digest in coordinator.refused:
            return coordinator.refused[digest].violations[0].code
        return "" if digest in state.indices else None

    return await coordinator.until(answer, timeout_s=_ANSWER_S, waiting_for="the log")


async def _refusal_of_own(coordinator: Coordinator, key: Signer) -> str:
    coordinator.signer = key
    try:
        await coordinator.say(_SAID, final=False)
    except PolicyViolation as refused:
        return refused.violations[0].code
    return ""
