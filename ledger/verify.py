"""Offline verification of a log in static files, ours or anybody's: every byte is checked, or named as not.

     1 keys          the log key and the policy parse; from the caller, or (trust on first use) the directory
     2 checkpoint    it parses
     3 signature     the log key signed it, for its own origin
     4 quorum        a quorum of the policy's witnesses cosigned it; every known witness's line verifies
     5 entries       every bundle holds exactly its entries, and they hash to their level-0 tile
     6 tiles         every tile equals what the entries hash to, the ones of older sizes included
     7 root          the entries lead to the checkpoint's root
     8 events        every entry is an event, signed by its institution, in sequence (`ledger.chain`)
     9 founding      if the founding event, which every member signed, names a log key and witnesses, they are
                     the very ones that were trusted above

Memory stays flat: one bundle and one tile per level. Where the files lie is `ledger.static_files`' affair; where
they cannot be listed, check 6 says that it did not look for files of older sizes. For a SQLite ledger see
`verify_database`, whose checks are alike. The report lives in `ledger.report`, the printing in `ledger.commands`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ledger import canonical, checkpoint, finality, note
from ledger.checkpoint import Checkpoint
from ledger.errors import InputError
from ledger.event import parse_entry
from ledger.export import CHECKPOINT, POLICY, VKEY
from ledger.note import Note, VerifierKey
from ledger.policy import Policy, parse_policy, quorum_policy
from ledger.report import Checklist, Mismatch, Report
from ledger.static_files import Folder, StaticFiles
from ledger.verify_database import verify_database
from ledger.verify_tree import Events, Progress, walk

__all__ = ["Events", "Progress", "verify_database", "verify_directory", "verify_static"]


class NoLedgerError(InputError):
    code = "ledger.verify.no-ledger"


@dataclass(frozen=True, slots=True)
class _Texts:
    """What lies beside the tiles, read once: whoever serves it may change it between two reads."""

    checkpoint: bytes
    vkey: bytes | None
    policy: bytes | None


def verify_directory(
    path: Path,
    *,
    log_vkey: VerifierKey | str | None = None,
    policy: Policy | None = None,
    progress: Progress | None = None,
    events: Events = "auto",
) -> Report:
    """`verify_static` over a folder."""
    with Folder(path) as files:
        return verify_static(files, log_vkey=log_vkey, policy=policy, progress=progress, events=events)


def verify_static(
    files: StaticFiles,
    *,
    log_vkey: VerifierKey | str | None = None,
    policy: Policy | None = None,
    progress: Progress | None = None,
    events: Events = "auto",
) -> Report:
    """Return the report if every check passed, else raise VerificationFailedError that carries it.

    `events`: "require" that entries are our events, "skip" looking, or "auto": required if a policy of ours
    lies beside them or entry 0 is an event. UnreadableError, without a verdict, if the files cannot be had.
    """
    data = files.read(CHECKPOINT)
    if data is None:
        raise NoLedgerError("there is no checkpoint here", remedy="Name a static export of a ledger.")
    texts = _Texts(data, files.read(VKEY), files.read(POLICY))
    run = Checklist()
    if events == "auto" and policy is None and texts.policy is not None:
        events = "require"  # it claims to be an export of ours
    given = note.parse_vkey(log_vkey) if isinstance(log_vkey, str) else log_vkey
    if given is None and texts.vkey is None and texts.policy is None:
        raise NoLedgerError(
            "no log key was given and none lies here", remedy="Give --vkey.", code="ledger.verify.no-key"
        )
    key, trusted = _keys(run, texts, given, policy)
    head = _head(run, texts.checkpoint, key, trusted, own=policy is None)
    founding = walk(run, files, head, progress=progress, events=events)
    _founding(run, founding, key, trusted, texts.checkpoint)
    return run.report


def _keys(
    run: Checklist, texts: _Texts, given: VerifierKey | None, policy: Policy | None
) -> tuple[VerifierKey, Policy | None]:
    with run.check("keys", "keys to trust") as details:
        taken = []
        if policy is None and texts.policy is not None:
            policy = _own_policy(texts.policy)
            taken.append(POLICY)
        key = given
        if key is None and texts.vkey is not None:
            key = note.parse_vkey_line(texts.vkey)
            taken.append(VKEY)
        if key is None and policy is not None and len(policy.logs) == 1:
            key = policy.logs[0].vkey
        if key is None:
            raise Mismatch("the policy does not name one log")
        if policy is not None and policy.logs and all(log.vkey != key for log in policy.logs):
            raise Mismatch("the log key is not one of the policy's")
        if given is not None and texts.vkey is not None and note.parse_vkey_line(texts.vkey) != key:
            raise Mismatch("the log key that lies here is another one than the one given")
        if taken:
            run.report.trusted_on_first_use = True
            run.report.notices.append(
                f"{' and '.join(taken)} came with the ledger itself (trust on first use): compare them with what "
                "the members published"
            )
        details.append(f"log key {key}")
    return key, policy


def _own_policy(data: bytes) -> Policy:
    """The policy that an export holds, which must be exactly what a federation's is: nothing weaker."""
    policy = parse_policy(data)
    if len(policy.logs) != 1 or not policy.witnesses:
        raise Mismatch("the policy that lies here is not one of a federation")
    expected = quorum_policy(policy.logs[0].vkey, [witness.vkey for witness in policy.witnesses])
    if expected.serialise() != data:
        raise Mismatch("the policy that lies here is not the quorum rule over its witnesses")
    return policy


