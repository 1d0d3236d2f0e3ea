"""The story that the ledger is for: a coordinator rewrites one past event, as well as anybody could.

It holds the log key, the database and its own member key, so that all it writes fits together and is signed. The
four hospitals and an auditor hold what they were shown before.
"""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from ledger import checkpoint, cosignature, note, proof
from ledger.chain import EventChain
from ledger.cosignature import CosignatureError
from ledger.errors import VerificationError
from ledger.event import Event, parse_entry, sign_event
from ledger.export import ExportDivergedError, export
from ledger.finality import QuorumError, finalized, is_final, merge_cosignatures
from ledger.keys import MemorySigner
from ledger.log import Log, RolledBackError
from ledger.memory import MemoryStorage
from ledger.proof import TlogProof
from ledger.sqlite import SqliteStorage
from ledger.witness import Witness
from ledger.witness_storage import SqliteWitnessStorage
from tests.ledger.witnessing import ask, refused

REWRITTEN = 5  # the second event of site-a
FINAL = 11


def resigned(entries, federation):
    """Another text in the hospital's place; of the keys that the coordinator holds, its own is the best."""
    event = parse_entry(entries[REWRITTEN]).event
    lie = Event(**{**event.to_json(), "body": {"number": 0, "study": "another"}})
    return [*entries[:REWRITTEN], sign_event(lie, [federation.coordinator.signer]), *entries[REWRITTEN + 1 :]]


def dropped(entries, federation):
    return entries[:REWRITTEN] + entries[REWRITTEN + 1 :]


def swapped(entries, federation):
    """With the event of another hospital: every institution's own chain is as it was."""
    one, other = entries[REWRITTEN : REWRITTEN + 2]
    return [*entries[:REWRITTEN], other, one, *entries[REWRITTEN + 2 :]]


def test_a_rewritten_event_is_caught_by_everybody(rewriting, make_federation, tmp_path):
    rewrite, no_resuming, unwitnessed = rewriting
    # Four hospitals and a coordinator, each with a disk of its own, run a federation for a while.
    federation = make_federation(storage=SqliteStorage(tmp_path / "coordinator.db"))
    disks = {name: tmp_path / f"{name}.db" for name in federation.names}
    federation.witnesses = {name: found(federation, name, disks[name]) for name in disks}
    federation.grow(FINAL)
    final = federation.cosign()
    assert is_final(FINAL - 1, final, log_vkey=federation.log.vkey, policy=federation.policy)
    # An auditor keeps the export, and an offline proof of one event.
    export(federation.log, tmp_path / "kept", final, policy=federation.policy)
    assert verify(tmp_path / "kept", federation)["ok"]
    entry = federation.log.entry(REWRITTEN)
    kept = TlogProof(REWRITTEN, federation.log.inclusion_proof(REWRITTEN, FINAL), final)
    kept.verify(entry, log_vkey=None, policy=federation.policy)

    # The coordinator changes one past event, rebuilds its database around it, signs it all, and goes on.
    true_entries = list(federation.log.entries(0, FINAL))
    log = rebuilt(SqliteStorage(tmp_path / "rebuilt.db"), rewrite, federation)
    assert (
        Log.open(SqliteStorage(tmp_path / "rebuilt.db")).root == log.root
    )  # nothing in it contradicts itself

    # 1. Every hospital refuses. Each keeps the proof of what the log key signed, which anybody can check.
    lines = []
    for name, witness in federation.witnesses.items():
        assert refused(lambda w=witness: lines.append(ask(w, log))) == "ledger.witness.equivocation"
        (evidence,) = witness.evidence()
        path = tmp_path / f"{name}.evidence"
        path.write_bytes(evidence)
        command = [sys.executable, "-m", "ledger", "verify", str(path), "--vkey"]
        if name == federation.names[0]:  # the others' are alike
            shown = subprocess.run([*command, federation.log.vkey], capture_output=True, text=True)
            assert (shown.returncode, shown.stdout[:7]) == (0, "proven:"), shown
            blamed = subprocess.run(
                [*command, str(note.vkey_of(log.origin, MemorySigner("innocent")))], capture_output=True
            )
            assert blamed.returncode == 3
    # So it does after a restart from its disk, however it is asked; and the rewritten past resumes nobody.
    for name, disk in disks.items():
        witness = reopened(federation, name, disk)
        assert refused(lambda w=witness: w.resume(log.entries(0, FINAL))) == no_resuming
        witness.resume(true_entries)
        for start in (0, FINAL):
            assert refused(lambda w=witness, s=start: ask(w, log, start=s)) == "ledger.witness.equivocation"

    # 2. The auditor's check of what the coordinator exports now fails at the quorum.
    export(log, tmp_path / "rewritten", policy=federation.policy)
    assert failed_check(tmp_path / "rewritten", federation) == (4, "quorum", None)
    # If it leaves the policy out, the hospitals' own signatures tell, or the witnesses named by the founding.
    (tmp_path / "rewritten" / "policy").unlink()
    assert failed_check(tmp_path / "rewritten", federation) == unwitnessed
    # Nor can the old export be continued, or the database pass for the one that was published.
    with pytest.raises(ExportDivergedError):
        export(log, tmp_path / "kept", log.checkpoint())
    with pytest.raises(RolledBackError):
        Log.open(SqliteStorage(tmp_path / "rebuilt.db"), published=final)

    # 3. The auditor's proof still holds under the checkpoint it came with, and under no later one.
    kept.verify(entry, log_vkey=None, policy=federation.policy)
    for hashes in (kept.hashes, log.inclusion_proof(REWRITTEN, log.size)):
        moved = proof.parse(TlogProof(REWRITTEN, hashes, log.checkpoint()).encode())
        with pytest.raises(VerificationError):
            moved.verify(entry, log_vkey=federation.log.vkey, policy=None)

    # 4. Nothing of it becomes final: not by what the hospitals answered, not with old cosignatures pasted under
    #    it, not with one hostile witness.
    assert lines == []
    head, signed = checkpoint.parse(log.checkpoint())
    old = [line.line() for line in note.parse(final).signatures[1:]]
    assert merge_cosignatures(log.checkpoint(), old, policy=federation.policy) == log.checkpoint()
    with pytest.raises(CosignatureError):
        finalized(log.checkpoint() + b"".join(old), log_vkey=None, policy=federation.policy)
    liar = federation.cosigners[federation.names[0]]
    lie = cosignature.sign(signed.text, name=liar.name, signer=liar, time_s=1).line()
    with pytest.raises(QuorumError):
        finalized(log.checkpoint() + lie, log_vkey=None, policy=federation.policy)
    assert not any(
        is_final(index, log.checkpoint() + lie, log_vkey=None, policy=federation.policy)
        for index in range(head.size)
    )


