"""Signed notes, vkeys, checkpoints and cosignatures: the specifications' examples and what they forbid."""

from __future__ import annotations

import pytest

from ledger import checkpoint, cosignature, note
from ledger.checkpoint import Checkpoint, CheckpointOriginError, MalformedCheckpointError
from ledger.cosignature import CosignatureError
from ledger.errors import InputError
from ledger.keys import MemorySigner
from ledger.note import MalformedNoteError, MalformedVkeyError, NoteSignatureError
from ledger.tree import EMPTY_ROOT

VKEY = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
NOTE = """This is an example message.

— example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=
""".encode()
QUASIMODO = """Ognuno sta solo sul cuor della terra
trafitto da un raggio di sole:

ed è subito sera.

— quasimodo.example/salvatore NnugSzTjtVAewIS+Z/iJhUPeFDkO/5QQ2i5ddnGITLlC+EhfLW9oJKONrMouFSQU0xMcXxj99ihAQwaqP3ZekRwNtIc=
""".encode()  # noqa: E501
COSIGNED = """example.com/behind-the-sofa
20852163
CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=

— example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=
— witness.example.com/w1 jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2oyin1nPZqhf5nNo0xUe+mbIUBkBIfZ+qnA==
""".encode()  # noqa: E501
LOG = MemorySigner("log", seed=b"log")
WITNESS = MemorySigner("w1", seed=b"w1")


def code(call, error=InputError):
    with pytest.raises(error) as caught:
        call()
    return caught.value.code


# -- the specifications' examples ----------------------------------------------------------------------------


def test_the_example_vkey_verifies_the_example_note():
    vkey = note.parse_vkey(VKEY)
    assert (vkey.name, vkey.key_id.hex(), vkey.kind, str(vkey)) == ("example.com/foo", "530d903a", 1, VKEY)
    parsed = note.parse(NOTE)
    note.verify(parsed, [vkey])
    assert parsed.text == b"This is an example message.\n"
    assert parsed.encode() == NOTE


def test_a_text_may_hold_empty_lines():
    parsed = note.parse(QUASIMODO)
    assert parsed.text.decode().endswith("\n\ned è subito sera.\n")
    assert parsed.encode() == QUASIMODO


def test_the_example_checkpoint_with_its_cosignature():
    head, signed = checkpoint.parse(COSIGNED)
    assert (head.origin, head.size, head.extensions) == ("example.com/behind-the-sofa", 20852163, ())
    assert head.text() == signed.text
    assert [item.name for item in signed.signatures] == [
        "example.com/behind-the-sofa",
        "witness.example.com/w1",
    ]
    assert int.from_bytes(signed.signatures[1].signature[:8]) == 1679315147
    assert cosignature.message(signed.text, 1679315147).startswith(
        b"cosignature/v1\ntime 1679315147\nexample.com/behind-the-sofa\n20852163\n"
    )


# -- vkeys ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "ledger.vkey.malformed"),
        ("example.com/foo+530d903a", "ledger.vkey.malformed"),
        (VKEY.replace("530d903a", "530D903A"), "ledger.vkey.malformed"),
        (VKEY.replace("530d903a", "530d903b"), "ledger.vkey.key-id"),
        (VKEY.replace("example.com/foo", "example.com/fop"), "ledger.vkey.key-id"),
        (VKEY.replace("example.com/foo", ""), "ledger.vkey.malformed"),
        (VKEY.replace("+Aeky", "+Beky"), "ledger.vkey.type"),
        (VKEY + "=", "ledger.vkey.base64"),
        (VKEY[:-4], "ledger.vkey.malformed"),
    ],
)
def test_malformed_vkeys(text, expected):
    assert code(lambda: note.parse_vkey(text), MalformedVkeyError) == expected


def test_notes_need_an_ed25519_key():
    with pytest.raises(MalformedVkeyError):
        note.vkey_of("x", MemorySigner("x", scheme="ecdsa-p256"))


# -- notes ---------------------------------------------------------------------------------------------------

LINE = NOTE.partition(b"\n\n")[2]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", "ledger.note.malformed"),
        (b"text\n", "ledger.note.malformed"),
        (b"text\n\n", "ledger.note.malformed"),
        (NOTE[:-1], "ledger.note.malformed"),
        (NOTE + b"\n", "ledger.note.malformed"),
        (b"\xff" + NOTE, "ledger.note.utf-8"),
        (b"a\tb\n\n" + LINE, "ledger.note.control"),
        (NOTE + LINE, "ledger.note.duplicate"),
        (NOTE.replace(b" Uw2", b"  Uw2"), "ledger.note.line"),
        (NOTE.replace("—".encode(), b"-"), "ledger.note.line"),
        (NOTE.replace(b"example.com/foo", b"a+b"), "ledger.note.name"),
        (NOTE.replace(b"example.com/foo", "a\u00a0b".encode()), "ledger.note.name"),
        (NOTE.replace(b"aQM=", b"aQN="), "ledger.note.base64"),
        (NOTE.replace(b"aQM=", b"aQM"), "ledger.note.base64"),
        (b"text\n\n" + "— a AAAAAA==\n".encode(), "ledger.note.short"),
        (b"text\n\n" + "".join(f"— a{n} AAAAAAA=\n" for n in range(101)).encode(), "ledger.note.count"),
        (b"x" * 1_000_001, "ledger.note.too-large"),
    ],
)
def test_malformed_notes(data, expected):
    assert code(lambda: note.parse(data), MalformedNoteError) == expected


