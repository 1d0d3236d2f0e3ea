"""The audit of an evidence package: all that the ledger alone can check, then the rules and the accounting.

     1-13            `ledger.evidence_verify`: bytes, signatures, proofs, quorum
    14 rules         every entry may stand where it stands: all rules run again, entry by entry
    15 accounting    every pool counted anew from the raw events; the fold, each event and accounting.json agree to
                     the micro-unit, and no pool is over its cap
    16 payload       every derived file, made again from the entries, is the one in the package, byte for byte; every
                     enclosed report is one that the ledger names

Rules are code, so an audit needs the version whose policy was in force; under any other it says so and judges
nothing. What an audit cannot see: whether a site ran the code that it signed for, or under-noised its own patients.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ledger import canonical
from ledger.errors import CodedError, InputError
from ledger.evidence_manifest import Manifest
from ledger.evidence_package import LEDGER, MANIFEST
from ledger.evidence_subject import PhaseSubject
from ledger.evidence_verify import VerifiedPackage, verify_package
from ledger.policy import Policy
from ledger.report import Checklist, Mismatch, Report
from ledger.verify_tree import Progress
from policies.recount import PoolAccount, Recount
from policies.rollout.drill_report import is_passed
from policies.state import FederationState
from tasks.evidence import documents
from tasks.evidence.payload import derived
from tasks.evidence.phase import CHANGE_PLAN, reports_of
from tasks.evidence.reading import PhaseReading, Reading, read_phase, read_round
from tasks.evidence.rules import RuleFiles, installed_rule_files

_POLICY = "policy/policy.json"
_NONE_ENCLOSED = RuleFiles("", {})


class OtherPolicyError(InputError):
    """Neither sound nor unsound: this installation judges by other rules than those that were in force."""

    code = "evidence.other-policy"


@dataclass(frozen=True, slots=True)
class Audit:
    """What an audit that passed found."""

    report: Report
    manifest: Manifest
    reading: Reading | PhaseReading
    accounts: tuple[PoolAccount, ...]
    missing_reports: tuple[str, ...] = ()
    """Drills of a phase whose report is not enclosed, and its change plan likewise."""

    @property
    def passed(self) -> bool:
        """Whether the round's model passed its gates, or the phase met its terms; an audit of a refused round is as
        sound."""
        if isinstance(self.reading, PhaseReading):
            return True
        key = self.reading.plan_digest, self.reading.round_number
        return key in self.reading.state.registered


def audit(
    path: Path,
    *,
    vkey: str | None = None,
    policy: Policy | None = None,
    rules: RuleFiles | None = None,
    founding_digest: str | None = None,
    progress: Progress | None = None,
) -> Audit:
    """Return what was found if every check passed, else raise VerificationFailedError; OtherPolicyError.

    `founding_digest` pins the founding document, for whoever has it.
    """
    run = Checklist()
    with verify_package(path, log_vkey=vkey, policy=policy, progress=progress, run=run) as found:
        installed = rules or installed_rule_files()
        enclosed = _require_policy(found, installed)
        reading = _folded(run, found, founding_digest)
        accounts = _counted(run, found, reading)
        _rebuilt(run, found, reading, accounts, installed if enclosed else _NONE_ENCLOSED)
        missing = _missing_reports(found, reading)
        if missing:
            run.report.notices.append(f"these reports are not enclosed: {', '.join(missing)}")
        if not enclosed:
            run.report.notices.append("the package encloses no rules: its builder ran another policy's")
        return Audit(run.report, found.manifest, reading, accounts, missing)


def _require_policy(found: VerifiedPackage, installed: RuleFiles) -> bool:
    """Raise if another policy than this installation's was in force; whether the package says it encloses its rules.

    The package's word is enough to go on: that it is true is found out by check 16. Its word that the policy is
    another one is not enough to judge nothing: then the ledger is asked which it was.
    """
    try:
        said = canonical.decode(found.payload(_POLICY)) if _POLICY in found.manifest.files else None
    except InputError:
        said = None
    digest = said.get("policy_digest") if isinstance(said, dict) else None
    if isinstance(digest, str) and digest != installed.policy_digest:
        _require_lie(found, installed, digest)
    return not (isinstance(said, dict) and said.get("enclosed") is False)


def _require_lie(found: VerifiedPackage, installed: RuleFiles, digest: str) -> None:
    """Raise OtherPolicyError unless the ledger says that this installation's policy was in force after all."""
    try:
        in_force = _read(found, None).state.policy_digest
    except CodedError:
        in_force = digest  # these rules cannot even read the ledger
    if in_force != installed.policy_digest:
        raise OtherPolicyError(
            f"the round was judged by policy {digest[:16]!a}, and this installation judges by "
            f"{installed.policy_digest[:16]}",
            remedy="Install the version of that policy, whose code digests are in code.json. The ledger's own checks "
            "passed; `python -m ledger verify` repeats them.",
        )


