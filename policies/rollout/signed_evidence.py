"""The file that an officer hands over: a signature, and the statement that it is over.

    {"schema_version":1,"sign_off":{"officer":...,"signature":...},"statement":{...}}, canonical JSON

It is no entry of the ledger: the coordinator collects such files and says `phase.advanced` with their signatures.
What a signature is over is `policies.rollout.sign_off`.
"""

from __future__ import annotations

from typing import Literal

from policies.document import Document
from policies.rollout.sign_off import SignOffStatement
from policies.rollout.statements import SignOff

MAXIMUM_BYTES = 4096


class SignedEvidence(Document):
    schema_version: Literal[1]
    statement: SignOffStatement
    sign_off: SignOff
