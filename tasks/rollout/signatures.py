"""Officers' signatures: given over evidence that verifies whole, collected by the coordinator, carried to the ledger.

    <coordinator's home>/sign-offs/<entry digest of the measurement>/<officer>.json    (`SignedEvidence`)

An officer signs on a machine of its own, under the founding document that it holds: no home, no ledger, no network.
Whose signatures count is `policies.rollout.sign_off`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from adapters.home import Home, write_atomically
from adapters.institution_log import policy_of
from adapters.officer import OfficerFolder
from ledger import canonical
from ledger.errors import CodedError, InputError, PolicyViolation, Violation
from ledger.evidence_subject import PhaseSubject
from policies.federation import PHASES, Federation, Officer, Phase
from policies.rollout import gate
from policies.rollout.sign_off import SignOffStatement, faulty, sign_off
from policies.rollout.signed_evidence import MAXIMUM_BYTES, SignedEvidence
from policies.rollout.statements import PhaseAdvanced, SignOff, missing_roles
from policies.state import FederationState
from tasks.coordinator.party import Coordinator
from tasks.evidence.audit import audit
from tasks.rollout.measurement import evidence_path, manifest_of
from tasks.step import step


class NotAPhaseError(InputError):
    code = "phase.evidence"


class SignatureFileError(InputError):
    code = "phase.signature-file"


def sign_evidence(package: Path, folder: Path, federation: Federation) -> SignedEvidence:
    """An officer's word that the phase may end.

    Raises VerificationFailedError unless every check of the package passes under this federation, NotAPhaseError
    unless it is the end of a phase with the reports of its drills, NotAnOfficerError and HomeError.
    """
    # 1. Who signs is an officer of this federation.
    officer = OfficerFolder(folder)
    known = federation.officer(officer.read().name)
    if known is None or known.role != officer.read().role:
        raise InputError(
            f"{officer.read().name} is no officer of this federation in that role",
            remedy="Give the founding document that names you.",
            code="phase.signer",
        )
    # 2. What is signed verifies whole.
    statement = verified_statement(package, federation)
    # 3. The signature.
    return signed_evidence(statement, known, officer)


def signed_evidence(statement: SignOffStatement, officer: Officer, folder: OfficerFolder) -> SignedEvidence:
    """The statement with the officer's signature, made with the key in the folder."""
    signed = sign_off(statement, officer, folder.signer())
    return SignedEvidence(schema_version=1, statement=statement, sign_off=signed)


def verified_statement(package: Path, federation: Federation) -> SignOffStatement:
    """What there is to sign of a package; as `sign_evidence`."""
    manifest = manifest_of(package)
    if manifest is not None and manifest.origin != federation.origin:
        raise NotAPhaseError(
            "this is the evidence of another federation than the founding document's",
            remedy="Take both from the same coordinator: federation.json of its home, and the package.",
            code="phase.other-federation",
        )
    found = audit(
        package,
        vkey=federation.log_vkey,
        policy=policy_of(federation),
        founding_digest=federation.content_digest(),
    )
    subject = found.manifest.subject
    if not isinstance(subject, PhaseSubject):
        raise NotAPhaseError(
            f"this is the evidence of {subject}, not of a phase",
            remedy="Give the package that `wardround phase measure` wrote.",
        )
    if found.missing_reports:
        raise NotAPhaseError(
            f"these reports are not enclosed: {', '.join(found.missing_reports)}",
            remedy="Put them under `reports` in the coordinator's home and measure again.",
            code="phase.report-missing",
        )
    return SignOffStatement(
        schema_version=1,
        origin=federation.origin,
        phase=_phase(subject.phase),
        measured=subject.measured,
        evidence_digest=found.manifest.digest,
        policy_digest=found.reading.state.policy_digest,
    )


def statement_to_sign(home: Path, state: FederationState) -> SignOffStatement | None:
    """The statement over the evidence in a coordinator's home, which was not verified; None while none is there
    that can be read: `wardround phase measure` writes it again."""
    measured = state.rollout.measured
    if measured is None:
        return None
    manifest = manifest_of(evidence_path(home, state.phase, measured.entry_digest))
    if manifest is None:
        return None
    return SignOffStatement(
        schema_version=1,
        origin=state.origin,
        phase=state.phase,
        measured=measured.entry_digest,
        evidence_digest=manifest.digest,
        policy_digest=measured.policy_digest,
    )


def read_signature(path: Path) -> SignedEvidence:
    try:
        data = path.read_bytes()
        if len(data) > MAXIMUM_BYTES:
            raise InputError("too long")
        return SignedEvidence.from_value(canonical.decode(data), what="signature")
    except (OSError, CodedError):
        raise SignatureFileError(
            f"{path} is no officer's signature", remedy="Give files that `wardround phase sign` wrote."
        ) from None


