"""The ends of rounds, recorded beside the rounds that follow: the registration of each model, then its evidence.

A model that passed is the next round's base whether it is registered yet or not, and sites go on at its verdict. What
does wait is the next verdict, since a gate compares with the model that is registered, and the end of the run, since
no lineage is left unfinished. Rounds are recorded one after another. What is recorded is `record` and `evidence`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from adapters.lineage import Lineage
from policies.events import PlanPublished
from tasks.coordinator.evidence import record_evidence
from tasks.coordinator.party import Coordinator
from tasks.coordinator.record import record_round


class Recording:
    def __init__(self, coordinator: Coordinator, published: PlanPublished, lineage: Lineage) -> None:
        self._coordinator, self._published, self._lineage = coordinator, published, lineage
        self._evidence: asyncio.Task[None] | None = None

    def begin(
        self,
        round_number: int,
        model: bytes,
        *,
        metrics: Mapping[str, float],
        public_auc: float | None,
        registered: Callable[[], None],
    ) -> None:
        """Begin to record a round whose verdict is final; `registered` is called once its model is registered."""

        async def register(earlier: asyncio.Task[None] | None) -> None:
            if earlier is not None:
                await earlier
            await record_round(
                self._coordinator, self._published, round_number, model, self._lineage, metrics, public_auc
            )
            registered()

        async def package(earlier: asyncio.Task[None] | None, registration: asyncio.Task[None]) -> None:
            if earlier is not None:
                await earlier
            await registration
            await record_evidence(self._coordinator, self._published, round_number)

        registration = asyncio.create_task(register(self._coordinator.registering))
        self._coordinator.registering = registration
        self._evidence = asyncio.create_task(package(self._evidence, registration))

    async def finished(self) -> None:
        """Return once everything is recorded; raises what kept it from it."""
        if self._evidence is not None:
            await self._evidence

    async def settle(self) -> None:
        """Wait for what is being recorded, whatever becomes of it: a run that failed for another reason says that."""
        begun = [task for task in (self._coordinator.registering, self._evidence) if task is not None]
        await asyncio.gather(*begun, return_exceptions=True)
