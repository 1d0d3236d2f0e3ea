"""The protected sum of encrypted updates over masked slots: masks hide what holders of the study's key could read.

Lives here: one party's end of it. What is encrypted how is `privacy.homomorphic`, the bytes of an update
`privacy.ciphertext_frame`, slots `privacy.packing`, masks `privacy.masking`.

A site packs its lanes into slots, masks them modulo t (`PLAIN_MODULUS`) and encrypts. Each holder of the key adds up
the closed set's updates itself, never a sum that it was handed, and answers with what it decrypted: still masked, so
that it can be posted. f + 1 of them must post the same, then masks are taken away as in a masked sum, and the slots
must be what so many sites can add up to. To open takes no update and no key.

    Answer.part, integers little-endian
    offset  size
         0     4  magic "WRHP"
         4     1  version, 1
         5     3  zero
         8     8  slots: `Packing.slots_for` of the sum's lanes
        16    32  SumContext.label("part")
        48    32  SHA-256 over the closed set: each site's name and its report
        80        slots, 8 bytes each: the decrypted sum, residues from 0 to t - 1

What it protects. As long as one mask on an update stands, its slots are uniform in Z_t, whatever else is known: to
the coordinator with up to c sites, key holders among them, an update is what it is in a masked sum. For everybody
without the key encryption hides it a second time. What one hostile site sends can spoil the sum and shift it, within
its ranges, by a linear map of what it does not know; it isolates nobody, because the map acts on masked slots.
Unmasked (`masked=False`, scheme "homomorphic-unmasked") none of this holds: coordinator and one holder together read
every update, and one hostile site alone, that sees the others' ciphertexts first, can have the "sum" show one of
them. Only the lowest risk tier may use it.
"""

from __future__ import annotations

import hashlib
import struct
from collections import defaultdict
from collections.abc import Mapping
from typing import Final

import numpy as np

from ledger.errors import CodedError
from privacy import homomorphic
from privacy.ciphertext_frame import (
    MAXIMUM_LANES,
    PUBLIC_KEY,
    SEEDED,
    CiphertextFrame,
    CiphertextMalformedError,
)
from privacy.homomorphic import KeyMismatchError
from privacy.masking.mask_secrets import AnswerKeys, MaskSecrets
from privacy.masking.masking import Masking
from privacy.masking.ring import Prime
from privacy.packing import PLAIN_MODULUS, Lanes, Packing, PackingInvalidError, Slots
from privacy.protected_sum import (
    Answer,
    AnsweredError,
    Report,
    RoleError,
    SumRefusedError,
    SumUnopenedError,
)
from privacy.study_key import PublicContext, StudyKey
from privacy.sum_context import SumContext

_RING: Final = Prime(PLAIN_MODULUS)
_PART: Final = struct.Struct("<4sB3sQ32s32s")
_PART_MAGIC: Final = b"WRHP"
_PART_VERSION: Final = 1
_TAIL_BYTES: Final = 32
"""Of a ciphertext: the last coefficients of its random polynomial, or the end of the seed."""


class UpdateRefusedError(SumRefusedError):
    """Updates that cannot be added. `names`: whose they are."""

    code = "privacy.update-refused"

    def __init__(self, message: str, *, names: tuple[str, ...], diagnostics: str) -> None:
        super().__init__(message, remedy="Repeat the step without these sites.", diagnostics=diagnostics)
        self.names = names


