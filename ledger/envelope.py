"""DSSE envelopes: a typed payload and the signatures over it (secure-systems-lab/dsse, envelope.md).

    {"payload":"<base64>","payloadType":"<type>","signatures":[{"keyid":"<64 hex>","sig":"<base64>"}, ...]}

    signed bytes   PAE = "DSSEv1" SP len(type) SP type SP len(payload) SP payload      (protocol.md)

Stricter than DSSE asks: the envelope is canonical JSON (RFC 8785) without unknown fields, key ids are
required, distinct and sorted, and there is at least one signature: one set of statements, one byte string.
Tools such as securesystemslib read it as it is. What a payload means lives elsewhere.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ledger import canonical, encoding
from ledger.errors import InputError, VerificationError
from ledger.keys import BadSignatureError, Signer, VerificationKey

_KEYID = re.compile(r"[0-9a-f]{64}", re.ASCII)
MAX_SIGNATURES = 64


class MalformedEnvelopeError(InputError):
    code = "ledger.envelope.malformed"


class EnvelopeSignatureError(VerificationError):
    code = "ledger.envelope.signature"


class EnvelopeThresholdError(VerificationError):
    code = "ledger.envelope.threshold"


@dataclass(frozen=True, slots=True)
class Envelope:
    payload_type: str
    payload: bytes
    signatures: tuple[tuple[str, bytes], ...]  # (keyid, signature), sorted by keyid

    @property
    def keyids(self) -> tuple[str, ...]:
        return tuple(keyid for keyid, _ in self.signatures)

    def verify(self, keys: Mapping[str, VerificationKey], *, threshold: int = 1) -> None:
        """Return None if at least `threshold` of `keys` signed; a wrong signature of a known key raises."""
        if threshold < 1:
            raise ValueError("a threshold is at least 1")
        message = pae(self.payload_type, self.payload)
        valid = 0
        for keyid, signature in self.signatures:
            key = keys.get(keyid)
            if key is None or key.keyid != keyid:
                continue
            try:
                key.verify(signature, message)
            except BadSignatureError:
                raise EnvelopeSignatureError(f"the signature of key {keyid[:16]} does not verify") from None
            valid += 1
        if valid < threshold:
            raise EnvelopeThresholdError(f"{valid} of the {threshold} required known keys signed")

    def encode(self) -> bytes:
        return canonical.encode(
            {
                "payload": encoding.encode_base64(self.payload),
                "payloadType": self.payload_type,
                "signatures": [
                    {"keyid": keyid, "sig": encoding.encode_base64(signature)}
                    for keyid, signature in self.signatures
                ],
            }
        )


def pae(payload_type: str, payload: bytes) -> bytes:
    """DSSE's pre-authentication encoding, the bytes that are signed."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def sign(payload_type: str, payload: bytes, signers: Sequence[Signer]) -> Envelope:
    """Sign with every signer; each must hold a different key."""
    message = pae(payload_type, payload)
    signatures = sorted((signer.public.keyid, signer.sign(message)) for signer in signers)
    if not signatures:
        raise ValueError("an envelope needs at least one signer")
    if len({keyid for keyid, _ in signatures}) != len(signatures):
        raise ValueError("two signers hold the same key")
    return Envelope(payload_type, payload, tuple(signatures))


def parse(data: bytes) -> Envelope:
    """Parse the canonical bytes; no signature is verified."""
    value = canonical.decode(data)
    if not isinstance(value, dict) or value.keys() != {"payload", "payloadType", "signatures"}:
        raise MalformedEnvelopeError("an envelope has exactly 'payload', 'payloadType' and 'signatures'")
    payload, payload_type, listed = value["payload"], value["payloadType"], value["signatures"]
    if not isinstance(payload, str) or not isinstance(payload_type, str) or not isinstance(listed, list):
        raise MalformedEnvelopeError("an envelope field has the wrong type")
    if not 1 <= len(listed) <= MAX_SIGNATURES:
        raise MalformedEnvelopeError(
            f"an envelope carries 1 to {MAX_SIGNATURES} signatures", code="ledger.envelope.count"
        )
    signatures: list[tuple[str, bytes]] = []
    for item in listed:
        if not isinstance(item, dict) or item.keys() != {"keyid", "sig"}:
            raise MalformedEnvelopeError("a signature has exactly 'keyid' and 'sig'")
        keyid, signature = item["keyid"], item["sig"]
        if not isinstance(keyid, str) or not isinstance(signature, str) or not _KEYID.fullmatch(keyid):
            raise MalformedEnvelopeError("a key id is 64 hex digits", code="ledger.envelope.keyid")
        if signatures and keyid <= signatures[-1][0]:
            raise MalformedEnvelopeError(
                "signatures are sorted by key id and none appears twice", code="ledger.envelope.duplicate"
            )
        signatures.append((keyid, _base64(signature, "a signature")))
    return Envelope(payload_type, _base64(payload, "the payload"), tuple(signatures))


def _base64(text: str, what: str) -> bytes:
    return encoding.decode_base64(
        text, what=what, error=MalformedEnvelopeError, code="ledger.envelope.base64"
    )