def _head(run: Checklist, data: bytes, key: VerifierKey, policy: Policy | None, *, own: bool) -> Checkpoint:
    report = run.report
    with run.check("checkpoint", "checkpoint parses") as details:
        head, signed = checkpoint.parse(data)
        report.origin, report.size, report.root = head.origin, head.size, head.root
        details.append(f"{head.origin}, size {head.size}, root {head.root.hex()}")
    with run.check("signature", "the log signed it"):
        checkpoint.verify(data, key)
    if policy is None:
        run.skip("quorum", "a quorum of witnesses cosigned it", "no policy was given")
    else:
        with run.check("quorum", "a quorum of witnesses cosigned it") as details:
            finality.finalized(data, log_vkey=key, policy=policy)
            report.cosigners = tuple(item.vkey.name for item in finality.cosignatures(signed, policy))
            details.append(f"{', '.join(report.cosigners)}; needed {policy.describe()}")
            if own and _unknown(signed, key, policy):
                raise Mismatch("the checkpoint carries a signature of nobody whom the policy names")
    if not own or policy is None:
        unknown = len(signed.signatures) - 1 if policy is None else _unknown(signed, key, policy)
        if unknown:
            report.notices.append(f"{unknown} signatures of unknown keys were ignored")
    return head


def _unknown(signed: Note, key: VerifierKey, policy: Policy) -> int:
    known = (key, *(witness.vkey for witness in policy.witnesses), *(log.vkey for log in policy.logs))
    named = {(vkey.name, vkey.key_id) for vkey in known}
    return sum((item.name, item.key_id) not in named for item in signed.signatures)


def _founding(
    run: Checklist, entry: bytes | None, key: VerifierKey, policy: Policy | None, head: bytes
) -> None:
    title = "the founding event names the same log key and witnesses"
    if entry is None:
        run.skip("founding", title, "there is no founding event")
        return
    body = parse_entry(entry).event.body
    members = body.get("members")
    listed = (
        [item.get("witness_vkey") for item in members if isinstance(item, dict)]
        if isinstance(members, list)
        else []
    )
    named = sorted(vkey for vkey in listed if isinstance(vkey, str))
    if "log_vkey" not in body and not named:
        run.skip("founding", title, "it names none")
        return
    with run.check("founding", title) as details:
        if body.get("log_vkey") != str(key):
            raise Mismatch("the founding event names another log key", index=0)
        if policy is not None and named != sorted(str(witness.vkey) for witness in policy.witnesses):
            raise Mismatch("the founding event names other witnesses than the policy", index=0)
        if policy is None and named:
            # A folder without its policy is no way round the quorum: the founding event says who must cosign.
            finality.finalized(head, log_vkey=key, policy=quorum_policy(key, named))
        # What the members signed is this document: SHA-256 of their federation.json, to be compared with theirs.
        details.append(f"{len(named)} witnesses; document {canonical.digest(canonical.encode(body))}")
