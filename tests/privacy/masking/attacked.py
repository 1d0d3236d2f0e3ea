"""A federation that reported in one masked sum, seen through: what its attackers and their victims hold."""

from __future__ import annotations

import numpy as np

from privacy.masked_sum import MaskedSum, ring_for
from privacy.masking import answer_part
from privacy.masking.closed_set import ClosedSet
from privacy.masking.derivation import derive
from privacy.masking.mask_secrets import AnswerKeys
from privacy.masking.ring import Residues
from privacy.masking.shamir import Recovery
from privacy.packing import Lanes, Packing
from privacy.protected_sum import Answer, Report
from privacy.sum_context import SumContext
from tests.privacy.masking.rosters import Sites, sites

PACKING = Packing(lane_bits=16, maximum_sites=10)
SIZE = 4096
HEADER_BYTES = 64


class Federation:
    """Sites that reported in one step, and all that each of them holds."""

    def __init__(self, count: int, *, context: SumContext | None = None, told: Sites | None = None) -> None:
        self.told = told or sites(count)
        self.context = context or self.told.context
        self.names = list(self.context.roster.names)
        generator = np.random.default_rng(7)
        limit = PACKING.site_limit
        self.lanes: dict[str, Lanes] = {
            name: generator.integers(-limit, limit + 1, SIZE, dtype=np.int32) for name in self.names
        }
        self.pair_secrets: dict[str, dict[str, bytes]] = {}
        self.kept: dict[str, AnswerKeys] = {}
        self.ends: dict[str, MaskedSum] = {}
        for name in self.names:
            secrets = self.told.secrets(name, context=self.context)
            # A look at what the site holds, for the attackers that took it over.
            self.pair_secrets[name] = dict(secrets._pair_secrets)
            self.kept[name] = secrets.answering()
            self.ends[name] = MaskedSum(self.context, PACKING, SIZE, secrets=secrets)
        self.reports = {name: self.ends[name].protect(self.lanes[name]) for name in self.names}

    def coordinator(self) -> MaskedSum:
        return MaskedSum(self.context, PACKING, SIZE)

    def again(self, name: str) -> MaskedSum:
        """An end that does not know what it answered before."""
        return MaskedSum(self.context, PACKING, SIZE, secrets=self.kept[name])

    def closed(self, names: list[str]) -> dict[str, Report]:
        return {name: self.reports[name] for name in names}

    def vector(self, name: str) -> Residues:
        return np.frombuffer(self.reports[name].update, dtype="<u2", offset=HEADER_BYTES).copy()

    def stream_key(self, kind: str, secret: bytes) -> bytes:
        binding = self.context.label("mask") + ring_for(PACKING).name.encode()
        return derive(secret, label=f"mask-{kind}", binding=binding)

    def without_pairs(self, vector: Residues, victim: str, peers: list[str]) -> Residues:
        """`vector` of the victim less its pair masks with these peers."""
        keys = {peer: self.stream_key("pair", self.pair_secrets[victim][peer]) for peer in peers}
        ring_for(PACKING).shift(
            vector,
            plus=[key for peer, key in keys.items() if peer < victim],
            minus=[key for peer, key in keys.items() if peer > victim],
        )
        return vector

    def seed(self, author: str, closed: list[str], answers: dict[str, Answer]) -> bytes:
        """The self seed that these answers give away."""
        shares = {name: self.reports[name].shares for name in closed}
        read = ClosedSet.read(self.context, shares)
        index = self.names.index(author)
        number = answer_part.openings(read).index((index, index))
        used = sorted(self.names.index(name) for name in answers)[: self.context.roster.threshold]
        given = [
            answer_part.read(self.context, read, answerer=at, data=answers[self.names[at]].unmask)[number]
            for at in used
        ]
        return Recovery(used, threshold=len(used)).recover(given)


def relabelled(report: Report, context: SumContext) -> Report:
    """What a coordinator makes of a report of another sum so that it looks like one of `context`."""
    update, shares = bytearray(report.update), bytearray(report.shares)
    update[32:64] = context.label("update")
    shares[12:44] = context.label("shares")
    return Report(update=bytes(update), shares=bytes(shares))


def centred(vector: Residues) -> Lanes:
    return ring_for(PACKING).centred(vector).astype(np.int32)


def looks_random(vector: Residues) -> bool:
    """Byte frequencies within six standard deviations of uniform."""
    counts = np.bincount(np.frombuffer(vector.tobytes(), dtype=np.uint8), minlength=256)
    expected = vector.nbytes / 256
    return bool(np.abs(counts - expected).max() < 6 * expected**0.5)
