"""Whose consent to a plan's terms is in force at this moment, cheap enough to be asked before every training step.

The records are read again only if they changed, a consent expired, or the clock was set back. What consents say lives
in `policies.consent`.
"""

from __future__ import annotations

from adapters.clock import Clock
from adapters.consent.store import ConsentStore
from policies.consent import Terms, consenting, next_expiry_s


class ConsentInForce:
    def __init__(self, store: ConsentStore, terms: Terms, clock: Clock) -> None:
        self._store, self._terms, self._clock = store, terms, clock
        self._keys: frozenset[bytes] = frozenset()
        self._revision: int | None = None
        self._since_s = 0
        self._until_s: int | None = None

    def keys(self) -> frozenset[bytes]:
        """Keys (32 bytes) of the patients who consent now. Raises what reading the records does: no answer is given
        that rests on records which cannot be believed any more."""
        now_s = self._clock.now_s()
        # Before the records: what is written in between is found at the next call.
        revision = self._store.revision()
        expired = self._until_s is not None and now_s >= self._until_s
        if revision != self._revision or expired or now_s < self._since_s:
            records = self._store.records()
            self._keys = consenting(records, self._terms, now_s)
            self._until_s = next_expiry_s(records, self._terms, now_s)
            self._revision, self._since_s = revision, now_s
        return self._keys
