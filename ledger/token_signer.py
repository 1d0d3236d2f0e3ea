"""A signer whose private key never leaves a PKCS #11 token (PKCS #11 2.40, and 3.0 for Ed25519).

    scheme       key type     CKA_EC_PARAMS                   mechanism                  the token returns
    ed25519      EC_EDWARDS   OID 1.3.101.112 or its name     EDDSA over the message     64 bytes, as in RFC 8032
    ecdsa-p256   EC           OID 1.2.840.10045.3.1.7         ECDSA over SHA-256         r || s, made low-S DER here

    CKA_EC_POINT    the point of `ledger.keys`, as it is or in a DER OCTET STRING (04 <length> <point>)

A signature leaves only after it verified. Keys are found by label, id or both; keys that could be copied off the
token are refused. The session lives in `ledger.token_session`, the rule of one process a key in
`ledger.signer_guard`.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from ledger.errors import CodedError, InputError
from ledger.keys import BadSignatureError, Scheme, VerificationKey, check_name, encode_p256
from ledger.signer_guard import SignerGuard
from ledger.token_session import Pin, TokenAddress, TokenSession, open_session

if TYPE_CHECKING:
    from pkcs11 import Object, Session, SignMixin
    from pkcs11.constants import Attribute

# 0xFF begins no UTF-8, so this is no note and no cosignature; and DSSE's bytes begin with "DSSEv1".
CHALLENGE = b"\xffwardround: does this key pair match?\x00"

_OIDS: dict[Scheme, bytes] = {
    "ed25519": bytes.fromhex("06032b6570"),
    "ecdsa-p256": bytes.fromhex("06082a8648ce3d030107"),
}
_EDWARDS_NAME = b"\x13\x0cedwards25519"  # PrintableString, the other form that PKCS #11 3.0 allows
_POINT_BYTES: dict[Scheme, int] = {"ed25519": 32, "ecdsa-p256": 65}


class TokenKeyError(InputError):
    code = "ledger.token.key"


class TokenFaultError(CodedError):
    """What the token returned is no signature of its key."""

    code = "ledger.token.fault"


@dataclass(frozen=True, slots=True)
class TokenKey:
    """Which key on a token: its label, its id (CKA_ID), or both."""

    label: str = ""
    id: bytes = b""

    def __str__(self) -> str:
        return f"key {self.label!r}" if self.label else f"key of id {self.id.hex()}"


class TokenSigner:
    """Signs on a token, one call at a time in this process and in no other. Close it."""

    def __init__(
        self, name: str, key: TokenKey, public: VerificationKey, session: TokenSession, guard: SignerGuard
    ) -> None:
        """For `open` and `generate` only."""
        self.name, self.public = name, public
        self._key, self._session, self._guard = key, session, guard
        self._found: tuple[Session, SignMixin] | None = None
        self._closed = False

    @classmethod
    def open(cls, token: TokenAddress, key: TokenKey, *, name: str, pin: Pin, guard: Path) -> Self:
        """Find the pair, take its guard (a lock file in the folder `guard`) and prove that the pair matches."""
        check_name(name)
        session = open_session(token, pin)
        held: SignerGuard | None = None
        try:
            public = session.use(lambda opened: _find(opened, token, key)[1])
            held = SignerGuard.hold(guard, public.keyid)
            signer = cls(name, key, public, session, held)
            signer.sign(CHALLENGE + os.urandom(32))
        except BaseException:
            if held is not None:
                held.release()
            session.close()
            raise
        return signer

    @classmethod
    def generate(
        cls,
        token: TokenAddress,
        key: TokenKey,
        *,
        name: str,
        pin: Pin,
        guard: Path,
        scheme: Scheme = "ed25519",
    ) -> Self:
        """Make a pair that cannot be copied off the token. A label or id in use is refused, never replaced."""
        check_name(name)
        session = open_session(token, pin)
        try:
            session.write(lambda writable: _generate(writable, token, key, scheme))
            return cls.open(token, key, name=name, pin=pin, guard=guard)
        finally:
            session.close()

    def sign(self, message: bytes) -> bytes:
        if self._closed:
            raise TokenKeyError(f"the {self._key} was closed", code="ledger.token.closed")
        signature = self._session.use(lambda session: self._sign(session, message))
        try:
            self.public.verify(signature, message)
        except BadSignatureError:
            raise TokenFaultError(
                f"{self._session.address} returned no signature of the {self._key}",
                remedy="Its two halves may not belong together: check both with the vendor's tools.",
            ) from None
        return signature

    def close(self) -> None:
        """Let the token and the guard go; again is nothing."""
        if not self._closed:
            self._closed = True
            self._session.close()
            self._guard.release()

    def __repr__(self) -> str:
        return f"{type(self).__name__}(name={self.name!r}, keyid={self.public.keyid[:16]})"

    def _sign(self, session: Session, message: bytes) -> bytes:
        from pkcs11 import Mechanism

        if self._found is None or self._found[0] is not session:
            private, public = _find(session, self._session.address, self._key)
            if public != self.public:
                raise TokenKeyError(
                    f"the {self._key} on {self._session.address} is another one now", remedy="Start again."
                )
            self._found = (session, private)
        private = self._found[1]
        if self.public.scheme == "ed25519":
            return bytes(private.sign(message, mechanism=Mechanism.EDDSA))
        raw = bytes(private.sign(hashlib.sha256(message).digest(), mechanism=Mechanism.ECDSA))
        if len(raw) != 64:
            raise TokenFaultError(
                f"{self._session.address} returned {len(raw)} bytes instead of r and s",
                remedy="Use another token.",
            )
        return encode_p256(int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big"))


def decode_point(scheme: Scheme, value: bytes) -> VerificationKey:
    """Read CKA_EC_POINT. There are two forms of one length each, so no point can be read both ways."""
    size = _POINT_BYTES[scheme]
    if len(value) == size + 2 and value[:2] == bytes((0x04, size)):
        value = value[2:]
    return VerificationKey(scheme, value)


def _find(session: Session, token: TokenAddress, key: TokenKey) -> tuple[SignMixin, VerificationKey]:
    """The one pair of that label and id, both halves checked."""
    from pkcs11 import AttributeTypeInvalid, SignMixin
    from pkcs11.constants import Attribute, ObjectClass

    private = _one(session, token, key, {Attribute.CLASS: ObjectClass.PRIVATE_KEY, **_search(key)})
    if not isinstance(private, SignMixin):
        raise TokenKeyError(f"the {key} on {token} may not sign", remedy="Make another on the token.")
    if private[Attribute.EXTRACTABLE] is not False or private[Attribute.SENSITIVE] is not True:
        raise TokenKeyError(
            f"the {key} on {token} can be copied off it",
            remedy="Make another on the token, sensitive and not extractable.",
            code="ledger.token.extractable",
        )
    try:
        identifier = bytes(private[Attribute.ID])
    except AttributeTypeInvalid:
        identifier = b""
    # The id is what ties the halves together; their labels may differ.
    half: dict[Attribute, object] = {Attribute.ID: identifier} if identifier else _search(key)
    public = _one(session, token, key, {Attribute.CLASS: ObjectClass.PUBLIC_KEY, **half})
    scheme = _scheme(bytes(public[Attribute.EC_PARAMS]), what=f"the {key} on {token}")
    return private, decode_point(scheme, bytes(public[Attribute.EC_POINT]))


def _search(key: TokenKey) -> dict[Attribute, object]:
    from pkcs11.constants import Attribute

    named: dict[Attribute, object] = {Attribute.LABEL: key.label, Attribute.ID: key.id}
    search = {attribute: value for attribute, value in named.items() if value}
    if not search:
        raise TokenKeyError("a key on a token is named by its label or its id", remedy="Give one.")
    return search


def _one(session: Session, token: TokenAddress, key: TokenKey, search: dict[Attribute, object]) -> Object:
    from pkcs11.constants import Attribute, ObjectClass

    half = "private" if search[Attribute.CLASS] is ObjectClass.PRIVATE_KEY else "public"
    found = list(session.get_objects(search))
    if not found:
        raise TokenKeyError(
            f"{token} holds no {half} {key}",
            remedy="Check the label, or make the pair on the token.",
            code="ledger.token.key-missing",
        )
    if len(found) > 1:
        raise TokenKeyError(
            f"{token} holds {len(found)} objects that are the {half} {key}",
            remedy="Give each key a label and an id of its own.",
            code="ledger.token.key-ambiguous",
        )
    return found[0]


def _scheme(parameters: bytes, *, what: str) -> Scheme:
    if parameters == _EDWARDS_NAME:
        return "ed25519"
    for scheme, oid in _OIDS.items():
        if parameters == oid:
            return scheme
    raise TokenKeyError(
        f"{what} is neither Ed25519 nor P-256",
        remedy="Make another on the token.",
        code="ledger.token.scheme",
    )


def _generate(session: Session, token: TokenAddress, key: TokenKey, scheme: Scheme) -> None:
    from pkcs11 import KeyType, Mechanism, MechanismFlag
    from pkcs11.constants import Attribute

    if not key.label:
        raise TokenKeyError("a new key on a token needs a label", remedy="Give one.")
    identifier = key.id or os.urandom(16)
    if any(
        True
        for named in ({Attribute.LABEL: key.label}, {Attribute.ID: identifier})
        for _ in session.get_objects(named)
    ):
        raise TokenKeyError(
            f"{token} holds a {key} already, which is left as it is",
            remedy="Choose another label.",
            code="ledger.token.key-exists",
        )
    edwards = scheme == "ed25519"
    parameters = session.create_domain_parameters(
        KeyType.EC_EDWARDS if edwards else KeyType.EC, {Attribute.EC_PARAMS: _OIDS[scheme]}, local=True
    )
    parameters.generate_keypair(
        id=identifier,
        label=key.label,
        store=True,
        capabilities=MechanismFlag.SIGN | MechanismFlag.VERIFY,
        mechanism=Mechanism.EC_EDWARDS_KEY_PAIR_GEN if edwards else Mechanism.EC_KEY_PAIR_GEN,
        private_template={Attribute.SENSITIVE: True, Attribute.EXTRACTABLE: False, Attribute.PRIVATE: True},
    )
