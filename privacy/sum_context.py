"""What one protected sum is about, and among whom: every key of a sum is bound to all of it.

Lives here: the roster with its thresholds, and the context as unambiguous bytes. No key is derived here
(`privacy.masking`).

With n sites, of which c = floor((n-1)/3) collude with a hostile coordinator, t shares recover a secret. Two sets of t
sites overlap in more than c sites when t > (n + c)/2, so that an honest site is asked twice before two different sets
are opened, and answers once (Bonawitz et al. 2017, section 4.1 and theorem 6.5, active adversary).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final, Literal

from ledger import canonical
from ledger.errors import InputError

MINIMUM_ROSTER: Final = 3
"""Of two sites each learns the other's update from the sum."""
KEY_BYTES: Final = 32
Step = Literal["training", "evaluation", "statistics"]


class RosterInvalidError(InputError):
    code = "privacy.roster-invalid"


@dataclass(frozen=True, slots=True, kw_only=True)
class Participant:
    """A site of the roster and the X25519 public key (raw, 32 bytes) that it announced for this plan."""

    name: str
    masking_key: bytes


@dataclass(frozen=True, slots=True)
class Roster:
    """The sites among whom a sum is protected: at least three, sorted by name, keys all different."""

    participants: tuple[Participant, ...]

    def __post_init__(self) -> None:
        names = [participant.name for participant in self.participants]
        keys = {participant.masking_key for participant in self.participants}
        if len(names) < MINIMUM_ROSTER:
            raise RosterInvalidError(
                f"a protected sum has at least {MINIMUM_ROSTER} sites: of two, each learns the other's update"
            )
        if names != sorted(set(names)):
            raise RosterInvalidError("a roster's sites are sorted by name, each once")
        if len(keys) != len(names) or any(len(key) != KEY_BYTES for key in keys):
            raise RosterInvalidError("each site of a roster has a masking key of its own, of 32 bytes")

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(participant.name for participant in self.participants)

    @property
    def colluding(self) -> int:
        """c: how many sites may collude with the coordinator and learn nothing."""
        return colluding_of(len(self.participants))

    @property
    def threshold(self) -> int:
        """t: how many shares recover a secret, and how many sites must answer."""
        return threshold_of(len(self.participants))


def colluding_of(sites: int) -> int:
    return max(0, (sites - 1) // 3)


def threshold_of(sites: int) -> int:
    """The least t > (n + c)/2."""
    return (sites + colluding_of(sites)) // 2 + 1


def least_present(sites: int, *, minimum_sites: int) -> int:
    """The smallest set that may be opened: enough to recover secrets, what the plan asks, and two honest sites
    whatever the colluding ones subtract."""
    return max(threshold_of(sites), minimum_sites, colluding_of(sites) + 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class SumContext:
    """One step of one round. Sites that were handed different models or rosters derive different keys, so that their
    masks do not cancel."""

    origin: str
    study: str
    plan_digest: str
    round: int
    step: Step
    attempt: int
    scheme: str
    model_digest: str
    minimum_sites: int
    roster: Roster
    group: int = 0
    """Number of the cluster whose sum this is, where a plan sums by cluster."""

    def label(self, purpose: str) -> bytes:
        """What a key of this sum is derived for: SHA-256 of the context and the purpose, canonically encoded."""
        return hashlib.sha256(
            canonical.encode(
                {
                    "wardround": "sum-context/v1",
                    "purpose": purpose,
                    "origin": self.origin,
                    "study": self.study,
                    "plan": self.plan_digest,
                    "round": self.round,
                    "step": self.step,
                    "attempt": self.attempt,
                    "scheme": self.scheme,
                    "model": self.model_digest,
                    "group": self.group,
                    "roster": {one.name: one.masking_key.hex() for one in self.roster.participants},
                }
            )
        ).digest()

    @property
    def position(self) -> int:
        """Which step of the plan this is: how far the pair keys have moved on before it."""
        return 2 * (self.round - 1) + (1 if self.step == "evaluation" else 0)

    @property
    def least_present(self) -> int:
        return least_present(len(self.roster.participants), minimum_sites=self.minimum_sites)
