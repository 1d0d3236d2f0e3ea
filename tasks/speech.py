"""Saying something on the ledger: sign the next event of one's own chain and wait until it stands, or is final.

The transport differs (a site's inbox, the coordinator's own queue) and lives with the parties.
"""

from __future__ import annotations

from collections.abc import Sequence

from adapters.clock import Clock
from ledger.event import Event, sign_event
from ledger.keys import Signer
from policies.events import Body, type_of
from policies.state import FederationState


def next_entry(
    state: FederationState, body: Body, *, name: str, signers: Sequence[Signer], clock: Clock
) -> bytes:
    """The signed entry that would continue `name`'s chain in `state`."""
    sequence, previous = state.chain.position(name)
    event = Event(
        origin=state.origin,
        type=type_of(body),
        institution=name,
        sequence=sequence,
        previous=previous,
        time_s=clock.now_s(),
        body=body.to_json(),
    )
    return sign_event(event, signers)
