"""What every scheme that hides updates inside a sum can do. Schemes live in modules of their own.

One object is one party's end of one sum: one step of one round, whose `SumContext` every key is bound to. Integer
lanes go in, the exact sum of the closed set's lanes comes out, and no scheme saturates or wraps: what does not fit
is refused. Two messages: each site *reports*; once the set that counts is closed, sites *answer* for that set alone.
Whoever has the reports and the answers opens the sum, and nothing smaller.

Encoding floats is not a scheme's business (`privacy.encoding`), nor is signing, nor finding out which set is closed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from ledger.errors import CodedError, InputError
from privacy.packing import Lanes


class SumRefusedError(InputError):
    """Updates that must not be added, a set that must not be opened, or a message that is not one of this sum."""

    code = "privacy.sum-refused"


class AnsweredError(InputError):
    """A site answers once, for one set."""

    code = "privacy.sum-answered"


class RoleError(InputError):
    """This end of the sum does not hold the secrets that were asked for."""

    code = "privacy.sum-role"


class SumUnopenedError(CodedError):
    """Too few usable answers. `names` are those whose messages were missing or did not fit."""

    code = "privacy.sum-unopened"

    def __init__(self, message: str, *, names: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.names = names


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A site's first message. `update` is as long as the sum; `shares` what others need to finish without the site,
    empty where a scheme has none."""

    update: bytes
    shares: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A site's second message. `unmask`: shares that remove masks; `part`: a partial sum or a decrypted one, as long
    as the sum. Each is empty where the scheme has none."""

    unmask: bytes = b""
    part: bytes = b""


class ProtectedSum(Protocol):
    """One party's end of one sum, under one scheme."""

    @property
    def scheme(self) -> str:
        """The word by which a plan picks it."""

    def protect(self, lanes: Lanes) -> Report:
        """(n,) lanes of this site to what leaves it; once. Raises `RoleError` without a site's secrets."""

    def check(self, site: str, report: Report) -> None:
        """Refuse what cannot be a report of `site` in this sum; reads no update."""

    def answer(self, closed: Mapping[str, Report]) -> Answer | None:
        """This site's answer for the closed set of reports by site; None if this scheme wants none of this site.

        Refuses a set that omits this site, is too small, or holds reports that contradict each other. Once: another
        set is refused (`AnsweredError`), the same set gives the same answer.
        """

    def open(self, closed: Mapping[str, Report], answers: Mapping[str, Answer]) -> Lanes:
        """The (n,) sum of the closed set's lanes. Which of enough answers came makes no difference to it.

        Raises `SumUnopenedError`, naming whom it is due to, when the answers do not suffice.
        """
