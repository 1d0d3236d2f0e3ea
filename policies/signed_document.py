"""Reading a document that a member signed and that did not go through the ledger: an answer, an opening.

Anything that is not such a document counts for nothing, whatever else it may be; it is no error of whoever reads it.
Making one is its owner's affair (`ledger.envelope.sign`).
"""

from __future__ import annotations

from typing import TypeVar

from ledger import envelope
from ledger.errors import CodedError
from policies.document import Document
from policies.federation import Federation

D = TypeVar("D", bound=Document)


def read_signed(
    data: bytes, kind: type[D], *, payload_type: str, federation: Federation, name: str
) -> D | None:
    """The document in the DSSE envelope `data` if the member `name` signed it with its key in force, else None."""
    member = federation.member(name)
    if member is None:
        return None
    key = member.key.verification_key()
    try:
        signed = envelope.parse(data)
        signed.verify({key.keyid: key}, threshold=1)
        document = kind.from_canonical(signed.payload, what=kind.__name__.lower())
    except CodedError:
        return None
    return document if signed.payload_type == payload_type else None
