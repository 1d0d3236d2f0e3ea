"""What is said of the rollout on the ledger: one frozen body per type of event.

Whether it is allowed is decided in `policies.rollout.gate`, how it is folded in `policies.rollout.record`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from policies.document import Base64, Digest, Document, Name
from policies.federation import PHASES, OfficerRole, Phase

Agreement = Literal["baa", "dpa", "irb"]
"""Business associate agreement, data-processing agreement, approval of the institutional review board."""
Drill = Literal[
    "poisoning", "quarantine", "key-rotation", "consent-withdrawal", "restore", "rollback", "drift"
]
Severity = Literal["minor", "major", "critical"]
"""`minor` is on record. `major` takes the rollout back one phase, `critical` to its beginning."""
IncidentKind = Literal["data-exposure", "wrong-data", "model-harm", "key-loss", "ledger-fault", "other"]
Unit = Annotated[float, Field(ge=0, le=1)]
Round = Annotated[int, Field(ge=1, le=1000)]


class PhaseTerms(Document):
    """What must hold before the phase ends. Published before the first round that counts, and fixed by that."""

    phase: Phase
    study: Name
    """Whose registered models count."""
    minimum_sites: Annotated[int, Field(ge=3, le=1000)]
    """That passed their conformance check, have their agreements and reported in the last round that counts."""
    minimum_rounds: Annotated[int, Field(ge=1, le=1000)]
    """Evaluated and registered, since the terms were published."""
    minimum_figure: Unit
    """The newest model's federated AUC, or Dice."""
    maximum_regression: Unit | None = None
    """How far it may lie under the study's champion or, while there is none, under the best of its models from
    before the terms: the margin of non-inferiority."""
    confidence: Annotated[float, Field(ge=0.8, le=0.99)] | None = None
    """Of a two-sided interval (`privacy.resampling`). With it not the figure but its lower limit must reach
    `minimum_figure`, and with the margin the figure before; subgroups' lower limits, `minimum_subgroup_figure`."""
    maximum_subgroup_gap: Unit | None = None
    """Between figures, whatever the confidence."""
    minimum_subgroup_figure: Unit | None = None
    minimum_better_off: Annotated[int, Field(ge=1, le=50)] | None = None
    """How many sites must have answered, of the newest model, that it is at least as good for them as one of their
    own; its plan asks them (`evaluation.compare`). Some answers are lies: docs/evaluation.md says how many."""
    agreements: Annotated[tuple[Agreement, ...], Field(max_length=3)] = ()
    """That every site has on record."""
    drills: Annotated[tuple[Drill, ...], Field(max_length=7)] = ()
    """That were passed since the terms were published."""
    change_plan: Digest | None = None
    """Of the predetermined change plan (`policies.rollout.change_plan`), which is in the phase's evidence."""

    @model_validator(mode="after")
    def _once(self) -> PhaseTerms:
        for name, listed in (("agreements", self.agreements), ("drills", self.drills)):
            if len(set(listed)) != len(listed):
                raise ValueError(f"{name} lists one twice")
        return self


class PhaseOpened(Document):
    """The work on a phase begins, under these terms."""

    terms: PhaseTerms


class AgreementRecorded(Document):
    """A site has this agreement; the paper itself stays where it is."""

    kind: Agreement
    document_digest: Digest


class ConformanceRecorded(Document):
    """A site's source met every check of the contract, with this code: units, schema, de-identification, canaries."""

    contract_digest: Digest
    """Of the study and all of its plan's data contract (`policies.rollout.reached.source_contract`)."""
    code_digest: Digest


class DrillRecorded(Document):
    """A drill of the phase was passed; its report is in the phase's evidence."""

    drill: Drill
    report_digest: Digest


class IncidentReported(Document):
    """Any member may say that something went wrong, and what is in doubt is closed at once."""

    severity: Severity
    kind: IncidentKind


class PhaseMeasured(Document):
    """The terms are met, which every witness recomputes. The phase's evidence ends with this entry."""

    phase: Phase
    opened: Digest
    """Entry digest of the terms."""
    policy_digest: Digest
    """The policy under which they were found to be met."""


class SignOff(Document):
    """An officer's signature over the canonical `policies.rollout.sign_off.SignOffStatement`."""

    officer: Name
    signature: Annotated[Base64, Field(max_length=120)]


class PhaseAdvanced(Document):
    """A phase ends, on the evidence of that digest, and the next begins."""

    phase: Phase
    """The one that begins."""
    measured: Digest
    """Entry digest of the `phase.measured` that the evidence ends with."""
    evidence_digest: Digest
    """Digest of the evidence package's manifest (`ledger.evidence_manifest`), which covers all its payload."""
    policy_digest: Digest
    sign_offs: Annotated[tuple[SignOff, ...], Field(min_length=1, max_length=64)]

    @model_validator(mode="after")
    def _not_the_first(self) -> PhaseAdvanced:
        if self.phase == PHASES[0]:
            raise ValueError("the rollout begins with its first phase; nothing advances to it")
        return self

    @property
    def ended(self) -> Phase:
        return PHASES[PHASES.index(self.phase) - 1]


class ModelPromoted(Document):
    """The clinical phase ends: the newest model that counted when it was measured is its study's champion."""

    plan_digest: Digest
    round: Round
    model_digest: Digest
    measured: Digest
    """Entry digest of the `phase.measured` that the evidence ends with."""
    evidence_digest: Digest
    policy_digest: Digest
    change_plan_digest: Digest
    """What may be changed about it without another clinical phase."""
    sign_offs: Annotated[tuple[SignOff, ...], Field(min_length=1, max_length=64)]

    @property
    def ended(self) -> Phase:
        return PHASES[-1]


class ModelRolledBack(Document):
    """A study's champion is one no more, at once and by the coordinator's word alone."""

    study: Name
    to: Digest | None = None
    """Model digest of the champion before it that is one again; None: there is none."""
    kind: IncidentKind


def missing_roles(signed: dict[OfficerRole, int], needed: dict[OfficerRole, int]) -> tuple[OfficerRole, ...]:
    """Of the roles that must sign, those of which too few did."""
    return tuple(role for role, count in sorted(needed.items()) if signed.get(role, 0) < count)
