"""Keys: verification keys that cross institutions, and what can sign with the private half.

A verification key is written, and named, by its canonical JSON (RFC 8785):

    {"public":"<base64 of public_bytes>","scheme":"ed25519"}        32 bytes, RFC 8032
    {"public":"<base64 of public_bytes>","scheme":"ecdsa-p256"}     65 bytes, SEC 1 uncompressed point

    keyid = hex(SHA-256(that JSON))

    signature    64 bytes for Ed25519
                 DER, s at most half the order: one signature has one byte string per nonce     for P-256

P-256 is ECDSA with SHA-256, in the form that DSSE tools expect. Of (r, s) and (r, order - s), which hold alike, the
smaller s alone is accepted: nobody can turn one signature into another without the key. What is signed (envelopes,
notes, cosignatures) lives with each format, never here. Private keys leave this module only as encrypted PEM.
"""

from __future__ import annotations

import functools
import hashlib
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, Self, get_args

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from ledger import canonical, encoding
from ledger.canonical import JsonValue
from ledger.errors import InputError, VerificationError

Scheme = Literal["ed25519", "ecdsa-p256"]
PrivateKey = ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey
PublicKey = ed25519.Ed25519PublicKey | ec.EllipticCurvePublicKey

_P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551  # SP 800-186, 3.2.1.3
_P = 2**255 - 19
# The y coordinates of the eight points of small order; such a "key" would verify chosen signatures.
_SMALL_ORDER = frozenset(
    (
        0,
        1,
        _P - 1,
        int.from_bytes(
            bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"), "little"
        ),
        int.from_bytes(
            bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"), "little"
        ),
    )
)


class MalformedKeyError(InputError):
    code = "ledger.key.malformed"


class KeyNameError(InputError):
    code = "ledger.key.name"


class KeyFileError(InputError):
    code = "ledger.key.file"


class BadSignatureError(VerificationError):
    code = "ledger.signature.invalid"


def check_name(name: str) -> str:
    """A key holder's name must serve as a note key name: non-empty, no spaces, no plus, no control."""
    if not name or "+" in name or any(character.isspace() or ord(character) < 0x20 for character in name):
        raise KeyNameError("a key name is non-empty and holds no space, plus or control character")
    try:
        name.encode()
    except UnicodeEncodeError:
        raise KeyNameError("a key name is valid Unicode") from None
    return name


@dataclass(frozen=True, slots=True)
class VerificationKey:
    """A public key. Constructing one checks that its bytes are a canonical, usable point."""

    scheme: Scheme
    public_bytes: bytes

    def __post_init__(self) -> None:
        if self.scheme not in get_args(Scheme):
            raise MalformedKeyError("the key scheme is unknown", code="ledger.key.scheme")
        try:
            _load_public(self)
        except ValueError:
            raise MalformedKeyError(f"these bytes are no {self.scheme} public key") from None

    @property
    def keyid(self) -> str:
        """Lower-case hex SHA-256 of the canonical JSON of this key."""
        return _keyid(self)

    def to_json(self) -> dict[str, JsonValue]:
        return {"public": encoding.encode_base64(self.public_bytes), "scheme": self.scheme}

    @classmethod
    def from_json(cls, value: JsonValue) -> Self:
        """Read the JSON form; unknown fields are refused."""
        if not isinstance(value, dict) or value.keys() != {"public", "scheme"}:
            raise MalformedKeyError("a key is an object of exactly 'public' and 'scheme'")
        public, scheme = value["public"], value["scheme"]
        if not isinstance(public, str) or not isinstance(scheme, str):
            raise MalformedKeyError("a key's 'public' and 'scheme' are strings")
        data = encoding.decode_base64(
            public, what="the public key", error=MalformedKeyError, code="ledger.key.base64"
        )
        if scheme == "ed25519":
            return cls("ed25519", data)
        if scheme == "ecdsa-p256":
            return cls("ecdsa-p256", data)
        raise MalformedKeyError("the key scheme is unknown", code="ledger.key.scheme")

    def verify(self, signature: bytes, message: bytes) -> None:
        """Return None if `signature` over `message` is this key's, else raise BadSignatureError."""
        public = _load_public(self)
        try:
            if isinstance(public, ed25519.Ed25519PublicKey):
                public.verify(signature, message)
            else:
                if decode_dss_signature(signature)[1] > _P256_ORDER // 2:
                    raise BadSignatureError("the signature does not verify: its s is over half the order")
                public.verify(signature, message, ec.ECDSA(hashes.SHA256()))
        except (InvalidSignature, ValueError):
            raise BadSignatureError("the signature does not verify") from None


class Signer(Protocol):
    """Whatever holds a private key: memory, an encrypted file, a token."""

    @property
    def name(self) -> str: ...

    @property
    def public(self) -> VerificationKey: ...

    def sign(self, message: bytes) -> bytes: ...


