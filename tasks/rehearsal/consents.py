"""Invented patients who agree, one who thinks better of it, a session that does not care, and a day that passes."""

from __future__ import annotations

import time
from collections.abc import Callable

from adapters.clock import SystemClock
from adapters.consent.in_force import ConsentInForce
from adapters.consent.store import ConsentStore
from adapters.home import Home
from ledger import canonical
from policies.inquiry import AnyPlan
from policies.plan import Plan
from tasks.enrol import enrol
from tasks.progress import Progress, listen
from tasks.rehearsal.cast import Cast
from tasks.worker.site_session import SiteSession


def everybody_agrees(cast: Cast, plan: Plan) -> dict[str, str]:
    """Site → the key of one patient of its training side."""
    return {site: enrol(home, plan, now_s=int(time.time())) for site, home in cast.founded.sites.items()}


class WithdrawsInTraining:
    """One patient withdraws when this site has begun the training of the first round."""

    def __init__(self, cast: Cast, site: str, *, patient_key: str) -> None:
        self.withdrawn = 0
        """How many consents ended."""
        self._home, self._site, self._patient = Home(cast.founded.sites[site]), site, patient_key

    def watch(self) -> Callable[[], None]:
        """Returns what ends it."""
        return listen(self._see)

    def _see(self, seen: Progress) -> None:
        begun = (seen.party, seen.step, seen.round) == (self._site, "train", 1) and seen.done >= 1
        if begun and not self.withdrawn:
            store = ConsentStore.open(self._home)
            self.withdrawn = store.withdraw(self._patient, policy_version=None, now_s=int(time.time()))


class HeedlessSession(SiteSession):
    """Asks for consent once and trains on regardless."""

    def _consent_for(self, plan: AnyPlan) -> ConsentInForce:
        asked = super()._consent_for(plan)
        return _Once(asked)


class _Once(ConsentInForce):
    def __init__(self, asked: ConsentInForce) -> None:
        self._asked, self._said = asked, frozenset[bytes]()

    def keys(self, register: frozenset[bytes]) -> frozenset[bytes]:
        self._said = self._said or self._asked.keys(register)
        return self._said


class LaterClock(SystemClock):
    """The machine's, some seconds ahead."""

    def __init__(self, ahead_s: int) -> None:
        self._ahead_s = ahead_s

    def now_s(self) -> int:
        return super().now_s() + self._ahead_s


def patients_by_round(cast: Cast, site: str) -> dict[str, int]:
    """As the site's own report has it for the plan that it ran last; round → patients trained on."""
    report = canonical.decode(Home(cast.founded.sites[site]).report.read_bytes())
    told = report.get("patients_by_round") if isinstance(report, dict) else None
    return {
        key: value
        for key, value in (told if isinstance(told, dict) else {}).items()
        if isinstance(value, int)
    }
