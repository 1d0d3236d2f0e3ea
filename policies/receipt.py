"""The training receipt: an in-toto Statement v1 about one protected update, signed by the site that made it.

    subject        the update's bytes by SHA-256, and those of the shares that belong to it, if the scheme has some
    predicate      what was run (plan, code, parent model), on what (keyed commitment), with which DP mechanisms,
                   and where it stands in the site's own chain of receipts

It rides in a `training.receipt` event, whose envelope carries the signature. Nothing here depends on patients
except through the declared mechanisms; counts, metrics and free text have no field.
Specification: in-toto/attestation, spec/v1/statement.md.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import Field, model_validator

from policies.document import Digest, Document, Name, Origin
from privacy.mechanisms import Mechanism
from privacy.sum_context import Step as Step

STATEMENT_TYPE: Final = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE: Final = "urn:wardround:training-receipt:v1"
FIRST_RECEIPT: Final = "0" * 64

DeclaredMechanism = Annotated[Mechanism, Field(discriminator="kind")]


class SubjectDigest(Document):
    sha256: Digest


class Subject(Document):
    name: Literal["update", "shares"]
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
    """Of statistics, which start from no model: the inquiry's own digest."""
    code_digest: Digest
    dataset_commitment: Digest
    """HMAC of the cohort's keys under a secret that stays at the site, salted anew for every receipt."""
    consent_root: Digest
    """The site's newest `consent.state` when it reserved; its patients' consent decided about the cohort later
    still."""
    mechanisms: tuple[DeclaredMechanism, ...]
    validation: Validation
    sum_key_digest: Digest | None
    """Of a homomorphic sum: the public key that it is encrypted under."""
    norm_bound_micro: Annotated[int, Field(ge=0, lt=2**53)] | None
    """Of training: the site's word that its update's L2 norm is at most this, in millionths; the plan's clip."""
    receipt_sequence: Annotated[int, Field(ge=0)]
    previous_receipt: Digest


class Statement(Document):
    type: Annotated[Literal["https://in-toto.io/Statement/v1"], Field(alias="_type")]
    subject: Annotated[tuple[Subject, ...], Field(min_length=1, max_length=2)]
    predicate_type: Annotated[Literal["urn:wardround:training-receipt:v1"], Field(alias="predicateType")]
    predicate: Predicate

    @classmethod
    def of(cls, *, update_digest: str, predicate: Predicate, shares_digest: str | None = None) -> Statement:
        subjects = [Subject(name="update", digest=SubjectDigest(sha256=update_digest))]
        if shares_digest is not None:
            subjects.append(Subject(name="shares", digest=SubjectDigest(sha256=shares_digest)))
        return cls(
            type=STATEMENT_TYPE,
            subject=tuple(subjects),
            predicate_type=PREDICATE_TYPE,
            predicate=predicate,
        )

    @model_validator(mode="after")
    def _in_order(self) -> Statement:
        if [subject.name for subject in self.subject] != ["update", "shares"][: len(self.subject)]:
            raise ValueError("the subjects are the update, then its shares")
        return self

    @property
    def update_digest(self) -> str:
        return self.subject[0].digest.sha256

    @property
    def shares_digest(self) -> str | None:
        return self.subject[1].digest.sha256 if len(self.subject) == 2 else None
