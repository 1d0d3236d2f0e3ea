"""Signed notes and verifier keys (c2sp.org/signed-note).

    <text, ending in a newline>
    <empty line>
    — <key name> <base64(4-byte key id || signature)>
    ...

    vkey     <key name>+<key id, 8 hex digits>+<base64(signature type || public key)>
    key id   SHA-256(<key name> || 0x0A || signature type || public key)[:4]
    types    0x01 Ed25519 over the note text      0x04 cosignature/v1, see `ledger.cosignature`

Parsing refuses what is not canonical, a key that signs twice included. What the text says lives in
`ledger.checkpoint`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass

from ledger import encoding
from ledger.errors import InputError, VerificationError
from ledger.keys import (
    BadSignatureError,
    KeyNameError,
    MalformedKeyError,
    Signer,
    VerificationKey,
    check_name,
)

ED25519 = 0x01
COSIGNATURE_V1 = 0x04
MAX_SIGNATURES = 100
MAX_NOTE_BYTES = 1_000_000
_KEY_ID = re.compile(r"[0-9a-f]{8}", re.ASCII)
_DASH = "— "


class MalformedNoteError(InputError):
    code = "ledger.note.malformed"


class MalformedVkeyError(InputError):
    code = "ledger.vkey.malformed"


class NoteSignatureError(VerificationError):
    code = "ledger.note.signature"


@dataclass(frozen=True, slots=True)
class VerifierKey:
    """A vkey: a name, a signature type and an Ed25519 public key."""

    name: str
    kind: int
    key: VerificationKey

    @property
    def key_id(self) -> bytes:
        material = self.name.encode() + b"\n" + bytes([self.kind]) + self.key.public_bytes
        return hashlib.sha256(material).digest()[:4]

    def __str__(self) -> str:
        public = encoding.encode_base64(bytes([self.kind]) + self.key.public_bytes)
        return f"{self.name}+{self.key_id.hex()}+{public}"


@dataclass(frozen=True, slots=True)
class NoteSignature:
    name: str
    key_id: bytes
    signature: bytes

    def line(self) -> bytes:
        return f"{_DASH}{self.name} {encoding.encode_base64(self.key_id + self.signature)}\n".encode()


@dataclass(frozen=True, slots=True)
class Note:
    """A parsed note. The text counts for nothing until a trusted key's signature was verified."""

    text: bytes
    signatures: tuple[NoteSignature, ...]

    def encode(self) -> bytes:
        return self.text + b"\n" + b"".join(signature.line() for signature in self.signatures)

    def by(self, vkey: VerifierKey) -> NoteSignature | None:
        """The signature line that carries this key's name and id."""
        for signature in self.signatures:
            if signature.name == vkey.name and signature.key_id == vkey.key_id:
                return signature
        return None


def vkey_of(name: str, signer: Signer, *, kind: int = ED25519) -> VerifierKey:
    """The vkey of a signer under `name`; notes are signed with Ed25519 only."""
    if signer.public.scheme != "ed25519":
        raise MalformedVkeyError("notes are signed with Ed25519 keys", code="ledger.vkey.scheme")
    return VerifierKey(check_name(name), kind, signer.public)


def parse_vkey(text: str) -> VerifierKey:
    """Parse a vkey of type Ed25519 or cosignature/v1; the key id must fit its name and key."""
    parts = text.split("+", 2)
    if len(parts) != 3 or not _KEY_ID.fullmatch(parts[1]):
        raise MalformedVkeyError("a verifier key is name+keyid+base64")
    material = encoding.decode_base64(
        parts[2], what="the verifier key", error=MalformedVkeyError, code="ledger.vkey.base64"
    )
    if not material or material[0] not in (ED25519, COSIGNATURE_V1):
        raise MalformedVkeyError("the verifier key's signature type is unknown", code="ledger.vkey.type")
    try:
        vkey = VerifierKey(check_name(parts[0]), material[0], VerificationKey("ed25519", material[1:]))
    except (KeyNameError, MalformedKeyError) as error:
        raise MalformedVkeyError(error.public_message) from None
    if vkey.key_id.hex() != parts[1]:
        raise MalformedVkeyError(
            "the verifier key's id does not fit its name and key", code="ledger.vkey.key-id"
        )
    return vkey