class HomomorphicSum:
    """The `ProtectedSum` of this scheme. `name` makes it a site's end, `secrets` let it mask and answer, and `key`
    makes it a holder's; without any it is the coordinator's or an auditor's.

    `holders` are the sites of the roster that hold the key, of whom `openings_required` (f + 1) must find the same.
    """

    def __init__(
        self,
        context: SumContext,
        packing: Packing,
        lane_count: int,
        *,
        public: PublicContext,
        holders: tuple[str, ...],
        openings_required: int,
        name: str | None = None,
        key: StudyKey | None = None,
        secrets: MaskSecrets | AnswerKeys | None = None,
        masked: bool = True,
    ) -> None:
        names = context.roster.names
        if len(names) > packing.maximum_sites:
            raise PackingInvalidError(
                f"lanes with room for {packing.maximum_sites} sites do not add up {len(names)}"
            )
        if not 1 <= lane_count <= MAXIMUM_LANES:
            raise PackingInvalidError("a sum has 1 to 2^31 lanes")
        if not 1 <= openings_required <= len(set(holders) & set(names)):
            raise RoleError("fewer sites of this sum hold the key than must open it")
        if name is not None and name not in names:
            raise RoleError("only a site of the roster has an end of its own in this sum")
        if key is not None and name not in holders:
            raise RoleError("only a holder has the study's key")
        if key is not None and key.key_id != public.key_id:
            raise KeyMismatchError("the secret key does not belong to the public context")
        if secrets is not None and (not masked or secrets.name != name):
            raise RoleError("the masks are not those of this site in a masked sum")
        self._context = context
        self._packing = packing
        self._lane_count = lane_count
        self._public = public
        self._holders = tuple(dict.fromkeys(one for one in holders if one in names))
        self._openings_required = openings_required
        self._name = name
        self._key = key
        self._masking = Masking(context, _RING, secrets=secrets) if masked else None
        self._protected = False
        self._answered: tuple[bytes, Answer] | None = None

    @property
    def scheme(self) -> str:
        return "homomorphic-unmasked" if self._masking is None else "homomorphic"

    def protect(self, lanes: Lanes) -> Report:
        """(lane_count,) lanes within `Packing.site_limit` to a report, seeded where this site holds the key; once.

        Raises `LaneOverflowError` before anything is masked, `RoleError` without a site's secrets or the second time.
        """
        if self._name is None or self._protected:
            raise RoleError("only a site protects an update, and each of its updates in a sum of its own")
        if lanes.shape != (self._lane_count,):
            raise PackingInvalidError(f"this sum has {self._lane_count} lanes")
        slots = self._packing.pack(lanes)
        _RING.reduce(slots, out=slots)
        shares = b"" if self._masking is None else self._masking.mask(slots)
        self._protected = True
        frame = CiphertextFrame(
            form=PUBLIC_KEY if self._key is None else SEEDED,
            packing=self._packing,
            lane_count=self._lane_count,
            key_id=self._public.key_id,
            label=self._label_of(self._name),
            ciphertexts=homomorphic.encrypt(slots, self._public, key=self._key),
        )
        return Report(update=frame.to_bytes(), shares=shares)

    def check(self, site: str, report: Report) -> None:
        """Refuse what cannot be a report of `site` in this sum: it reads each ciphertext, and none of its slots.

        Raises `UpdateRefusedError`, or what `Masking.check` raises, with the site's name.
        """
        self._check_shares(site, report)
        try:
            homomorphic.check(self._read(site, report).ciphertexts, self._public)
        except CodedError as error:
            _refuse({site: error})

    def answer(self, closed: Mapping[str, Report]) -> Answer | None:
        """This site's shares for the closed set and, at a holder, the set's decrypted masked sum.

        Of a site without the key only the reports' shares are read; unmasked it has nothing to answer. Raises
        `UpdateRefusedError` naming whose updates cannot be added, `SumOutOfRangeError` for a sum that holds more than
        the announced lanes, what `Masking.answer` raises, and `AnsweredError` for another set than the first.
        """
        # 1. A set that may be opened, with this site in it.
        if self._name is None:
            raise RoleError("only a site answers")
        self._check_set(closed)
        if self._name not in closed:
            raise SumRefusedError("a site does not answer for a set that leaves it out")
        for site, report in closed.items():
            self._check_shares(site, report)
        # 2. The first one, or the same again.
        digest = self._digest_of(closed, whole=self._key is not None)
        if self._answered is not None:
            if self._answered[0] != digest:
                raise AnsweredError("this site has answered for another set of this step")
            return self._answered[1]
        # 3. The holder's sum before the shares: a set that cannot be added up is not answered for.
        part = b"" if self._key is None else self._part(closed, self._key, digest=digest)
        if self._masking is None:
            if not part:
                return None
            answer = Answer(part=part)
        else:
            shares = {site: report.shares for site, report in closed.items()}
            answer = Answer(unmask=self._masking.answer(shares), part=part)
        self._answered = digest, answer
        return answer

    def open(self, closed: Mapping[str, Report], answers: Mapping[str, Answer]) -> Lanes:
        """The (lane_count,) sum of the closed set's lanes; the updates themselves are not read and may be left out.

        Raises `SumUnopenedError` naming the holders whose parts are missing or differ, or the sites whose shares do;
        otherwise as `Masking.unmask`, and `SumOutOfRangeError` for what sites within their limits cannot add up to.
        """
        # 1. The set, and a sum that enough of its holders found.
        self._check_set(closed)
        slots = self._agreed(closed, answers)
        # 2. Without masks.
        if self._masking is not None:
            self._masking.unmask(
                slots,
                {site: report.shares for site, report in closed.items()},
                {site: answer.unmask for site, answer in answers.items()},
            )
        # 3. Within what so many sites can add up to.
        centred = _RING.centred(slots).astype(np.int64, copy=False)
        return self._packing.unpack(centred, lane_count=self._lane_count, sites=len(closed))

    def _check_set(self, closed: Mapping[str, Report]) -> None:
        strangers = sorted(closed.keys() - set(self._context.roster.names))
        if strangers:
            raise SumRefusedError(f"not in the roster: {', '.join(strangers)}")
        if len(closed) < self._context.least_present:
            raise SumRefusedError(
                f"{len(closed)} sites are fewer than the {self._context.least_present} whose sum may be opened"
            )

    def _check_shares(self, site: str, report: Report) -> None:
        if self._masking is not None:
            self._masking.check(site, report.shares)
        elif site not in self._context.roster.names or report.shares:
            raise SumRefusedError(f"not a site of this sum, or one with shares though it is unmasked: {site}")

    def _read(self, site: str, report: Report) -> CiphertextFrame:
        """The report's update, if its header is that of `site` in this sum."""
        frame = CiphertextFrame.from_bytes(report.update)
        if frame.key_id != self._public.key_id:
            raise KeyMismatchError("an update is encrypted under another study's key")
        if frame.lane_count != self._lane_count or frame.packing != self._packing:
            raise SumRefusedError("an update has another lane count or packing than the plan's")
        if frame.label != self._label_of(site):
            raise SumRefusedError("an update is of another sum or another site")
        return frame

    def _part(self, closed: Mapping[str, Report], key: StudyKey, *, digest: bytes) -> bytes:
        # 1. Every header, and no ciphertext twice: a copy would count its author's update double.
        frames: dict[str, CiphertextFrame] = {}
        refused: dict[str, CodedError] = {}
        seen: dict[bytes, str] = {}
        for site, report in sorted(closed.items()):
            try:
                frames[site] = self._read(site, report)
            except CodedError as error:
                refused[site] = error
                continue
            for ciphertext in frames[site].ciphertexts:
                other = seen.setdefault(bytes(ciphertext[-_TAIL_BYTES:]), site)
                if other != site:
                    refused[site] = SumRefusedError(f"an update holds a ciphertext of {other}")
        _refuse(refused)
        # 2. Their sum. Only if it fails each ciphertext is read by itself, to name whose it is.
        updates = [frame.ciphertexts for frame in frames.values()]
        try:
            slots = homomorphic.decrypt_sum(updates, key, slot_count=self._slot_count)
        except CiphertextMalformedError:
            for site, frame in frames.items():
                try:
                    homomorphic.check(frame.ciphertexts, self._public)
                except CiphertextMalformedError as error:
                    refused[site] = error
            _refuse(refused)
            raise
        return self._part_header(digest) + slots.astype("<i8", copy=False).tobytes()

    def _agreed(self, closed: Mapping[str, Report], answers: Mapping[str, Answer]) -> Slots:
        """The slots that enough holders decrypted alike. f holders may lie, so what f + 1 found is the sum."""
        found: defaultdict[bytes, list[str]] = defaultdict(list)
        asked = [name for name in self._holders if name in closed]
        for name in asked:
            if name in answers and self._is_part(answers[name].part):
                found[answers[name].part].append(name)
        enough = [part for part, names in found.items() if len(names) >= self._openings_required]
        if len(enough) != 1:
            agreeing = max(found.values(), key=len, default=[])
            lacking = tuple(
                name for name in asked if (len(found) > 1 and len(enough) > 1) or name not in agreeing
            )
            raise SumUnopenedError(
                f"{len(agreeing)} of the {self._openings_required} equal openings needed; missing or differing:"
                f" {', '.join(lacking)}",
                names=lacking,
            )
        return np.frombuffer(enough[0], dtype="<i8", offset=_PART.size).astype(np.int64)

    def _is_part(self, part: bytes) -> bool:
        if len(part) != part_bytes(self._packing, self._lane_count):
            return False
        header = _PART.unpack_from(part)
        if part[: _PART.size] != self._part_header(header[-1]):
            return False
        slots = np.frombuffer(part, dtype="<u8", offset=_PART.size)
        return int(slots.max()) < PLAIN_MODULUS

    def _part_header(self, digest: bytes) -> bytes:
        return _PART.pack(
            _PART_MAGIC, _PART_VERSION, b"", self._slot_count, self._context.label("part"), digest
        )

    def _digest_of(self, closed: Mapping[str, Report], *, whole: bool) -> bytes:
        """What an answer is for; of a holder's also the updates."""
        digest = hashlib.sha256(self._context.label("closed"))
        for site, report in sorted(closed.items()):
            parts = (site.encode(), report.shares, report.update if whole else b"")
            for part in parts:
                digest.update(hashlib.sha256(part).digest())
        return digest.digest()

    def _label_of(self, site: str) -> bytes:
        return self._context.label(f"update of {site}")

    @property
    def _slot_count(self) -> int:
        return self._packing.slots_for(self._lane_count)


def part_bytes(packing: Packing, lane_count: int) -> int:
    """How long a decrypted sum of so many lanes is."""
    return _PART.size + 8 * packing.slots_for(lane_count)


def _refuse(refused: Mapping[str, CodedError]) -> None:
    if refused:
        raise UpdateRefusedError(
            "; ".join(f"{site}: {error.public_message}" for site, error in refused.items()),
            names=tuple(refused),
            diagnostics="; ".join(f"{site}: {error.diagnostics()}" for site, error in refused.items()),
        )
