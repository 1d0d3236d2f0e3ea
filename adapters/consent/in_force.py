"""Who may be taken in at this moment, cheap enough to be asked before every training step.

Where patients are asked, those whose consent to a plan's terms is in force; on a waiver, everybody but those who
object. The records are read again only if they changed, a consent expired, or the clock was set back. What consents
say lives in `policies.consent`.
"""

from __future__ import annotations

from adapters.clock import Clock
from adapters.consent.store import ConsentStore
from policies.consent import Terms, consenting, next_expiry_s, objecting


class ConsentInForce:
    def __init__(self, store: ConsentStore, terms: Terms | None, clock: Clock) -> None:
        """`terms` are what a plan asks of a patient's consent, None where the site's basis is a waiver."""
        self._store, self._terms, self._clock = store, terms, clock
        self._register: frozenset[bytes] = frozenset()
        self._keys: frozenset[bytes] = frozenset()
        self._revision: int | None = None
        self._since_s = 0
        self._until_s: int | None = None

    def keys(self, register: frozenset[bytes]) -> frozenset[bytes]:
        """Keys (32 bytes) of the patients who may be taken in now; only those in `register`, all keys of the source,
        mean anything. The same object comes back while nothing changed. Raises what reading the records does: no
        answer is given that rests on records which cannot be believed any more."""
        now_s = self._clock.now_s()
        # Before the records: what is written in between is found at the next call.
        revision = self._store.revision()
        expired = self._until_s is not None and now_s >= self._until_s
        known = revision == self._revision and register is self._register
        if not known or expired or now_s < self._since_s:
            self._read(register, now_s)
            self._register, self._revision, self._since_s = register, revision, now_s
        return self._keys

    def _read(self, register: frozenset[bytes], now_s: int) -> None:
        records = self._store.records()
        if self._terms is None:
            self._keys, self._until_s = register - objecting(records), None
        else:
            self._keys = consenting(records, self._terms, now_s)
            self._until_s = next_expiry_s(records, self._terms, now_s)
