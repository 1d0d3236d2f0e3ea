"""Signed answers: a site's second message of one protected sum, for the closed set alone (`privacy.protected_sum`).

What the shares and the partial sum say is the scheme's business; here is whose word they are and for which set. The
set's digest is that of the body of its final `round.closed`. Making an answer is `tasks.site.opening`. It is a DSSE
envelope of type application/vnd.wardround.answer+json over

    {"closed_digest", "complaints", "origin", "part_digest", "plan_digest", "round", "schema_version", "step",
     "unmask_digest"}
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from policies.document import Digest, Document, Name, Origin
from policies.federation import Federation
from policies.receipt import Step
from policies.signed_document import read_signed

PAYLOAD_TYPE = "application/vnd.wardround.answer+json"


class SumAnswer(Document):
    schema_version: Literal[1]
    origin: Origin
    plan_digest: Digest
    round: Annotated[int, Field(ge=1, le=1000)]
    step: Step
    closed_digest: Digest
    unmask_digest: Digest | None
    """SHA-256 of the shares that remove masks."""
    part_digest: Digest | None
    """SHA-256 of a partial or decrypted sum."""
    complaints: Annotated[tuple[Name, ...], Field(max_length=50)] = ()
    """Instead of either: the sites whose shares for this one are bad. Its word alone, but signed, and public."""


def read_answer(data: bytes, federation: Federation, site: str) -> SumAnswer | None:
    """The site's answer if the bytes are one that it signed; anything else does not count."""
    member = federation.member(site)
    if member is None or member.role != "site":
        return None
    return read_signed(data, SumAnswer, payload_type=PAYLOAD_TYPE, federation=federation, name=site)
