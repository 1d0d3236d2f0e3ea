"""The set of sites whose sum is opened, checked as a whole before anything is given away for it.

Lives here: what must hold of the set and between its shares parts, for the sites that answer as for the coordinator
that opens. Whether the set is the final one of the ledger is not known here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from privacy.masking import shares_part
from privacy.masking.derivation import PREFIX, sum_label
from privacy.masking.shares_part import SharesPart
from privacy.protected_sum import SumRefusedError
from privacy.sum_context import SumContext


class ContradictionError(SumRefusedError):
    """Two sites do not hold the same secret: they were handed different models or keys, or one of them lies."""

    code = "privacy.pair-contradiction"

    def __init__(self, message: str, *, names: tuple[str, ...]) -> None:
        super().__init__(message)
        self.names = names


@dataclass(frozen=True, slots=True, kw_only=True)
class ClosedSet:
    """A set that passed. `present` and `gone` are roster indices, and part the roster between them."""

    parts: Mapping[int, SharesPart]
    present: tuple[int, ...]
    gone: tuple[int, ...]
    digest: bytes
    """SHA-256 of the sum's label and of who is in the set, with which shares: what an answer is for."""

    @classmethod
    def read(cls, context: SumContext, closed: Mapping[str, bytes]) -> ClosedSet:
        """Check `closed`, shares parts by site. Collects what is wrong; raises the error of the first, with all."""
        names = context.roster.names
        refused: list[SumRefusedError] = []
        # 1. Sites of the roster, and enough of them.
        strangers = sorted(closed.keys() - set(names))
        if strangers:
            refused.append(SumRefusedError(f"not in the roster: {', '.join(strangers)}"))
        present = tuple(index for index, name in enumerate(names) if name in closed)
        gone = tuple(index for index, name in enumerate(names) if name not in closed)
        if len(present) < context.least_present:
            missing = ", ".join(names[index] for index in gone)
            refused.append(
                SumRefusedError(
                    f"{len(present)} sites are fewer than the {context.least_present} whose sum may be opened;"
                    f" missing: {missing}"
                )
            )
        # 2. Each part well-formed, its author's and of this sum.
        parts: dict[int, SharesPart] = {}
        for index in present:
            try:
                parts[index] = shares_part.read(context, author=names[index], data=closed[names[index]])
            except SumRefusedError as error:
                refused.append(error)
        # 3. Both ends of each pair committed to the same secret.
        for first, part in parts.items():
            for second, other in parts.items():
                if first < second and part.commitment(second) != other.commitment(first):
                    pair = (names[first], names[second])
                    refused.append(
                        ContradictionError(
                            f"{pair[0]} and {pair[1]} derived different secrets: they were handed different models"
                            " or keys, or one of them lies",
                            names=pair,
                        )
                    )
        _raise(refused)
        digest = hashlib.sha256(PREFIX + b"closed\x00" + sum_label(context, "closed"))
        for index, part in parts.items():
            digest.update(index.to_bytes(2, "little") + hashlib.sha256(part.data).digest())
        return cls(parts=parts, present=present, gone=gone, digest=digest.digest())


def accused(context: SumContext, shares: Mapping[str, bytes]) -> tuple[str, ...]:
    """Whose reports contradict the others', by name, before anything is closed; well-formed shares parts by site.

    Honest sites contradict colluding ones alone, of which there are at most c: who contradicts more than c others is
    one of these. Where nobody does, both ends of a contradicting pair are named, since either may have lied.
    """
    names = context.roster.names
    parts = {
        names.index(site): shares_part.read(context, author=site, data=data) for site, data in shares.items()
    }
    against: dict[int, set[int]] = {index: set() for index in parts}
    for first, part in parts.items():
        for second, other in parts.items():
            if first < second and part.commitment(second) != other.commitment(first):
                against[first].add(second)
                against[second].add(first)
    guilty = {index for index, others in against.items() if len(others) > context.roster.colluding}
    named = guilty | {index for index, others in against.items() if others - guilty and index not in guilty}
    return tuple(names[index] for index in sorted(named))


def _raise(refused: list[SumRefusedError]) -> None:
    if not refused:
        return
    message = "; ".join(dict.fromkeys(error.public_message for error in refused))
    first = refused[0]
    contradictions = [error for error in refused if isinstance(error, ContradictionError)]
    if isinstance(first, ContradictionError):
        names = dict.fromkeys(name for error in contradictions for name in error.names)
        raise ContradictionError(message, names=tuple(names))
    raise type(first)(message)
