"""How long the messages of a protected sum can be: what a reader holds a file against before it reads it.

All lengths follow from the scheme, the lanes and the roster, and so from what is final on the ledger. A hostile site
names any object it likes in its receipt: whoever loaded it without a limit would run out of memory. Within the limit
every message is still checked byte by byte, by its scheme; no bytes are read here.
"""

from __future__ import annotations

from dataclasses import dataclass

from privacy import ciphertext_frame, homomorphic_sum, masked_sum, shared_frame
from privacy.masking import answer_part, shares_part
from privacy.packing import Packing


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageSizes:
    """Bytes at most, of the parts of `protected_sum.Report` and `Answer`; 0 of what a scheme does not have."""

    update: int
    shares: int
    unmask: int
    part: int


def message_sizes(
    scheme: str, packing: Packing, lane_count: int, *, sites: int, aggregators: int = 0
) -> MessageSizes:
    """Of one sum of `lane_count` lanes among `sites` of a roster. `aggregators`: of scheme `shared` alone."""
    if scheme == "shared":
        return MessageSizes(
            update=shared_frame.report_bytes(packing, lane_count, aggregators=aggregators),
            shares=0,
            unmask=0,
            part=shared_frame.part_bytes(packing, lane_count),
        )
    masks = scheme != "homomorphic-unmasked"
    encrypted = scheme != "masked"
    return MessageSizes(
        update=ciphertext_frame.most_bytes(packing, lane_count=lane_count)
        if encrypted
        else masked_sum.update_bytes(packing, lane_count),
        shares=shares_part.shares_bytes(sites) if masks else 0,
        unmask=answer_part.most_bytes(sites) if masks else 0,
        part=homomorphic_sum.part_bytes(packing, lane_count) if encrypted else 0,
    )
