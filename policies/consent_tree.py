"""What the ledger gets of a site's consents: one keyed Merkle root a cadence, from which nothing can be read.

    key_c   HKDF-SHA256(secret, info = "wardround/consent-root/v1" 00 || cadence, u64 big endian)
    salt    HMAC-SHA256(key_c, "record" 00 || record)          record: its canonical JSON (RFC 8785)
    entry   HMAC-SHA256(salt, record)                          of a consent
            HMAC-SHA256(key_c, "padding" 00 || number, u64)    of the others
    tree    all entries in the order of their bytes, RFC 6962 section 2.1, the next power of two and at least 1,024

Every cadence has its own key, so that an unchanged and a changed state look alike. Padding is sorted in among the
consents: neither the root nor the place of a record in a proof tells how many there are, only a power of two does,
and only to whoever is shown a proof. A proof brings the salt of its one record and opens no other. It shows that a
record was in the state that the root stands for, not that no other record was. Nothing is stored here.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Sequence
from typing import Annotated, Final, Literal

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from pydantic import Field

from ledger import tree
from ledger.errors import InputError, VerificationError
from policies.consent import ConsentRecord
from policies.document import Digest, Document

MINIMUM_LEAVES: Final = 1024
_ROOT_LABEL: Final = b"wardround/consent-root/v1\x00"
_RECORD_LABEL: Final = b"record\x00"
_PADDING_LABEL: Final = b"padding\x00"
_JSON: Final = json.JSONEncoder(sort_keys=True, separators=(",", ":"))


class ConsentNotListedError(InputError):
    code = "consent.not-listed"


class ConsentProofError(VerificationError):
    code = "consent.proof"


class ConsentProof(Document):
    """That one record was in the state behind a root. For the record's patient or an auditor; never published."""

    schema_version: Literal[1]
    cadence: Annotated[int, Field(ge=0, lt=2**53)]
    record: ConsentRecord
    salt: Digest
    index: Annotated[int, Field(ge=0, lt=2**53)]
    size: Annotated[int, Field(ge=MINIMUM_LEAVES, lt=2**53)]
    path: Annotated[tuple[Digest, ...], Field(max_length=tree.MAX_PROOF)]


def ledger_secret(secret: bytes, origin: str) -> bytes:
    """The secret of one ledger's roots, from the site's: two federations that a hospital is in publish roots that
    look unrelated, also over the same state."""
    return hmac.new(secret, b"wardround/consent-ledger/v1\x00" + origin.encode(), hashlib.sha256).digest()


def consent_root(records: Sequence[ConsentRecord], *, secret: bytes, cadence: int) -> str:
    """The root in hex. `secret`: the site's, at least 16 bytes; `cadence`: its number since 1970."""
    entries = _entries([record_bytes(record) for record in records], _key(secret, cadence))
    return tree.perfect_root(tree.leaf_hashes(entries)).hex()


def prove(
    records: Sequence[ConsentRecord], record: ConsentRecord, *, secret: bytes, cadence: int
) -> ConsentProof:
    """The proof of one of the records. Raises ConsentNotListedError if it is not among them."""
    if record not in records:
        raise ConsentNotListedError("this consent is not among the site's records")
    key = _key(secret, cadence)
    entries = _entries([record_bytes(each) for each in records], key)
    salt = _salt(key, record_bytes(record))
    index = entries.index(_entry(salt, record_bytes(record)))
    leaves = tree.leaf_hashes(entries)

    def node(height: int, at: int) -> tree.Hash:
        return tree.perfect_root(leaves[at << height : (at + 1) << height])

    path = tree.inclusion_proof(index, len(leaves), node)
    return ConsentProof(
        schema_version=1,
        cadence=cadence,
        record=record,
        salt=salt.hex(),
        index=index,
        size=len(leaves),
        path=tuple(sibling.hex() for sibling in path),
    )


def check(proof: ConsentProof, *, root: str, cadence: int) -> None:
    """Return None if the record was in the state that the site published as `root` of that cadence."""
    # 1. The proof is about this cadence.
    if proof.cadence != cadence:
        raise ConsentProofError(f"the proof is of cadence {proof.cadence}, not of {cadence}")
    # 2. Its tree is one that a site makes: a power of two, so that no count shows.
    if proof.size & (proof.size - 1):
        raise ConsentProofError("the tree of the proof is not padded")
    # 3. The record under its salt leads to the root.
    entry = _entry(bytes.fromhex(proof.salt), record_bytes(proof.record))
    path = [bytes.fromhex(sibling) for sibling in proof.path]
    try:
        tree.verify_inclusion(tree.leaf_hash(entry), proof.index, proof.size, path, bytes.fromhex(root))
    except VerificationError:
        raise ConsentProofError("the record does not lead to the root of this cadence") from None


def record_bytes(record: ConsentRecord) -> bytes:
    """The canonical JSON of a record; faster than `canonical_bytes` and the same: all of it is ASCII and small."""
    return _JSON.encode(
        {
            "expires_at_s": record.expires_at_s,
            "granted_at_s": record.granted_at_s,
            "patient_key": record.patient_key,
            "policy_version": record.policy_version,
            "purposes": record.purposes,
            "withdrawn_at_s": record.withdrawn_at_s,
        }
    ).encode()


def _key(secret: bytes, cadence: int) -> bytes:
    info = _ROOT_LABEL + cadence.to_bytes(8, "big")
    return HKDF(algorithm=hashes.SHA256(), length=32, salt=None, info=info).derive(secret)


def _salt(key: bytes, record: bytes) -> bytes:
    return hmac.digest(key, _RECORD_LABEL + record, "sha256")


def _entry(salt: bytes, record: bytes) -> bytes:
    return hmac.digest(salt, record, "sha256")


def _entries(records: Sequence[bytes], key: bytes) -> list[bytes]:
    """Consents and padding in one order that tells nothing."""
    size = max(MINIMUM_LEAVES, 1 << (len(records) - 1).bit_length() if records else 0)
    entries = [_entry(_salt(key, record), record) for record in records]
    entries += [
        hmac.digest(key, _PADDING_LABEL + number.to_bytes(8, "big"), "sha256")
        for number in range(size - len(records))
    ]
    return sorted(entries)
