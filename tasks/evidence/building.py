"""Building an evidence package, and where a coordinator keeps them: <home>/evidence/<plan digest, 16>-<round>.zip,
and <home>/evidence/<phase>-<entry digest of its measurement, 16>.zip.

Reads the stored log and the newest final checkpoint, so it needs no running coordinator, and may run again at any
time: the payload comes out the same, only the checkpoint beside it is newer. Blocking: call it from a thread. What is
in a package lives in `payload` and `ledger.evidence_package`; checking one, in `audit`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from adapters import mail
from adapters.exchange import Exchange
from adapters.home import Home, write_atomically
from adapters.institution_log import ledger_storage, policy_of
from ledger import canonical
from ledger.canonical import JsonValue
from ledger.errors import InputError
from ledger.event import parse_entry
from ledger.evidence_package import REPORTS, Cut, NotFinalYetError, package
from ledger.finality import finalized
from ledger.log import Log
from ledger.policy import Policy
from policies.events import ModelRegistered
from policies.recount import PoolAccount
from tasks.evidence.environment import environment_bom
from tasks.evidence.payload import derived
from tasks.evidence.phase import reports_of
from tasks.evidence.reading import PhaseReading, Reading, read_phase, read_round
from tasks.evidence.rules import RuleFiles, installed_rule_files
from tasks.evidence.tighter import tighter_figures


class UnknownPlanError(InputError):
    code = "evidence.plan"


def build(
    log: Log,
    *,
    plan_digest: str,
    round_number: int,
    final_checkpoint: bytes,
    policy: Policy,
    rules: RuleFiles | None = None,
    run_id: str | None = None,
    tighter: bool = True,
) -> bytes:
    """The package of a round that ended, as bytes.

    `rules` are this installation's by default. `run_id` is the round's MLflow run, told beside the evidence.
    `tighter` computes the PLD figures, which takes seconds. Raises RoundNotOverError, NotFinalYetError, QuorumError
    if the checkpoint is not final by `policy`, RuleBrokenError and RecountError if the log itself does not hold.
    """
    # 1. The checkpoint is final.
    finalized(final_checkpoint, log_vkey=log.vkey, policy=policy)
    # 2. What the ledger says up to the round's end, every rule run again.
    reading = read_round(
        log.entries(0, log.size), origin=log.origin, plan_digest=plan_digest, round_number=round_number
    )
    # 3. The files.
    extras = dict[str, bytes]()
    if run_id is not None:
        extras["mlflow.json"] = _lineage(reading.state.registered.get((plan_digest, round_number)), run_id)
    return _packed(
        log,
        reading,
        final_checkpoint=final_checkpoint,
        policy=policy,
        rules=rules,
        tighter=tighter,
        extras=extras,
    )


def build_phase(
    log: Log,
    *,
    measured: str,
    final_checkpoint: bytes,
    policy: Policy,
    rules: RuleFiles | None = None,
    reports: Sequence[bytes] = (),
    tighter: bool = True,
) -> bytes:
    """As `build`, of the phase that the entry of digest `measured` measured. Of `reports` those of drills that count
    are enclosed, and the change plan. Raises NotMeasuredError instead of RoundNotOverError."""
    finalized(final_checkpoint, log_vkey=log.vkey, policy=policy)
    reading = read_phase(log.entries(0, log.size), origin=log.origin, measured=measured)
    named = reports_of(reading)
    given = {canonical.digest(report): report for report in reports}
    extras = {f"{REPORTS}{digest}": report for digest, report in given.items() if digest in named}
    return _packed(
        log,
        reading,
        final_checkpoint=final_checkpoint,
        policy=policy,
        rules=rules,
        tighter=tighter,
        extras=extras,
    )


def _packed(
    log: Log,
    reading: Reading | PhaseReading,
    *,
    final_checkpoint: bytes,
    policy: Policy,
    rules: RuleFiles | None,
    tighter: bool,
    extras: Mapping[str, bytes],
) -> bytes:
    accounts = reading.recount.accounts()
    extras = {**extras, "sbom.json": environment_bom()}
    if tighter:
        extras["pld.json"] = _tighter(accounts)
    return package(
        log,
        Cut(subject=reading.subject, size=reading.size),
        derived=derived(reading, accounts, rules or installed_rule_files()),
        final_checkpoint=final_checkpoint,
        policy=policy,
        extras=extras,
    )


def phase_package_name(phase: str, measured: str) -> str:
    return f"{phase}-{measured[:16]}.zip"


def package_name(plan_digest: str, round_number: int) -> str:
    return f"{plan_digest[:16]}-{round_number}.zip"


def write_evidence(
    home: Home,
    exchange: Exchange,
    *,
    plan_digest: str,
    round_number: int,
    path: Path | None = None,
    run_id: str | None = None,
    tighter: bool = True,
) -> Path:
    """Build a round's package from a coordinator's home and write it whole, by default into the home; its path."""
    with _opened(home, exchange) as (log, note):
        data = build(
            log,
            plan_digest=plan_digest,
            round_number=round_number,
            final_checkpoint=note,
            policy=policy_of(home.federation),
            run_id=run_id,
            tighter=tighter,
        )
    target = path or home.root / "evidence" / package_name(plan_digest, round_number)
    write_atomically(target, data)
    return target


def write_phase_evidence(
    home: Home,
    exchange: Exchange,
    *,
    phase: str,
    measured: str,
    path: Path | None = None,
    tighter: bool = True,
) -> Path:
    """As `write_evidence`, of a measured phase, with the reports that the home keeps of its drills."""
    reports = [found.read_bytes() for found in sorted((home.root / REPORTS).glob("*")) if found.is_file()]
    with _opened(home, exchange) as (log, note):
        data = build_phase(
            log,
            measured=measured,
            final_checkpoint=note,
            policy=policy_of(home.federation),
            reports=reports,
            tighter=tighter,
        )
    target = path or home.root / "evidence" / phase_package_name(phase, measured)
    write_atomically(target, data)
    return target


@contextmanager
def _opened(home: Home, exchange: Exchange) -> Iterator[tuple[Log, bytes]]:
    """The stored log, and a final checkpoint that it reaches beyond."""
    storage = ledger_storage(home)
    try:
        # The checkpoint first: a log that is read later holds all that it covers.
        note = exchange.get(mail.FINAL_CHECKPOINT)
        if note is None:
            raise NotFinalYetError("nothing on this ledger is final yet", remedy="Wait for the witnesses.")
        yield Log.open(storage), note
    finally:
        storage.close()


def plan_named(home: Home, beginning: str) -> str:
    """The digest of the one plan on a coordinator's ledger that begins so; UnknownPlanError."""
    storage = ledger_storage(home)
    try:
        log, found = Log.open(storage), set[str]()
        for entry in log.entries(0, log.size):
            event = parse_entry(entry).event
            digest = event.body.get("plan_digest")
            if event.type == "plan.published" and isinstance(digest, str) and digest.startswith(beginning):
                found.add(digest)
    finally:
        storage.close()
    if len(found) != 1:
        raise UnknownPlanError(
            f"{'no plan' if not found else f'{len(found)} plans'} on this ledger begin with {beginning[:64]!a}",
            remedy="Give the digest that `wardround ledger show` lists.",
        )
    return found.pop()


def _tighter(accounts: tuple[PoolAccount, ...]) -> bytes:
    figures: list[JsonValue] = [
        {"site": site, "epsilon": figure} for site, figure in tighter_figures(accounts).items()
    ]
    return canonical.encode({"schema_version": 1, "figures": figures})


def _lineage(registered: ModelRegistered | None, run_id: str) -> bytes:
    version = None if registered is None else registered.version
    name = None if registered is None else registered.model_name
    return canonical.encode({"schema_version": 1, "run_id": run_id, "model_name": name, "version": version})