def parse_vkey_line(data: bytes) -> VerifierKey:
    """Parse a file that holds a vkey and a newline, and nothing else."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise MalformedVkeyError("the log key's file is not text") from None
    if not text.endswith("\n") or text.count("\n") != 1:
        raise MalformedVkeyError("the log key's file is one line")
    return parse_vkey(text[:-1])


def parse(data: bytes) -> Note:
    """Split a note into text and signatures; nothing is verified."""
    if len(data) > MAX_NOTE_BYTES:
        raise MalformedNoteError("the note is over 1,000,000 bytes", code="ledger.note.too-large")
    try:
        note = data.decode()
    except UnicodeDecodeError:
        raise MalformedNoteError("the note is not UTF-8", code="ledger.note.utf-8") from None
    if any(character < " " and character != "\n" for character in note):
        raise MalformedNoteError("the note holds control characters", code="ledger.note.control")
    text, separator, block = note.rpartition("\n\n")
    if not separator or not block.endswith("\n"):
        raise MalformedNoteError("a note is text, an empty line, and signature lines")
    signatures = parse_signatures(block.encode())
    return Note(text.encode() + b"\n", signatures)


def parse_signatures(block: bytes) -> tuple[NoteSignature, ...]:
    """Parse one or more signature lines, such as a witness returns."""
    try:
        lines = block.decode().split("\n")
    except UnicodeDecodeError:
        raise MalformedNoteError("a signature line is not UTF-8", code="ledger.note.utf-8") from None
    if lines.pop() != "" or not lines:
        raise MalformedNoteError("a signature line ends in a newline")
    if len(lines) > MAX_SIGNATURES:
        raise MalformedNoteError(f"more than {MAX_SIGNATURES} signatures", code="ledger.note.count")
    signatures = tuple(_parse_line(line) for line in lines)
    if len({(signature.name, signature.key_id) for signature in signatures}) != len(signatures):
        raise MalformedNoteError("one key signed the note twice", code="ledger.note.duplicate")
    return signatures


def _parse_line(line: str) -> NoteSignature:
    parts = line.split(" ")
    if len(parts) != 3 or parts[0] + " " != _DASH:
        raise MalformedNoteError("a signature line is '— name base64'", code="ledger.note.line")
    try:
        check_name(parts[1])
    except KeyNameError:
        raise MalformedNoteError("a signature line has no valid key name", code="ledger.note.name") from None
    data = encoding.decode_base64(
        parts[2], what="a note signature", error=MalformedNoteError, code="ledger.note.base64"
    )
    if len(data) <= 4:
        raise MalformedNoteError("a note signature has no bytes after its key id", code="ledger.note.short")
    return NoteSignature(parts[1], data[:4], data[4:])


def sign(text: bytes, name: str, signer: Signer) -> NoteSignature:
    """Sign a note text with an Ed25519 key of type 0x01."""
    vkey = vkey_of(name, signer)
    return NoteSignature(vkey.name, vkey.key_id, signer.sign(text))


def verify(note: Note, vkeys: Iterable[VerifierKey]) -> None:
    """Return None if at least one of the Ed25519 `vkeys` signed and none of them signed wrongly."""
    valid = 0
    for vkey in vkeys:
        signature = note.by(vkey)
        if signature is None or vkey.kind != ED25519:
            continue
        try:
            vkey.key.verify(signature.signature, note.text)
        except BadSignatureError:
            raise NoteSignatureError(f"the note signature of {vkey.name} does not verify") from None
        valid += 1
    if not valid:
        raise NoteSignatureError("no trusted key signed the note", code="ledger.note.unsigned")