def collected(home: Path, measured: str) -> tuple[SignOff, ...]:
    """The signatures that a coordinator's home keeps for a measurement, by officer; a file that is none is
    nobody's, and takes no other's away."""
    found: list[SignOff] = []
    for path in sorted((home / "sign-offs" / measured).glob("*.json")):
        with suppress(SignatureFileError):
            found.append(read_signature(path).sign_off)
    return tuple(found)


def keep(home: Home, given: Sequence[SignedEvidence], statement: SignOffStatement) -> None:
    """Keep those files that are over this statement and sound; PolicyViolation with all that is wrong with the
    others, after the sound ones were kept."""
    wrong: list[Violation] = []
    for one in given:
        found, _ = faulty(home.federation, statement, [one.sign_off])
        if one.statement != statement:
            said = f"{one.sign_off.officer} signed {_differing(one.statement, statement)}"
            wrong.append(Violation("phase.signature", said))
        elif found:
            wrong += found
        else:
            path = home.root / "sign-offs" / statement.measured / f"{one.sign_off.officer}.json"
            write_atomically(path, one.canonical_bytes())
    names = [one.sign_off.officer for one in given]
    wrong += [
        Violation("phase.signed-twice", f"{name} signed twice")
        for name in sorted(set(names))
        if names.count(name) > 1
    ]
    if wrong:
        raise PolicyViolation(wrong)


@step
async def advance(coordinator: Coordinator, statement: SignOffStatement) -> None:
    """Say that the phase of this statement ended, with the signatures that the home keeps; nothing where it did.
    PolicyViolation names what is missing."""
    if any(ended.body.measured == statement.measured for ended in coordinator.state.rollout.ended):
        return
    coordinator.tell(f"end {statement.phase}")
    at = PHASES.index(statement.phase) + 1
    if at == len(PHASES):
        said = f"{statement.phase} is the last phase: it ends with a promotion"
        raise PolicyViolation([Violation("phase.order", said)])
    sign_offs = await signed(coordinator, statement)
    body = PhaseAdvanced(
        phase=PHASES[at],
        measured=statement.measured,
        evidence_digest=statement.evidence_digest,
        policy_digest=statement.policy_digest,
        sign_offs=sign_offs,
    )
    violations = gate.advance(coordinator.state, body)
    if violations:
        raise PolicyViolation(violations)
    await coordinator.say(body)


async def signed(coordinator: Coordinator, statement: SignOffStatement) -> tuple[SignOff, ...]:
    """The signatures that the home keeps, after what sites have sent was taken in; PolicyViolation if too few of a
    role signed."""
    # An incident that a site sent while nobody held the log.
    await coordinator.heard()
    sign_offs = collected(coordinator.home.root, statement.measured)
    missing = unsigned(coordinator.federation, statement, sign_offs)
    if missing:
        raise PolicyViolation(missing)
    return sign_offs


def unsigned(
    federation: Federation, statement: SignOffStatement, sign_offs: Sequence[SignOff]
) -> list[Violation]:
    """Roles of which too few have signed."""
    _, counted = faulty(federation, statement, sign_offs)
    needed = federation.sign_offs_for(statement.phase)
    if not needed:
        said = f"the federation document says of nobody that {statement.phase} may end"
        return [Violation("phase.sign-off", said)]
    return [
        Violation(
            "phase.sign-off",
            f"{counted.get(role, 0)} of {needed[role]} of the role {role} signed that {statement.phase} may end",
        )
        for role in missing_roles(counted, needed)
    ]


def unsigned_now(coordinator: Coordinator, statement: SignOffStatement) -> list[Violation]:
    """The same of the signatures that the home keeps."""
    kept = collected(coordinator.home.root, statement.measured)
    return unsigned(coordinator.federation, statement, kept)


async def verified(package: Path, federation: Federation) -> SignOffStatement:
    """`verified_statement`, which folds the whole ledger, without holding anybody up."""
    return await asyncio.to_thread(verified_statement, package, federation)


def _phase(name: str) -> Phase:
    return next(phase for phase in PHASES if phase == name)


def _differing(theirs: SignOffStatement, ours: SignOffStatement) -> str:
    if theirs.origin != ours.origin:
        return "for another federation"
    if theirs.phase != ours.phase:
        return f"that {theirs.phase} may end"
    if theirs.measured != ours.measured:
        return "older evidence, or another's"
    return "other evidence, or under another policy"
