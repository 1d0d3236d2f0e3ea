"""The sum of updates whose masks two or three aggregators hold: one message a site, and dropouts cost nothing.

Lives here: splitting lanes among aggregators, each aggregator's part, opening the sum from all parts, and counting a
disputed part again. The bytes are `privacy.shared_frame`, rings and streams `privacy.masking`. No mask that cancels
against another site's lives here.

For k aggregators and lanes x in Z_2^w (w = 8, 16 or 32, the least that holds a lane), a site draws k secrets of 32
bytes, seals one to each aggregator, and sends them with

    y = x - stream_1 - ... - stream_k   modulo 2^w

where stream_j is `privacy.masking.keystream` under a key from secret j. Aggregator j adds up stream_j of exactly the
sites in the closed set; the sum of all y and of all k parts is the sum of x. This is additive secret sharing with all
shares but one compressed to seeds (Corrigan-Gibbs and Boneh 2017, "Prio", PRG secret sharing): the last share is
y + stream_k, and y is its encryption by addition. So no aggregator reads more of a report than its header.

What it protects. Without one aggregator's secret, y and the other streams are uniform, whatever x is: k - 1
aggregators together with the coordinator and c other sites learn the sum of the other sites, and no more.
What it does not. All k aggregators together read every update. An aggregator that answers with a false part shifts
the sum by what it likes, noticed by nothing but the ranges of lanes and the gate on the sum's norm; its signature
binds it to the part. Reports commit to the secrets, so that the lie can be shown: from what that aggregator discloses
(`disclose`), anybody computes the part that it owed (`recount`). Never do all aggregators disclose. An aggregator
that calls a good share bad (`SharesRefusedError`) stops the step as surely as by silence, and is as little believed.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from privacy.masking.ring import Residues
from privacy.packing import LaneOverflowError, Lanes, Packing, PackingInvalidError, SumOutOfRangeError
from privacy.protected_sum import (
    Answer,
    AnsweredError,
    Report,
    RoleError,
    SumRefusedError,
    SumUnopenedError,
)
from privacy.sealing import SealedInvalidError, SealingKey, SealingKeyInvalidError, seal
from privacy.shared_frame import (
    SECRET_BYTES,
    Aggregator,
    AggregatorsInvalidError,
    SharedFrame,
    commitment,
    stream_key,
)
from privacy.sum_context import SumContext

__all__ = ["Aggregator", "AggregatorsInvalidError", "SharedSum", "SharesRefusedError"]


class SharesRefusedError(SumRefusedError):
    """Secrets that do not open, or are not what their reports commit to. `names`: whose reports these are."""

    code = "privacy.shares-refused"

    def __init__(self, message: str, *, names: tuple[str, ...]) -> None:
        super().__init__(message, remedy="Repeat the step without these sites.")
        self.names = names


class SharedSum:
    """The `ProtectedSum` of this scheme. `name` makes it a site's end and `key` an aggregator's; without either it is
    the coordinator's or an auditor's. Every aggregator must answer. `protected`: a process that ended has built this
    site's report, which is sent again as it is; this end only answers.

    Raises `AggregatorsInvalidError` unless there are two or three different aggregators, sites of the roster, sorted
    by name, and `RoleError` for a name or a key that is none of theirs.
    """

    scheme: Final = "shared"

    def __init__(
        self,
        context: SumContext,
        packing: Packing,
        lane_count: int,
        *,
        aggregators: tuple[Aggregator, ...],
        name: str | None = None,
        key: SealingKey | None = None,
        protected: bool = False,
    ) -> None:
        self._frame = SharedFrame(
            context=context, packing=packing, lane_count=lane_count, aggregators=aggregators
        )
        if name is not None and name not in context.roster.names:
            raise RoleError("only a site of the roster has an end of its own in this sum")
        if key is not None and Aggregator(name=name or "", sealing_key=key.public_bytes()) not in aggregators:
            raise RoleError("the sealing key is not the one that this site announced as an aggregator")
        self.name = name
        self._key = key
        self._protected = protected
        self._answered: bytes | None = None

    @property
    def aggregators(self) -> tuple[str, ...]:
        """The names of those whose answers the sum is opened from: all of them."""
        return self._frame.names

    def protect(self, lanes: Lanes) -> Report:
        """(lane_count,) lanes of this site, each within `packing.site_limit`, to its report; once.

        Raises `LaneOverflowError` for lanes that do not fit, `PackingInvalidError` for another number or
        kind of them, `RoleError` where no site is and for a second call.
        """
        frame = self._frame
        if self.name is None or self._protected:
            raise RoleError("only a site protects an update, and each of its updates in a sum of its own")
        frame.packing.check(lanes)
        if len(lanes) != frame.lane_count:
            raise PackingInvalidError(f"this sum has {frame.lane_count} lanes")
        commitments, sealed, keys = [], [], []
        for aggregator in frame.aggregators:
            label = frame.share_label(self.name, aggregator.name)
            secret = secrets.token_bytes(SECRET_BYTES)
            commitments.append(commitment(label, secret))
            try:
                sealed.append(seal(aggregator.sealing_key, secret, context=label))
            except SealingKeyInvalidError:
                raise AggregatorsInvalidError(f"the sealing key of {aggregator.name} is unusable") from None
            keys.append(stream_key(label, secret))
        vector: Residues = np.empty(frame.lane_count, dtype=frame.ring.dtype)
        frame.ring.reduce(lanes, out=vector)
        frame.ring.shift(vector, plus=(), minus=keys)
        self._protected = True
        return frame.report(self.name, commitments=commitments, sealed=sealed, vector=vector)

    def check(self, site: str, report: Report) -> None:
        """Raises `SumRefusedError` for what cannot be a report of `site` in this sum; reads no update."""
        self._frame.check_report(site, report)

    def answer(self, closed: Mapping[str, Report]) -> Answer | None:
        """An aggregator's part of the closed set's sum, once; None of a site that is no aggregator.

        Raises `SumRefusedError` for a set that omits this site, is too small or holds foreign reports,
        `SharesRefusedError`, naming all of them, for sites whose shares are unusable, `AnsweredError` for another set
        than was answered, and `RoleError` for the coordinator and for an aggregator without its key.
        """
        if self.name is None:
            raise RoleError("only a site answers")
        # 1. The set.
        self._check_set(closed)
        if self.name not in closed:
            raise SumRefusedError("the set to open omits this site")
        if self.name not in self._frame.names:
            return None
        # 2. Not asked before, or asked for the same: two parts of unlike sets differ by single sites' streams.
        named = self._frame.set_digest(closed)
        if self._answered not in (None, named):
            raise AnsweredError("this site has answered for another set of reports")
        # 3. Every share opens and is the one committed to; only then does anything leave.
        part = self._part(self.name, closed, self._open_secrets(closed))
        self._answered = named
        return part

    def open(self, closed: Mapping[str, Report], answers: Mapping[str, Answer]) -> Lanes:
        """The (lane_count,) sum of the closed set's lanes, from the parts of all aggregators; other answers are
        left aside. Raises `SumRefusedError` for a set that may not be opened, `SumUnopenedError` naming every
        aggregator whose part is missing or foreign, `SumOutOfRangeError` for what no honest lanes add up to.
        """
        frame = self._frame
        # 1. The set, and one fitting part of each aggregator.
        self._check_set(closed)
        missing = tuple(
            name
            for name in frame.names
            if name not in answers or not frame.is_part(name, closed, answer=answers[name])
        )
        if missing:
            raise SumUnopenedError(f"no fitting part of {', '.join(missing)}", names=missing)
        # 2. All updates and all parts.
        total: Residues = np.zeros(frame.lane_count, dtype=frame.ring.dtype)
        for report in closed.values():
            frame.ring.add(total, frame.vector_of_report(report))
        for name in frame.names:
            frame.ring.add(total, frame.vector_of_part(answers[name]))
        # 3. What so many honest sites can add up to.
        lanes = frame.ring.centred(total).astype(np.int32, copy=False)
        try:
            frame.packing.check(lanes, sites=len(closed))
        except LaneOverflowError:
            raise SumOutOfRangeError(
                "the opened sum is not one of this many sites",
                remedy="A site or an aggregator lied, or the reports were changed after they were signed.",
            ) from None
        return lanes

    def disclose(self, closed: Mapping[str, Report]) -> bytes:
        """This aggregator's secrets for the set that it answered for, 32 bytes a site in order of name: for an
        auditor who disputes its part, and for nobody who has the secrets of all other aggregators."""
        self._check_set(closed)
        if self._answered is None or self._frame.set_digest(closed) != self._answered:
            raise SumRefusedError("secrets are disclosed only for the set that was answered for")
        return b"".join(self._open_secrets(closed))

    def recount(self, aggregator: str, closed: Mapping[str, Report], disclosed: bytes) -> Answer:
        """The answer that `aggregator` owed for the closed set, from what it disclosed.

        Raises `SharesRefusedError`, naming sites, where that is not what their reports commit to.
        """
        self._check_set(closed)
        if aggregator not in self._frame.names:
            raise SumRefusedError("only an aggregator's part is counted again")
        if len(disclosed) != SECRET_BYTES * len(closed):
            raise SumRefusedError("what was disclosed is not one secret a site")
        found = [disclosed[at : at + SECRET_BYTES] for at in range(0, len(disclosed), SECRET_BYTES)]
        wrong = tuple(
            site
            for site, secret in zip(sorted(closed), found, strict=True)
            if not self._committed(site, aggregator, closed[site], secret)
        )
        if wrong:
            raise SharesRefusedError(
                f"these are not the secrets that {', '.join(wrong)} sealed to {aggregator}", names=wrong
            )
        return self._part(aggregator, closed, found)

    def _check_set(self, closed: Mapping[str, Report]) -> None:
        least = self._frame.context.least_present
        if len(closed) < least:
            raise SumRefusedError(f"a set of fewer than {least} sites is not opened")
        for site in sorted(closed):
            self.check(site, closed[site])

    def _open_secrets(self, closed: Mapping[str, Report]) -> list[bytes]:
        """The secrets sealed to this aggregator, in order of the sites' names."""
        if self._key is None or self.name is None:
            raise RoleError("this end of the sum has no aggregator's sealing key")
        opened, bad = [], []
        for site in sorted(closed):
            try:
                secret = self._key.open(
                    self._frame.sealed(closed[site], self.name),
                    context=self._frame.share_label(site, self.name),
                )
            except SealedInvalidError:
                bad.append(site)
                continue
            if not self._committed(site, self.name, closed[site], secret):
                bad.append(site)
            opened.append(secret)
        if bad:
            raise SharesRefusedError(
                f"the shares of {', '.join(bad)} do not open or are not what was committed to",
                names=tuple(bad),
            )
        return opened

    def _committed(self, site: str, aggregator: str, report: Report, secret: bytes) -> bool:
        label = self._frame.share_label(site, aggregator)
        return self._frame.committed(report, aggregator) == commitment(label, secret)

    def _part(self, aggregator: str, closed: Mapping[str, Report], found: Sequence[bytes]) -> Answer:
        """The answer of `aggregator`, from the secrets in order of the sites' names."""
        frame = self._frame
        total: Residues = np.zeros(frame.lane_count, dtype=frame.ring.dtype)
        keys = [
            stream_key(frame.share_label(site, aggregator), secret)
            for site, secret in zip(sorted(closed), found, strict=True)
        ]
        frame.ring.shift(total, plus=keys, minus=())
        return frame.part(aggregator, closed, vector=total)