def _read(found: VerifiedPackage, founding_digest: str | None) -> Reading | PhaseReading:
    origin, subject = found.manifest.origin, found.manifest.subject
    if isinstance(subject, PhaseSubject):
        return read_phase(
            found.entries(), origin=origin, measured=subject.measured, founding_digest=founding_digest
        )
    return read_round(
        found.entries(),
        origin=origin,
        plan_digest=subject.plan_digest,
        round_number=subject.round_number,
        founding_digest=founding_digest,
    )


def _missing_reports(found: VerifiedPackage, reading: Reading | PhaseReading) -> tuple[str, ...]:
    if isinstance(reading, Reading):
        return ()
    named = reports_of(reading)
    return tuple(named[digest] for digest in sorted(named.keys() - set(found.reports())))


def _folded(run: Checklist, found: VerifiedPackage, founding_digest: str | None) -> Reading | PhaseReading:
    with run.check("rules", "every entry may stand where it stands") as details:
        reading = _read(found, founding_digest)
        if reading.size != found.manifest.size:
            raise Mismatch("it ended earlier than the package does", index=reading.size)
        details.append(f"{reading.size} entries under policy {reading.state.policy_digest[:16]}")
    return reading


def _counted(
    run: Checklist, found: VerifiedPackage, reading: Reading | PhaseReading
) -> tuple[PoolAccount, ...]:
    with run.check("accounting", "every pool, counted anew, is what everybody says it is") as details:
        # From the package's own entries once more, sharing nothing with the fold.
        recount = Recount()
        for entry in found.entries():
            recount.take(entry)
        accounts = recount.accounts()
        problems = list(_disagreements(accounts, reading.state))
        told = canonical.encode(documents.accounting(reading, accounts))
        name = "accounting.json"
        if name not in found.manifest.files or found.payload(name) != told:
            problems.append("accounting.json is not what the ledger adds up to")
        if problems:
            raise Mismatch("; ".join(problems))
        uses = sum(len(account.uses) for account in accounts)
        details.append(f"{len(accounts)} pools, {uses} reservations")
    return accounts


def _disagreements(accounts: tuple[PoolAccount, ...], state: FederationState) -> Iterator[str]:
    for account in accounts:
        if account.spent != state.spent_by(account.site):
            yield f"{account.site}: the fold adds up to another total"
        if account.epsilon_micro > account.terms.epsilon_cap_micro:
            yield f"{account.site} is over its cap: {account.epsilon_micro} of {account.terms.epsilon_cap_micro}"
    if set(state.spent) - {account.site for account in accounts}:
        yield "somebody without a pool has drawn on one"


def _unsound_reports(found: VerifiedPackage, reading: PhaseReading) -> Iterator[str]:
    named = reports_of(reading)
    for digest in sorted(found.reports()):
        if digest not in named:
            yield f"the report {digest} is of no drill of this phase, nor its change plan"
        elif named[digest] != CHANGE_PLAN and not is_passed(found.enclosed(digest), named[digest]):
            yield f"the report {digest} is none of the drill {named[digest]} being passed"


def _rebuilt(
    run: Checklist,
    found: VerifiedPackage,
    reading: Reading | PhaseReading,
    accounts: tuple[PoolAccount, ...],
    rules: RuleFiles,
) -> None:
    with run.check("payload", "every derived file, made again, is the one in the package") as details:
        made = derived(reading, accounts, rules)
        held = {name for name in found.manifest.files if not name.startswith(LEDGER)}
        problems = [
            f"{name} is no part of such a package" for name in sorted(held - made.keys() - {MANIFEST})
        ]
        problems += [f"{name} is missing" for name in sorted(made.keys() - held)]
        problems += [
            f"{name} is not what the ledger says"
            for name in sorted(held & made.keys())
            if found.payload(name) != made[name]
        ]
        if isinstance(reading, PhaseReading):
            problems += _unsound_reports(found, reading)
        if problems:
            raise Mismatch("; ".join(problems))
        details.append(f"{len(made)} files")
