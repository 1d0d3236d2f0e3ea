"""The training receipt: an in-toto Statement v1 about one protected update, signed by the site that made it.

    subject        the update's bytes, by SHA-256
    predicate      what was run (plan, code, parent model), on what (keyed commitment), with which DP mechanisms,
                   and where it stands in the site's own chain of receipts

It rides in a `training.receipt` event, whose envelope carries the signature. Nothing here depends on patients
except through the declared mechanisms; counts, metrics and free text have no field.
Specification: in-toto/attestation, spec/v1/statement.md.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import Field

from policies.document import Document
from policies.plan import Digest, Name, Origin
from privacy.mechanisms import Mechanism

STATEMENT_TYPE: Final = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE: Final = "urn:wardround:training-receipt:v1"
FIRST_RECEIPT: Final = "0" * 64

Step = Literal["training", "evaluation"]
DeclaredMechanism = Annotated[Mechanism, Field(discriminator="kind")]


class SubjectDigest(Document):
    sha256: Digest


class Subject(Document):
    name: Literal["update"]
    digest: SubjectDigest


class Validation(Document):
    """The data contract's verdict: that it held, and which suite was run."""

    passed: bool
    suite_digest: Digest


class Predicate(Document):
    origin: Origin
    study: Name
    plan_digest: Digest
    policy_digest: Digest
    """The policy in force when the site reserved its budget (`policies.code`)."""
    round: Annotated[int, Field(ge=1, le=1000)]
    attempt: Annotated[int, Field(ge=1, le=1000)]
    step: Step
    parent_model_digest: Digest
    code_digest: Digest
    dataset_commitment: Digest
    """HMAC of the cohort's keys under a secret that stays at the site, salted anew for every receipt."""
    consent_root: Digest
    """The site's newest `consent.state` when it reserved; its patients' consent decided about the cohort later
    still."""
    mechanisms: tuple[DeclaredMechanism, ...]
    validation: Validation
    sum_key_digest: Digest
    receipt_sequence: Annotated[int, Field(ge=0)]
    previous_receipt: Digest


class Statement(Document):
    type: Annotated[Literal["https://in-toto.io/Statement/v1"], Field(alias="_type")]
    subject: Annotated[tuple[Subject, ...], Field(min_length=1, max_length=1)]
    predicate_type: Annotated[Literal["urn:wardround:training-receipt:v1"], Field(alias="predicateType")]
    predicate: Predicate

    @classmethod
    def of(cls, *, update_digest: str, predicate: Predicate) -> Statement:
        return cls(
            type=STATEMENT_TYPE,
            subject=(Subject(name="update", digest=SubjectDigest(sha256=update_digest)),),
            predicate_type=PREDICATE_TYPE,
            predicate=predicate,
        )

    @property
    def update_digest(self) -> str:
        return self.subject[0].digest.sha256