@pytest.fixture(
    params=[
        # what is done, why it resumes no witness, and the check (number, name, index) that finds it without a policy
        (resigned, "ledger.witness.resume", (8, "events", REWRITTEN)),
        (
            dropped,
            "ledger.witness.resume",
            (8, "events", REWRITTEN + 3),
        ),  # where site-a's next event now stands
        (swapped, "ledger.witness.resume", (9, "founding", None)),  # each chain holds: only cosignatures tell
    ],
    ids=lambda param: param[0].__name__,
)
def rewriting(request):
    return request.param


@pytest.mark.parametrize("rewrite", [resigned, dropped, swapped])
def test_at_a_power_of_two_the_hospitals_refuse_though_nothing_is_proven(federation, rewrite):
    """There the consistency proof leaves the old root out; a checkpoint of that very size proves it nevertheless."""
    federation.grow(8)
    federation.cosign()
    log = rebuilt(MemoryStorage(), rewrite, federation)
    early = checkpoint.sign(checkpoint.Checkpoint(log.origin, 8, log.root_at(8)), federation.log_signer)
    for witness in federation.witnesses.values():
        assert refused(lambda w=witness: ask(w, log), VerificationError) == "ledger.proof.consistency"
        assert witness.evidence() == ()
        assert refused(lambda w=witness: w.observe(early)) == "ledger.witness.equivocation"
        assert len(witness.evidence()) == 1


def rebuilt(storage, rewrite, federation):
    """The log with one past event rewritten, from its first entry to a new signature, and three events more."""
    log = Log.create(storage, origin=federation.log.origin, signer=federation.log_signer)
    log.append(rewrite(list(federation.log.entries(0, federation.log.size)), federation))
    log.append([federation.coordinator.event("x.y") for _ in range(3)])
    return log


def verify(path, federation):
    """What the auditor runs: the report, and the exit code."""
    command = [sys.executable, "-m", "ledger", "verify", str(path), "--vkey", federation.log.vkey, "--json"]
    done = subprocess.run(command, capture_output=True, text=True)
    report = json.loads(done.stdout)
    assert (done.returncode, report["ok"]) in ((0, True), (3, False)), done
    return report


def failed_check(path, federation):
    """(number, name, index) of the check at which the auditor's command stops."""
    last = verify(path, federation)["checks"][-1]
    assert last["outcome"] == "failed"
    return last["number"], last["name"], last["index"]


def found(federation, name, disk):
    return Witness.create(
        SqliteWitnessStorage(disk),
        log_vkey=federation.log.vkey,
        signer=federation.cosigners[name],
        gate=EventChain(federation.log.origin),
        clock=lambda: federation.now_s,
    )


def reopened(federation, name, disk):
    return Witness.open(
        SqliteWitnessStorage(disk),
        signer=federation.cosigners[name],
        gate=EventChain(federation.log.origin),
        clock=lambda: federation.now_s,
    )
