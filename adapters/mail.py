"""Where things lie on the exchange, in one place, and the small texts that are not documents.

    ledger/checkpoint, ledger/tile/...            the log in tlog-tiles layout, with log.vkey and policy beside it
    inbox/<institution>/<sequence>/<digest>       a signed event on its way to the log
    refused/<digest>                              why the log did not take it: {"violations":[{"code","message"}]}
    witness/<site>/request                        a tlog-witness add-checkpoint body, replaced by the next
    witness/<site>/response                       "cosigned <size>\\n<line>" | "size <n>\\n" | "refused <code>\\n"
    objects/<sha256>                              see `adapters.objects`
    sealed/<key digest>/<holder>                  the secret key of a plan's sums, sealed to one holder
    answers/<plan>/<round>-<step>/<site>          a signed answer for the closed set (`policies.answer`)
    openings/<plan>/<round>-<step>/<holder>       a signed opening

Nothing here is trusted for being here: readers verify.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from adapters.exchange import Exchange, ExchangeTooLargeError
from ledger import canonical
from ledger.errors import InputError, Violation
from policies.receipt import Step

MAXIMUM_BYTES = 65_535
"""Of one letter: as long as an entry of the ledger may be. What is longer was not written by any of us."""
FINAL_CHECKPOINT = "ledger/checkpoint"
_REFUSED = re.compile(r"refused ([a-z0-9.-]{1,64})\n")
_SIZE = re.compile(r"size (0|[1-9][0-9]{0,15})\n")
_COSIGNED = re.compile(r"cosigned (0|[1-9][0-9]{0,15})\n(.+\n)", re.DOTALL)


class MailError(InputError):
    code = "exchange.mail"


def inbox(institution: str, sequence: int) -> str:
    return f"inbox/{institution}/{sequence:08d}"


def refused(entry_digest: str) -> str:
    return f"refused/{entry_digest}"


def request(site: str) -> str:
    return f"witness/{site}/request"


def response(site: str) -> str:
    return f"witness/{site}/response"


def sealed(key_digest: str, holder: str) -> str:
    return f"sealed/{key_digest}/{holder}"


def answers(plan_digest: str, round_number: int, step: Step) -> str:
    return f"answers/{plan_digest}/{round_number}-{step}"


def openings(plan_digest: str, round_number: int, step: Step) -> str:
    return f"openings/{plan_digest}/{round_number}-{step}"


def fetch(exchange: Exchange, name: str) -> bytes | None:
    """The letter at this place, if there is one; what is too long for one is none."""
    try:
        return exchange.get(name, at_most_bytes=MAXIMUM_BYTES)
    except ExchangeTooLargeError:
        return None


def concerns_log(name: str) -> bool:
    """Whether the log's sequencer reads what lies under this name."""
    return name.startswith("inbox/") or (name.startswith("witness/") and name.endswith("/response"))


def concerns_witness(site: str) -> Callable[[str], bool]:
    """Whether this site's witness reads what lies under a name."""
    return frozenset((request(site), FINAL_CHECKPOINT)).__contains__


def concerns_sums(name: str) -> bool:
    """Whether somebody who waits for answers, openings or refusals reads what lies under this name."""
    return name.startswith(("answers/", "openings/", "refused/"))


@dataclass(frozen=True, slots=True)
class Cosigned:
    size: int
    lines: bytes


@dataclass(frozen=True, slots=True)
class Conflict:
    size: int


@dataclass(frozen=True, slots=True)
class Declined:
    code: str


def write_response(answer: Cosigned | Conflict | Declined) -> bytes:
    match answer:
        case Cosigned(size, lines):
            return f"cosigned {size}\n".encode() + lines
        case Conflict(size):
            return f"size {size}\n".encode()
        case Declined(code):
            return f"refused {code}\n".encode()


def read_response(data: bytes) -> Cosigned | Conflict | Declined:
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise MailError("a witness's response is not text") from None
    if found := _COSIGNED.fullmatch(text):
        return Cosigned(int(found[1]), found[2].encode())
    if found := _SIZE.fullmatch(text):
        return Conflict(int(found[1]))
    if found := _REFUSED.fullmatch(text):
        return Declined(found[1])
    raise MailError("a witness's response has no known form")


def write_refusal(violations: tuple[Violation, ...]) -> bytes:
    return canonical.encode({"violations": [{"code": v.code, "message": v.message} for v in violations]})


def read_refusal(data: bytes) -> tuple[Violation, ...]:
    value = canonical.decode(data)
    found = []
    items = value.get("violations") if isinstance(value, dict) else None
    for item in items if isinstance(items, list) else []:
        if isinstance(item, dict):
            found.append(Violation(str(item.get("code"))[:64], str(item.get("message"))[:400]))
    return tuple(found) or (Violation("log.refused", "the log refused the event"),)