@dataclass(frozen=True, slots=True, repr=False)
class PrivateKeySigner:
    """Signs with a private key held in this process."""

    name: str
    public: VerificationKey
    _private: PrivateKey

    def sign(self, message: bytes) -> bytes:
        if isinstance(self._private, ed25519.Ed25519PrivateKey):
            return self._private.sign(message)
        # Deterministic (RFC 6979): the same message signed again gives the same bytes.
        signature = self._private.sign(message, ec.ECDSA(hashes.SHA256(), deterministic_signing=True))
        return encode_p256(*decode_dss_signature(signature))

    def __repr__(self) -> str:
        return f"{type(self).__name__}(name={self.name!r}, keyid={self.public.keyid[:16]})"


class MemorySigner(PrivateKeySigner):
    """A fresh key that is never stored, for tests and simulations. With a seed, always the same key."""

    __slots__ = ()

    def __init__(self, name: str, *, scheme: Scheme = "ed25519", seed: bytes | None = None) -> None:
        private = generate_private(scheme) if seed is None else _derive(scheme, seed)
        super().__init__(check_name(name), public_of(private), private)


class FileSigner(PrivateKeySigner):
    """A key in an encrypted PKCS #8 PEM file of mode 0600, for development and small institutions."""

    __slots__ = ()

    @classmethod
    def generate(cls, path: Path, *, name: str, passphrase: bytes, scheme: Scheme = "ed25519") -> Self:
        """Create the key and its file, whole or not at all; an existing file is never overwritten."""
        check_name(name)
        if not passphrase:
            raise KeyFileError("a key file needs a passphrase", code="ledger.key.passphrase")
        private = generate_private(scheme)
        pem = private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(passphrase),
        )
        _create_durably(path, pem)
        return cls(name, public_of(private), private)

    @classmethod
    def load(cls, path: Path, *, name: str, passphrase: bytes) -> Self:
        """Open the key; files that others may read, or that are not encrypted, are refused."""
        check_name(name)
        try:
            if path.stat().st_mode & 0o077:
                raise KeyFileError(
                    "others may read the key file", remedy="chmod 600 it.", code="ledger.key.file-mode"
                )
            pem = path.read_bytes()
        except OSError:
            raise KeyFileError("the key file cannot be read", code="ledger.key.file-missing") from None
        try:
            private = serialization.load_pem_private_key(pem, passphrase)
        except TypeError:
            raise KeyFileError("the key file is not encrypted", code="ledger.key.not-encrypted") from None
        except (ValueError, UnsupportedAlgorithm):
            raise KeyFileError("wrong passphrase, or the key file is damaged") from None
        if isinstance(private, ed25519.Ed25519PrivateKey) or (
            isinstance(private, ec.EllipticCurvePrivateKey) and isinstance(private.curve, ec.SECP256R1)
        ):
            return cls(name, public_of(private), private)
        raise KeyFileError("the key file holds neither Ed25519 nor P-256", code="ledger.key.scheme")


def generate_private(scheme: Scheme) -> PrivateKey:
    if scheme == "ed25519":
        return ed25519.Ed25519PrivateKey.generate()
    return ec.generate_private_key(ec.SECP256R1())


def public_of(private: PrivateKey) -> VerificationKey:
    if isinstance(private, ed25519.Ed25519PrivateKey):
        return VerificationKey("ed25519", private.public_key().public_bytes_raw())
    point = private.public_key().public_bytes(
        serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
    )
    return VerificationKey("ecdsa-p256", point)


def encode_p256(r: int, s: int) -> bytes:
    """The DER that `VerificationKey.verify` accepts of the two signatures that r and s stand for."""
    if _P256_ORDER // 2 < s < _P256_ORDER:  # an s out of range stays as it is, and does not verify
        s = _P256_ORDER - s
    return encode_dss_signature(r, s)


def _create_durably(path: Path, pem: bytes) -> None:
    """Give `path` its name only once its bytes are on the disk: a power cut leaves no empty key in the way."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".")  # of mode 0600
    beside = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(pem)
            file.flush()
            os.fsync(file.fileno())
        os.link(beside, path)  # unlike a rename it fails if there is a file
    except FileExistsError:
        raise KeyFileError("the key file exists already", code="ledger.key.file-exists") from None
    finally:
        beside.unlink()
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _derive(scheme: Scheme, seed: bytes) -> PrivateKey:
    digest = hashlib.sha256(b"wardround test key\n" + seed).digest()
    if scheme == "ed25519":
        return ed25519.Ed25519PrivateKey.from_private_bytes(digest)
    return ec.derive_private_key(int.from_bytes(digest, "big") >> 1, ec.SECP256R1())


@functools.lru_cache(maxsize=1024)
def _load_public(key: VerificationKey) -> PublicKey:
    if key.scheme == "ed25519":
        y = int.from_bytes(key.public_bytes, "little") & (2**255 - 1)
        if y >= _P or y in _SMALL_ORDER:
            raise ValueError("not a canonical point of large order")
        return ed25519.Ed25519PublicKey.from_public_bytes(key.public_bytes)
    if len(key.public_bytes) != 65:
        raise ValueError("not an uncompressed point")
    return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), key.public_bytes)


@functools.lru_cache(maxsize=1024)
def _keyid(key: VerificationKey) -> str:
    return hashlib.sha256(canonical.encode(key.to_json())).hexdigest()
