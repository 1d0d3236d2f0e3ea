"""What is planted in a site's working process for the canary test. Imported by spawned processes: light."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Planted:
    """A preparation of a site's process: its training raises the texts, by round."""

    plain: str
    """Round 1: the text of a foreign exception."""
    coded: str
    """Round 2: the diagnostics of an error of ours; none if empty."""
    scrubbed: bool = True
    """False takes away what reduces errors to codes when they leave the process."""

    def __call__(self) -> None:
        from ledger.errors import CodedError
        from policies.plan import Plan
        from tasks.worker import process
        from tasks.worker.process import Refused
        from tasks.worker.site_session import SiteSession

        trained: Callable[[SiteSession, Plan, bytes, int, int], float] = SiteSession.train

        def train(self: SiteSession, plan: Plan, base: bytes, round_number: int, attempt: int) -> float:
            if round_number == 1:
                raise ValueError(f"cannot read the image of {planted.plain}")
            if round_number == 2 and planted.coded:
                raise CodedError("the training failed", code="train.planted", diagnostics=planted.coded)
            return trained(self, plan, base, round_number, attempt)

        def unscrubbed(error: Exception, log: object) -> Refused:
            return Refused("worker.unscrubbed", "fault", str(error), "", ())

        planted = self
        SiteSession.train = train  # type: ignore[method-assign]
        if not self.scrubbed:
            process._refused = unscrubbed
