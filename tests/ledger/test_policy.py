"""Trust policies and finality."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger import checkpoint, cosignature, note
from ledger.checkpoint import Checkpoint
from ledger.cosignature import CosignatureError
from ledger.finality import (
    NotFinalError,
    QuorumError,
    UnknownLogError,
    finalized,
    is_final,
    merge_cosignatures,
    require_final,
)
from ledger.keys import MemorySigner
from ledger.note import NoteSignatureError
from ledger.policy import MalformedPolicyError, parse_policy, quorum, quorum_policy

LOG = MemorySigner("log", seed=b"log")
LOG_VKEY = str(note.vkey_of("origin", LOG))
SIGNERS = [MemorySigner(f"w{number}", seed=b"%d" % number) for number in range(6)]
VKEYS = [str(cosignature.vkey_of(signer.name, signer)) for signer in SIGNERS]
EXAMPLE = "\n".join(
    [
        "# the example of the specification, with keys, comments, tabs and an URL",
        f"log {LOG_VKEY} https://log.example/",
        "",
        *(f"\twitness X{n} {VKEYS[n - 1]}" for n in (1, 2, 3)),
        "group X-witnesses 2 X1 X2 X3",
        *(f"witness Y{n}  {VKEYS[n + 2]} " for n in (1, 2, 3)),
        "group Y-witnesses any Y1 Y2 Y3",
        "  # indented comment",
        "group X-and-Y all X-witnesses Y-witnesses",
        "quorum X-and-Y",
        "",
    ]
).encode()
HEAD = Checkpoint("origin", 5, bytes(32))


def cosign(number, head=HEAD, time_s=7):
    signer = SIGNERS[number]
    return cosignature.sign(head.text(), name=signer.name, signer=signer, time_s=time_s).line()


def noted(*numbers, head=HEAD):
    return checkpoint.sign(head, LOG) + b"".join(cosign(number, head) for number in numbers)


@pytest.mark.parametrize(
    ("n", "k"), [(1, 1), (2, 2), (3, 2), (4, 3), (5, 4), (6, 4), (7, 5), (8, 6), (10, 7), (13, 9)]
)
def test_quorum(n, k):
    assert quorum(n) == k


@given(st.integers(1, 1000))
def test_two_quorums_share_an_honest_witness_and_the_honest_are_enough(n):
    f = (n - 1) // 3
    assert 2 * quorum(n) - n > f
    assert quorum(n) <= n - f


def test_a_quorum_needs_a_witness():
    with pytest.raises(ValueError):
        quorum(0)


def test_the_specifications_example():
    policy = parse_policy(EXAMPLE)
    assert policy.quorum == "X-and-Y" and policy.logs[0].url == "https://log.example/"
    witnesses = {witness.name: witness.vkey for witness in policy.witnesses}
    for chosen in itertools.product([False, True], repeat=6):
        names = [name for name, taken in zip(witnesses, chosen, strict=True) if taken]
        expected = sum(name[0] == "X" for name in names) >= 2 and any(name[0] == "Y" for name in names)
        assert policy.satisfied_by({witnesses[name] for name in names}) == expected
    assert parse_policy(policy.serialise()) == policy


def test_no_quorum_and_a_single_witness():
    assert parse_policy(b"quorum none\n").satisfied_by(set())
    single = parse_policy(f"witness w {VKEYS[0]}\nquorum w\n".encode())
    assert not single.satisfied_by(set())
    assert single.satisfied_by({single.witnesses[0].vkey})


def test_names_are_opaque_bytes():
    policy = parse_policy(b"witness \xff\xe2 " + VKEYS[0].encode() + b"\nquorum \xff\xe2\n")
    assert policy.satisfied_by({policy.witnesses[0].vkey})
    assert parse_policy(policy.serialise()) == policy


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "ledger.policy.quorum"),
        ("quorum none", "ledger.policy.newline"),
        ("quorum none\nquorum none\n", "ledger.policy.quorum"),
        ("quorum w\n", "ledger.policy.undefined"),
        ("quorum\n", "ledger.policy.line"),
        ("rule a\n", "ledger.policy.line"),
        ("quorum\u00a0none\n", "ledger.policy.line"),
        ("quorum none\r\n", "ledger.policy.control"),
        ("log nonsense\nquorum none\n", "ledger.vkey.malformed"),
        ("log {w0}\nquorum none\n", "ledger.policy.key-type"),
        ("witness w {log}\nquorum w\n", "ledger.policy.key-type"),
        ("log {log}\nlog {log}\nquorum none\n", "ledger.policy.duplicate-key"),
        ("witness a {w0}\nwitness b {w0}\nquorum a\n", "ledger.policy.duplicate-key"),
        ("witness a {w0}\nwitness a {w1}\nquorum a\n", "ledger.policy.duplicate-name"),
        ("witness none {w0}\nquorum none\n", "ledger.policy.duplicate-name"),
        ("witness a {w0} u v\nquorum a\n", "ledger.policy.line"),
        ("witness a {w0}\ngroup a 1 a\nquorum a\n", "ledger.policy.duplicate-name"),
        ("witness a {w0}\ngroup g 2 a\nquorum g\n", "ledger.policy.threshold"),
        ("witness a {w0}\ngroup g 0 a\nquorum g\n", "ledger.policy.threshold"),
        ("witness a {w0}\ngroup g 01 a\nquorum g\n", "ledger.policy.threshold"),
        ("witness a {w0}\ngroup g -1 a\nquorum g\n", "ledger.policy.threshold"),
        ("witness a {w0}\ngroup g most a\nquorum g\n", "ledger.policy.threshold"),
        ("witness a {w0}\ngroup g 1\nquorum g\n", "ledger.policy.line"),
        ("group g 1 a\nwitness a {w0}\nquorum g\n", "ledger.policy.undefined"),
        ("group g 1 none\nquorum g\n", "ledger.policy.undefined"),
        ("witness a {w0}\ngroup g 2 a a\nquorum g\n", "ledger.policy.member"),
        ("witness a {w0}\ngroup g 1 a\ngroup h 1 a\nquorum g\n", "ledger.policy.member"),
        ("quorum g\nwitness g {w0}\n", "ledger.policy.undefined"),
    ],
)
def test_malformed_policies(text, code):
    filled = text.replace("{w0}", VKEYS[0]).replace("{w1}", VKEYS[1]).replace("{log}", LOG_VKEY)
    with pytest.raises(MalformedPolicyError) as caught:
        parse_policy(filled.encode())
    assert caught.value.code == code


# -- finality ------------------------------------------------------------------------------------------------

POLICY = quorum_policy(LOG_VKEY, VKEYS[:4])


def test_three_of_four_are_final_and_two_are_not():
    assert finalized(noted(0, 1, 2), log_vkey=LOG_VKEY, policy=POLICY) == HEAD
    assert finalized(noted(3, 1, 2), log_vkey=None, policy=POLICY) == HEAD
    with pytest.raises(QuorumError):
        finalized(noted(0, 1), log_vkey=LOG_VKEY, policy=POLICY)


def test_unknown_witnesses_do_not_count():
    with pytest.raises(QuorumError):
        finalized(noted(0, 1, 4, 5), log_vkey=LOG_VKEY, policy=POLICY)


def test_one_witness_under_two_names_does_not_count_twice():
    renamed = cosignature.sign(HEAD.text(), name="w9", signer=SIGNERS[0], time_s=7).line()
    with pytest.raises(QuorumError):
        finalized(noted(0, 1) + renamed, log_vkey=LOG_VKEY, policy=POLICY)


def test_a_wrong_cosignature_of_a_known_witness_spoils_the_note():
    other = Checkpoint("origin", 6, bytes(32))
    with pytest.raises(CosignatureError):
        finalized(noted(0, 1, 2) + cosign(3, other), log_vkey=LOG_VKEY, policy=POLICY)


def test_cosignatures_without_the_logs_signature_are_nothing():
    forged = checkpoint.sign(HEAD, MemorySigner("x")) + b"".join(cosign(number) for number in (0, 1, 2))
    with pytest.raises(NoteSignatureError):
        finalized(forged, log_vkey=LOG_VKEY, policy=POLICY)


def test_the_policy_names_the_log():
    other = MemorySigner("other")
    head = Checkpoint("elsewhere", 5, bytes(32))
    with pytest.raises(UnknownLogError):
        finalized(checkpoint.sign(head, other), log_vkey=None, policy=POLICY)


def test_an_index_is_final_when_it_is_covered():
    final, pending = noted(0, 1, 2), noted(0)
    require_final(4, final, log_vkey=LOG_VKEY, policy=POLICY)
    assert is_final(0, final, log_vkey=LOG_VKEY, policy=POLICY)
    assert not is_final(0, pending, log_vkey=LOG_VKEY, policy=POLICY)
    for index in (5, -1):
        assert not is_final(index, final, log_vkey=LOG_VKEY, policy=POLICY)
        with pytest.raises(NotFinalError):
            require_final(index, final, log_vkey=LOG_VKEY, policy=POLICY)


def test_merging_keeps_what_verifies_and_drops_the_rest():
    other = Checkpoint("origin", 6, bytes(32))
    blocks = [cosign(0), b"junk", cosign(1, other), cosign(4), cosign(2) + cosign(3), b""]
    merged = merge_cosignatures(checkpoint.sign(HEAD, LOG), blocks, policy=POLICY)
    assert [item.name for item in note.parse(merged).signatures] == ["origin", "w0", "w2", "w3"]
    assert finalized(merged, log_vkey=LOG_VKEY, policy=POLICY) == HEAD


def test_merging_keeps_the_latest_of_one_witness():
    start = checkpoint.sign(HEAD, LOG)
    one = merge_cosignatures(start, [cosign(0, time_s=9), cosign(0, time_s=8)], policy=POLICY)
    assert one == start + cosign(0, time_s=9)
    assert merge_cosignatures(one, [cosign(0, time_s=10)], policy=POLICY) == start + cosign(0, time_s=10)
