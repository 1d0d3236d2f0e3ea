"""The default protected sum: masked lanes, added in the clear, unmasked once the set is closed.

Lives here: the frame of an update, and lanes in the ring of the least width that holds them. Masks, shares and
answers are `privacy.masking`. Integers are little-endian.

    offset       size
         0          4  magic "WRMU"
         4          2  version, 1
         6          1  w, bits of the ring: the least of 8, 16, 32 that holds lane_bits
         7          1  lane_bits           \\ the packing, see
         8          2  maximum_sites       / `privacy.packing`
        10          6  zero
        16          8  lane_count
        24          8  zero
        32         32  SumContext.label("update")
        64   w/8 * lane_count  the lanes modulo 2^w, masked

Why the sum is exact. A site's lane is refused beyond `Packing.site_limit`, so that the sum of at most maximum_sites
lanes fits lane_bits, signed, and is the only number so small that is congruent to the opened residue. A hostile site
can put in more; what comes out beyond the limit of the sites in the set is refused, never wrapped.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from io import BytesIO
from typing import Final, Literal

import numpy as np

from privacy.masking.keystream import CHUNK_BYTES
from privacy.masking.mask_secrets import AnswerKeys, MaskSecrets
from privacy.masking.masking import Masking
from privacy.masking.ring import PowerOfTwo, Residues
from privacy.masking.shares_part import OtherContextError
from privacy.packing import LaneOverflowError, Lanes, Packing, PackingInvalidError, SumOutOfRangeError
from privacy.protected_sum import Answer, Report, SumRefusedError
from privacy.sum_context import SumContext

_HEADER: Final = struct.Struct("<4sHBBH6xQ8x32s")
_MAGIC: Final = b"WRMU"
_VERSION: Final = 1
MAXIMUM_LANES: Final = 1 << 31


class MaskedUpdateError(SumRefusedError):
    """Bytes that are no masked update, or one of other lanes."""

    code = "privacy.masked-update"


class MaskedSum:
    """One party's end of a masked sum; see `privacy.protected_sum.ProtectedSum`."""

    def __init__(
        self,
        context: SumContext,
        packing: Packing,
        lane_count: int,
        *,
        secrets: MaskSecrets | AnswerKeys | None = None,
    ) -> None:
        """`secrets`: a site's for this step, its `AnswerKeys` where it only answers, None to check and open."""
        sites = len(context.roster.participants)
        if sites > packing.maximum_sites:
            raise PackingInvalidError(
                f"lanes with room for {packing.maximum_sites} sites do not add up {sites}"
            )
        if not 1 <= lane_count <= MAXIMUM_LANES:
            raise PackingInvalidError("a sum has 1 to 2^31 lanes")
        self._packing = packing
        self._lane_count = lane_count
        self._ring = ring_for(packing)
        self._masking = Masking(context, self._ring, secrets=secrets)
        self._header = _HEADER.pack(
            _MAGIC, _VERSION, self._ring.bits, packing.lane_bits, packing.maximum_sites, lane_count,
            context.label("update"),
        )  # fmt: skip

    @property
    def scheme(self) -> str:
        return "masked"

    @property
    def update_bytes(self) -> int:
        """How long an update is: header and lanes."""
        return update_bytes(self._packing, self._lane_count)

    @property
    def faulty(self) -> tuple[str, ...]:
        """Whose answers the last `open` left out because they did not fit, by name."""
        return self._masking.faulty

    def protect(self, lanes: Lanes) -> Report:
        """(lane_count,) lanes within `Packing.site_limit` to a report; once.

        Beside the lanes it takes the memory of the update alone, where the lanes are masked in place. Raises
        `LaneOverflowError` before anything is masked, `RoleError` without secrets or the second time.
        """
        self._packing.check(lanes)
        if len(lanes) != self._lane_count:
            raise PackingInvalidError(f"this sum has {self._lane_count} lanes")
        # `BytesIO` gives its bytes away as they lie there: no second copy, where `bytes(bytearray)` makes one.
        frame = BytesIO(bytes(self.update_bytes))
        with frame.getbuffer() as view:
            view[: _HEADER.size] = self._header
            values = self._ring.view(view, offset=_HEADER.size)
            try:
                self._ring.reduce(lanes, out=values)
                shares = self._masking.mask(values)
            finally:
                del values
        return Report(update=frame.getvalue(), shares=shares)

    def check(self, site: str, report: Report) -> None:
        """Refuse what cannot be a report of `site` in this sum; of the update it reads the header and the length."""
        self._masking.check(site, report.shares)
        self._check_update(site, report.update)

    def answer(self, closed: Mapping[str, Report]) -> Answer:
        """This site's shares for the closed set. Only the reports' shares are read; their updates may be left out."""
        return Answer(unmask=self._masking.answer({site: report.shares for site, report in closed.items()}))

    def open(self, closed: Mapping[str, Report], answers: Mapping[str, Answer]) -> Lanes:
        """The (lane_count,) sum. Beside the reports it takes the memory of one sum in the ring, and of one in lanes
        where those are wider.

        Raises `SumRefusedError`, `SumUnopenedError`, `BadShareError` as `Masking.unmask` does, and
        `SumOutOfRangeError` for a sum that sites that kept to their limit cannot have.
        """
        # 1. Every update of this sum.
        wrong: list[SumRefusedError] = []
        for site, report in sorted(closed.items()):
            try:
                self._check_update(site, report.update)
            except SumRefusedError as error:
                wrong.append(error)
        if wrong:
            raise type(wrong[0])("; ".join(error.public_message for error in wrong))
        # 2. Added, and unmasked.
        total = self._total([report.update for report in closed.values()])
        self._masking.unmask(
            total,
            {site: report.shares for site, report in closed.items()},
            # A part belongs to other schemes: an answer that brings one is none of this sum.
            {site: b"" if answer.part else answer.unmask for site, answer in answers.items()},
        )
        # 3. Within what so many sites can add up to.
        lanes = self._ring.centred(total).astype(np.int32, copy=False)
        try:
            self._packing.check(lanes, sites=len(closed))
        except LaneOverflowError:
            raise SumOutOfRangeError(
                "the opened sum is larger than these sites can add up to: one of them put in more than it may, or"
                " hid other secrets than it used"
            ) from None
        return lanes

    def _check_update(self, site: str, update: bytes) -> None:
        if len(update) != self.update_bytes:
            raise MaskedUpdateError(f"the update of {site} is not {self.update_bytes} bytes")
        header = update[: _HEADER.size]
        if header[:32] != self._header[:32]:
            raise MaskedUpdateError(f"the update of {site} is not one of these lanes")
        if header != self._header:
            raise OtherContextError(
                f"the update of {site} belongs to another round, model, roster or attempt"
            )

    def _total(self, updates: list[bytes]) -> Residues:
        rows = [self._ring.view(update, offset=_HEADER.size) for update in updates]
        total: Residues = np.zeros(self._lane_count, dtype=self._ring.dtype)
        step = CHUNK_BYTES // total.itemsize
        for start in range(0, self._lane_count, step):
            part = total[start : start + step]
            for row in rows:
                np.add(part, row[start : start + step], out=part)
        return total


def update_bytes(packing: Packing, lane_count: int) -> int:
    """How long an update of so many lanes is."""
    return _HEADER.size + lane_count * ring_for(packing).dtype.itemsize


def ring_for(packing: Packing) -> PowerOfTwo:
    """The ring of the least width that holds a signed lane of this packing."""
    widths: tuple[Literal[8, 16, 32], ...] = (8, 16, 32)
    return PowerOfTwo(next(bits for bits in widths if bits >= packing.lane_bits))