def test_unknown_signatures_are_ignored_but_one_known_is_needed():
    vkey = note.parse_vkey(VKEY)
    unknown = note.sign(b"This is an example message.\n", "someone", LOG).line()
    note.verify(note.parse(NOTE + unknown), [vkey])
    with pytest.raises(NoteSignatureError):
        note.verify(note.parse(b"This is an example message.\n\n" + unknown), [vkey])


def test_a_wrong_signature_of_a_known_key_spoils_the_note():
    text = b"text\n"
    good, other = note.sign(text, "log", LOG), note.sign(b"other\n", "w1", WITNESS)
    vkeys = [note.vkey_of("log", LOG), note.vkey_of("w1", WITNESS)]
    note.verify(note.Note(text, (good,)), vkeys)
    with pytest.raises(NoteSignatureError):
        note.verify(note.Note(text, (good, other)), vkeys)


# -- checkpoints ---------------------------------------------------------------------------------------------

ROOT = "CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I="


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("origin\n5\n", "ledger.checkpoint.malformed"),
        (f"origin\n5\n{ROOT}", "ledger.checkpoint.malformed"),
        (f"origin\n05\n{ROOT}\n", "ledger.checkpoint.size"),
        (f"origin\n+5\n{ROOT}\n", "ledger.checkpoint.size"),
        (f"origin\n-5\n{ROOT}\n", "ledger.checkpoint.size"),
        (f"origin\n٥\n{ROOT}\n", "ledger.checkpoint.size"),
        (f"origin\n{2**63}\n{ROOT}\n", "ledger.checkpoint.size"),
        (f"origin\n5\n{ROOT[:-1]}\n", "ledger.checkpoint.root"),
        ("origin\n5\nAAAA\n", "ledger.checkpoint.root"),
        (f"origin\n5\n{ROOT.replace('2I=', '2J=')}\n", "ledger.checkpoint.root"),
        (f"origin\n0\n{ROOT}\n", "ledger.checkpoint.empty-root"),
        (f"\n5\n{ROOT}\n", "ledger.checkpoint.line"),
        (f"origin\n5\n{ROOT}\n\n", "ledger.checkpoint.line"),
    ],
)
def test_malformed_checkpoints(text, expected):
    assert code(lambda: checkpoint.parse_text(text.encode()), MalformedCheckpointError) == expected


def test_unknown_extension_lines_are_kept():
    text = f"origin\n{2**63 - 1}\n{ROOT}\nextra 1\nanother\n".encode()
    parsed = checkpoint.parse_text(text)
    assert parsed.extensions == ("extra 1", "another") and parsed.size == 2**63 - 1
    assert parsed.text() == text


def test_a_checkpoint_is_the_log_keys_and_of_its_origin():
    vkey = note.vkey_of("origin", LOG)
    head = Checkpoint("origin", 0, EMPTY_ROOT)
    assert checkpoint.verify(checkpoint.sign(head, LOG), vkey) == head
    with pytest.raises(NoteSignatureError):
        checkpoint.verify(checkpoint.sign(head, WITNESS), vkey)
    text = Checkpoint("elsewhere", 0, EMPTY_ROOT).text()
    foreign = note.Note(text, (note.sign(text, "origin", LOG),)).encode()
    with pytest.raises(CheckpointOriginError):
        checkpoint.verify(foreign, vkey)


# -- cosignatures --------------------------------------------------------------------------------------------


def cosigned(text=b"origin\n", *, time_s=5):
    return cosignature.sign(text, name="w1", signer=WITNESS, time_s=time_s)


def test_a_cosignature_covers_the_text_and_the_time():
    vkey = cosignature.vkey_of("w1", WITNESS)
    line = cosigned()
    found = cosignature.find(note.Note(b"origin\n", (line,)), vkey)
    assert found is not None and found.time_s == 5
    later = note.NoteSignature(line.name, line.key_id, b"\0\0\0\0\0\0\0\6" + line.signature[8:])
    for text, signature in ((b"other\n", line), (b"origin\n", later)):
        with pytest.raises(CosignatureError):
            cosignature.find(note.Note(text, (signature,)), vkey)


@pytest.mark.parametrize("signature", [b"", b"\0" * 8 + b"x" * 64, b"\xff" * 8 + b"x" * 64, b"x" * 73])
def test_malformed_cosignatures(signature):
    vkey = cosignature.vkey_of("w1", WITNESS)
    with pytest.raises(CosignatureError):
        cosignature.find(note.Note(b"origin\n", (note.NoteSignature("w1", vkey.key_id, signature),)), vkey)


def test_a_log_signature_of_the_same_key_is_no_cosignature():
    vkey = cosignature.vkey_of("w1", WITNESS)
    signed = note.Note(b"origin\n", (note.sign(b"origin\n", "w1", WITNESS),))
    assert cosignature.find(signed, vkey) is None
    assert cosignature.find(signed, note.vkey_of("w1", WITNESS)) is None


def test_a_cosignature_has_a_time():
    with pytest.raises(ValueError):
        cosigned(time_s=0)
