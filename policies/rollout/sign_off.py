"""Sign-offs: what an officer signs when a phase may end, and whose signatures count.

The signed bytes are the DSSE encoding of a canonical statement (`ledger.envelope.pae`), so that a signature under one
federation, phase, evidence or policy is none under another. Who has which role is in the federation document, which
every founding member signed. Collecting signatures is the command line's affair.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

from ledger import encoding
from ledger.envelope import pae
from ledger.errors import CodedError, InputError, Violation
from ledger.keys import Signer
from policies.document import Digest, Document, Origin
from policies.federation import Federation, Officer, OfficerRole, Phase
from policies.rollout.statements import ModelPromoted, PhaseAdvanced, SignOff, missing_roles

PAYLOAD_TYPE: Final = "application/vnd.wardround.sign-off+json"


class NotAnOfficerError(InputError):
    code = "phase.not-an-officer"


class SignOffStatement(Document):
    """I have seen this evidence, and the phase may end."""

    schema_version: Literal[1]
    origin: Origin
    phase: Phase
    """The one that ends."""
    measured: Digest
    """Entry digest of the `phase.measured` that the evidence ends with."""
    evidence_digest: Digest
    policy_digest: Digest

    def signed_bytes(self) -> bytes:
        return pae(PAYLOAD_TYPE, self.canonical_bytes())


def sign_off(statement: SignOffStatement, officer: Officer, signer: Signer) -> SignOff:
    """Raises NotAnOfficerError if the key is not the officer's."""
    if signer.public.keyid != officer.key.verification_key().keyid:
        raise NotAnOfficerError(
            f"this is not the key of {officer.name} in the federation document",
            remedy="Sign with the key that the federation was founded with, or name the officer whose key it is.",
        )
    signature = encoding.encode_base64(signer.sign(statement.signed_bytes()))
    return SignOff(officer=officer.name, signature=signature)


def statement_of(federation: Federation, body: PhaseAdvanced | ModelPromoted) -> SignOffStatement:
    return SignOffStatement(
        schema_version=1,
        origin=federation.origin,
        phase=body.ended,
        measured=body.measured,
        evidence_digest=body.evidence_digest,
        policy_digest=body.policy_digest,
    )


def sign_off_violations(federation: Federation, body: PhaseAdvanced | ModelPromoted) -> list[Violation]:
    """Every signature that is no officer's, does not verify or comes twice; and the roles of which too few signed."""
    found, counted = faulty(federation, statement_of(federation, body), body.sign_offs)
    for role in missing_roles(counted, federation.sign_offs_for(body.ended)):
        found.append(
            Violation("phase.sign-off", f"too few of the role {role} signed that {body.ended} may end")
        )
    if not federation.sign_offs_for(body.ended):
        found.append(Violation("phase.sign-off", "the federation document says of nobody that it may end"))
    return found


def faulty(
    federation: Federation, statement: SignOffStatement, sign_offs: Sequence[SignOff]
) -> tuple[list[Violation], dict[OfficerRole, int]]:
    """What is wrong with the signatures, and how many of each role are right."""
    found: list[Violation] = []
    counted: dict[OfficerRole, int] = {}
    seen: set[str] = set()
    message = statement.signed_bytes()
    for one in sign_offs:
        officer = federation.officer(one.officer)
        if officer is None:
            found.append(Violation("phase.signer", f"{one.officer} is no officer of the federation"))
        elif one.officer in seen:
            found.append(Violation("phase.signed-twice", f"{one.officer} signed twice"))
        elif not _verifies(officer, one.signature, message):
            found.append(
                Violation("phase.signature", f"{one.officer} did not sign this evidence under these terms")
            )
        else:
            counted[officer.role] = counted.get(officer.role, 0) + 1
        seen.add(one.officer)
    return found, counted


def _verifies(officer: Officer, signature: str, message: bytes) -> bool:
    try:
        officer.key.verification_key().verify(
            encoding.decode_base64(signature, what="a signature", error=InputError, code="phase.signature"),
            message,
        )
    except CodedError:
        return False
    return True
