"""The body of tlog-witness's add-checkpoint request (c2sp.org/tlog-witness), and nothing else.

old 20852014\\n
PlRNCrwHpqhGrupue0L7gxbjbMiKA9temvuZZDDpkaw=\\n       at most 63 proof hashes
\\n
<signed checkpoint, verbatim>
"""

from __future__ import annotations

from collections.abc import Sequence

from ledger import encoding
from ledger.errors import InputError
from ledger.tree import MAX_PROOF, Hash


class MalformedRequestError(InputError):
    code = "ledger.witness-request.malformed"


def encode_request(old_size: int, proof: Sequence[Hash], checkpoint_note: bytes) -> bytes:
    lines = [f"old {old_size}\n", *(f"{encoding.encode_base64(item)}\n" for item in proof), "\n"]
    return "".join(lines).encode() + checkpoint_note


def parse_request(data: bytes) -> tuple[int, tuple[Hash, ...], bytes]:
    """(old size, consistency proof, checkpoint note); nothing is verified."""
    head, separator, checkpoint_note = data.partition(b"\n\n")
    if not separator:
        raise MalformedRequestError("a request has an old size, a proof, an empty line and a checkpoint")
    try:
        lines = head.decode("ascii").split("\n")
    except UnicodeDecodeError:
        raise MalformedRequestError("the request is not ASCII before its checkpoint") from None
    if not lines[0].startswith("old "):
        raise MalformedRequestError("the first line is 'old <size>'", code="ledger.witness-request.old")
    old_size = encoding.decimal(
        lines[0][4:], what="the old size", error=MalformedRequestError, code="ledger.witness-request.old"
    )
    if len(lines) - 1 > MAX_PROOF:
        raise MalformedRequestError(
            f"more than {MAX_PROOF} proof lines", code="ledger.witness-request.too-long"
        )
    proof = tuple(
        encoding.decode_hash(
            line, what="a proof line", error=MalformedRequestError, code="ledger.witness-request.hash"
        )
        for line in lines[1:]
    )
    return old_size, proof, checkpoint_note
