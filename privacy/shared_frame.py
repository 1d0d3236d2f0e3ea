"""The bytes of a shared sum: a site's report, an aggregator's part, and the labels that keep sums apart.

Lives here: aggregators, layouts, labels, commitments. No secret is drawn or opened here and nothing is added up;
`privacy.shared_sum` does that. Integers are little-endian, k aggregators are in order of name, a lane has w/8 bytes.

A report:

    offset  size
         0     4  magic "WRSH"
         4     1  version, 1
         5     1  w: 8, 16 or 32
         6     1  lane_bits           \\ the packing, see
         7     1  maximum_sites       / `privacy.packing`
         8     4  k, 2 or 3
        12     4  lane_count
        16    32  label of this site's report in this sum among these aggregators
        48   32k  commitments to the secrets: SHA-256(0x00 || label of the share || secret)
             85k  the secrets, 32 bytes each, sealed (`privacy.sealing`) with the label of the share as context
    48+117k    n  y (see `privacy.shared_sum`), n = lane_count w/8

Its header is bytes 0 to 48+117k. A part:

         0     4  magic "WRSP"
         4     1  version, 1
         5     1  w
         6     2  how many sites are in it
         8     4  zero
        12     4  lane_count
        16    32  label of this aggregator's part in this sum
        48    32  SHA-256 of the headers of the closed set's reports, in order of the sites' names
        80     n  the sum of this aggregator's streams

Nothing may follow either. Every field before the commitments, and a part's whole header, is the same for all honest
authors of that name: readers compare with what it must be and parse nothing.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Final, Literal

import numpy as np

from ledger import canonical
from ledger.errors import InputError
from privacy.masking.ring import PowerOfTwo, Residues
from privacy.packing import Packing
from privacy.protected_sum import Answer, Report, SumRefusedError
from privacy.sum_context import KEY_BYTES, SumContext

MAXIMUM_LANES: Final = 1 << 31
SECRET_BYTES: Final = 32
SEALED_BYTES: Final = SECRET_BYTES + 53
_DIGEST_BYTES: Final = 32
_VERSION: Final = 1
_REPORT: Final = struct.Struct("<4sBBBBII32s")
_PART: Final = struct.Struct("<4sBBHII32s32s")


class AggregatorsInvalidError(InputError):
    code = "privacy.aggregators-invalid"


@dataclass(frozen=True, slots=True, kw_only=True)
class Aggregator:
    """A site that holds shares, and the X25519 sealing key (raw, 32 bytes) that it announced for this plan."""

    name: str
    sealing_key: bytes


@dataclass(frozen=True, kw_only=True)
class SharedFrame:
    """The layout of one sum's messages. Raises `AggregatorsInvalidError` unless there are two or three different
    aggregators, sites of the roster, sorted by name; `SumRefusedError` for lanes that no sum has."""

    context: SumContext
    packing: Packing
    lane_count: int
    aggregators: tuple[Aggregator, ...]

    def __post_init__(self) -> None:
        names, keys = self.names, {one.sealing_key for one in self.aggregators}
        if not 2 <= len(names) <= 3:
            raise AggregatorsInvalidError("a shared sum has two or three aggregators")
        if list(names) != sorted(set(names)) or not set(names) <= set(self.context.roster.names):
            raise AggregatorsInvalidError("aggregators are sites of the roster, sorted by name, each once")
        if len(keys) != len(names) or any(len(key) != KEY_BYTES for key in keys):
            raise AggregatorsInvalidError("each aggregator has a sealing key of its own, of 32 bytes")
        if not 1 <= self.lane_count <= MAXIMUM_LANES:
            raise SumRefusedError(f"a sum has 1 to {MAXIMUM_LANES} lanes")
        if len(self.context.roster.names) > self.packing.maximum_sites:
            raise SumRefusedError("the lanes have no room for all sites of the roster")

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(one.name for one in self.aggregators)

    @property
    def ring(self) -> PowerOfTwo:
        """The smallest of the three rings that holds a lane."""
        return _ring_of(self.packing)

    @property
    def header_bytes(self) -> int:
        return _header_bytes(len(self.aggregators))

    @property
    def vector_bytes(self) -> int:
        return _vector_bytes(self.packing, self.lane_count)

    def report(self, site: str, *, commitments: list[bytes], sealed: list[bytes], vector: Residues) -> Report:
        return Report(update=b"".join((self._fixed(site), *commitments, *sealed, vector.data.cast("B"))))

    def check_report(self, site: str, report: Report) -> None:
        """Raises `SumRefusedError` for what cannot be a report of `site` in this sum; reads no vector."""
        # 1. The site may report, and its report has the length of every report in this sum.
        if site not in self.context.roster.names:
            raise SumRefusedError(f"the report of {site} is not of a site of the roster")
        if report.shares or len(report.update) != self.header_bytes + self.vector_bytes:
            raise SumRefusedError(f"the report of {site} has not the length of a report in this sum")
        # 2. What all its reports begin with: format, packing, context, aggregators, author.
        if report.update[: _REPORT.size] != self._fixed(site):
            raise SumRefusedError(f"the report of {site} is of another sum, or is not a report")

    def committed(self, report: Report, aggregator: str) -> bytes:
        start = _REPORT.size + _DIGEST_BYTES * self.names.index(aggregator)
        return report.update[start : start + _DIGEST_BYTES]

    def sealed(self, report: Report, aggregator: str) -> bytes:
        start = _REPORT.size + _DIGEST_BYTES * len(self.names) + SEALED_BYTES * self.names.index(aggregator)
        return report.update[start : start + SEALED_BYTES]

    def vector_of_report(self, report: Report) -> Residues:
        return self._vector(report.update, self.header_bytes)

    def part(self, aggregator: str, closed: Mapping[str, Report], *, vector: Residues) -> Answer:
        return Answer(part=b"".join((self._part_header(aggregator, closed), vector.data.cast("B"))))

    def is_part(self, aggregator: str, closed: Mapping[str, Report], *, answer: Answer) -> bool:
        """Whether it can be the aggregator's part of this set; reads no vector."""
        return (
            not answer.unmask
            and len(answer.part) == part_bytes(self.packing, self.lane_count)
            and answer.part[: _PART.size] == self._part_header(aggregator, closed)
        )

    def vector_of_part(self, answer: Answer) -> Residues:
        return self._vector(answer.part, _PART.size)

    def set_digest(self, closed: Mapping[str, Report]) -> bytes:
        """Names the set, and in it everything that parts depend on."""
        digest = hashlib.sha256()
        for site in sorted(closed):
            digest.update(closed[site].update[: self.header_bytes])
        return digest.digest()

    def share_label(self, site: str, aggregator: str) -> bytes:
        return self._label("share", site, aggregator)

    def _fixed(self, site: str) -> bytes:
        return _REPORT.pack(
            b"WRSH", _VERSION, self.ring.bits, self.packing.lane_bits, self.packing.maximum_sites,
            len(self.aggregators), self.lane_count, self._label("report", site),
        )  # fmt: skip

    def _part_header(self, aggregator: str, closed: Mapping[str, Report]) -> bytes:
        return _PART.pack(
            b"WRSP", _VERSION, self.ring.bits, len(closed), 0, self.lane_count,
            self._label("part", aggregator), self.set_digest(closed),
        )  # fmt: skip

    def _vector(self, frame: bytes, offset: int) -> Residues:
        vector: Residues = np.frombuffer(frame, dtype=np.uint8, offset=offset).view(self.ring.dtype)
        return vector

    @cached_property
    def _sum_label(self) -> bytes:
        """SHA-256 of the sum's context, its packing and its aggregators."""
        return hashlib.sha256(
            canonical.encode(
                {
                    "wardround": "shared-sum/v1",
                    "context": self.context.label("shared-sum").hex(),
                    "packing": [self.packing.lane_bits, self.packing.maximum_sites],
                    "lanes": self.lane_count,
                    "aggregators": {one.name: one.sealing_key.hex() for one in self.aggregators},
                }
            )
        ).digest()

    def _label(self, *purpose: str) -> bytes:
        return hashlib.sha256(self._sum_label + canonical.encode(list(purpose))).digest()


def report_bytes(packing: Packing, lane_count: int, *, aggregators: int) -> int:
    """How long a report of so many lanes to so many aggregators is."""
    return _header_bytes(aggregators) + _vector_bytes(packing, lane_count)


def part_bytes(packing: Packing, lane_count: int) -> int:
    """How long an aggregator's part is."""
    return _PART.size + _vector_bytes(packing, lane_count)


def _header_bytes(aggregators: int) -> int:
    return _REPORT.size + aggregators * (_DIGEST_BYTES + SEALED_BYTES)


def _vector_bytes(packing: Packing, lane_count: int) -> int:
    return lane_count * _ring_of(packing).bits // 8


def _ring_of(packing: Packing) -> PowerOfTwo:
    bits: Literal[8, 16, 32] = 8 if packing.lane_bits <= 8 else 16
    return PowerOfTwo(bits if packing.lane_bits <= 16 else 32)


def commitment(label: bytes, secret: bytes) -> bytes:
    """Binds to the secret, and hides it because it is uniform."""
    return hashlib.sha256(b"\x00" + label + secret).digest()


def stream_key(label: bytes, secret: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + label + secret).digest()
