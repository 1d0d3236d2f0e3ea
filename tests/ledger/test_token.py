"""Keys on a PKCS #11 token: what they sign others verify, and what cannot be used is refused without harm."""

from __future__ import annotations

import json

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from securesystemslib.dsse import Envelope as OtherEnvelope
from securesystemslib.signer import SSlibKey

from ledger import cosignature, envelope, note, token_signer
from ledger.cosignature import vkey_of as cosigner_vkey
from ledger.errors import CodedError
from ledger.keys import MalformedKeyError, MemorySigner, Scheme, VerificationKey, public_of
from ledger.token_session import Pin
from ledger.token_signer import CHALLENGE, TokenKey, TokenSigner, decode_point
from tests.soft_token import PIN, SoftTokens

SCHEMES: tuple[Scheme, ...] = ("ed25519", "ecdsa-p256")


@pytest.fixture
def tokens(soft_tokens: SoftTokens) -> SoftTokens:
    soft_tokens.make("ward")
    return soft_tokens


def refused(call: object) -> CodedError:
    assert callable(call)
    with pytest.raises(CodedError) as caught:
        call()
    error = caught.value
    for text in (str(error), repr(error), error.diagnostics()):
        assert PIN not in text and "wrong-pin" not in text
    assert error.remedy or error.code == "ledger.token.closed"
    return error


# -- what it signs -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", SCHEMES)
def test_what_a_token_signs_verifies_and_survives_reopening(tokens: SoftTokens, scheme: Scheme) -> None:
    made = tokens.generate(scheme=scheme)
    assert made.public.scheme == scheme
    made.public.verify(made.sign(b"message"), b"message")
    made.public.verify(made.sign(b""), b"")
    made.public.verify(made.sign(b"x" * 300_000), b"x" * 300_000)
    made.close()
    opened = tokens.open()
    assert opened.public == made.public and opened.name == "ward"
    made.public.verify(opened.sign(b"again"), b"again")
    opened.close()
    opened.close()
    assert refused(lambda: opened.sign(b"x")).code == "ledger.token.closed"


def test_what_a_token_signs_with_p256_has_the_smaller_s(tokens: SoftTokens) -> None:
    """The token returns either s; one that was left large would be refused as a fault of the token."""
    signer = tokens.generate(scheme="ecdsa-p256")
    half = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551 // 2
    for number in range(32):
        assert decode_dss_signature(signer.sign(bytes([number])))[1] <= half
    signer.close()


@pytest.mark.parametrize("scheme", SCHEMES)
def test_envelopes_are_read_by_securesystemslib(tokens: SoftTokens, scheme: Scheme) -> None:
    signer, beside = tokens.generate(scheme=scheme), MemorySigner("beside")
    signed = envelope.sign("application/x", b"payload", [signer, beside])
    signed.verify({one.public.keyid: one.public for one in (signer, beside)}, threshold=2)
    others = []
    for one in (signer, beside):
        kind, public = one.public.scheme, one.public.public_bytes
        if kind == "ed25519":
            others.append(SSlibKey(one.public.keyid, kind, "ed25519", {"public": public.hex()}))
        else:
            from cryptography.hazmat.primitives import serialization

            pem = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), public).public_bytes(
                serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
            )
            value = {"public": pem.decode()}
            others.append(SSlibKey(one.public.keyid, "ecdsa", "ecdsa-sha2-nistp256", value))
    assert len(OtherEnvelope.from_dict(json.loads(signed.encode())).verify(others, 2)) == 2
    signer.close()


def test_notes_and_cosignatures_are_those_of_any_signer(tokens: SoftTokens) -> None:
    log, witness = tokens.generate("log"), tokens.generate("witness")
    text = b"ledger.example/wards\n0\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n"
    lines = (
        note.sign(text, "ledger.example/wards", log),
        cosignature.sign(text, name="ward", signer=witness, time_s=1_800_000_000),
    )
    read = note.parse(note.Note(text, lines).encode())
    note.verify(read, [note.vkey_of("ledger.example/wards", log)])
    found = cosignature.find(read, cosigner_vkey("ward", witness))
    assert found is not None and found.time_s == 1_800_000_000
    log.close()
    witness.close()


def test_the_opening_challenge_is_nothing_that_keys_sign() -> None:
    with pytest.raises(UnicodeDecodeError):
        CHALLENGE.decode()  # a note, a checkpoint and a cosignature are text
    assert not envelope.pae("", b"").startswith(CHALLENGE[:1])


# -- how keys lie on it --------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_key_cannot_be_read_off_its_token(tokens: SoftTokens, scheme: Scheme) -> None:
    import pkcs11
    from pkcs11.constants import Attribute

    signer = tokens.generate(scheme=scheme)

    def read(session: pkcs11.Session) -> None:
        private, _ = token_signer._find(session, tokens.address(), TokenKey("key"))
        for attribute in (Attribute.SENSITIVE, Attribute.ALWAYS_SENSITIVE, Attribute.NEVER_EXTRACTABLE):
            assert private[attribute] is True
        with pytest.raises(pkcs11.AttributeSensitive):
            private[Attribute.VALUE]

    signer._session.use(read)
    signer.close()


def test_a_label_in_use_is_refused_and_left_as_it_is(tokens: SoftTokens) -> None:
    made = tokens.generate()
    assert refused(tokens.generate).code == "ledger.token.key-exists"
    assert refused(lambda: tokens.generate(scheme="ecdsa-p256")).code == "ledger.token.key-exists"
    made.close()
    again = tokens.open()
    assert again.public == made.public
    again.close()


def test_two_keys_of_one_label_are_told_apart_by_id(tokens: SoftTokens) -> None:
    def generate(key: TokenKey) -> TokenSigner:
        return TokenSigner.generate(tokens.address(), key, name="ward", pin=Pin(PIN), guard=tokens.keys)

    one, two = generate(TokenKey("one", b"\1")), generate(TokenKey("two", b"\2"))
    assert refused(lambda: generate(TokenKey("three", b"\2"))).code == "ledger.token.key-exists"
    relabel(two, "one")
    two.close()
    assert refused(lambda: tokens.open("one")).code == "ledger.token.key-ambiguous"
    for key, public in ((TokenKey("one", b"\1"), one.public), (TokenKey(id=b"\2"), two.public)):
        found = TokenSigner.open(tokens.address(), key, name="ward", pin=Pin(PIN), guard=tokens.keys)
        assert found.public == public
        found.close()
    one.close()


def relabel(signer: TokenSigner, label: str, *, id: bytes | None = None) -> None:
    """Give both halves of a key another label, and its public half another id."""
    from pkcs11.constants import Attribute, ObjectClass

    def change(session: token_signer.Session) -> None:
        for found in list(session.get_objects({Attribute.LABEL: signer._key.label})):
            if id is not None and found[Attribute.CLASS] is ObjectClass.PUBLIC_KEY:
                found[Attribute.ID] = id
            found[Attribute.LABEL] = label

    signer._session.write(change)


def test_halves_that_do_not_belong_together_are_found_out(tokens: SoftTokens) -> None:
    """A public key planted under another key's id: nothing signed would verify, and opening says so."""
    one, two = tokens.generate("one"), tokens.generate("two")
    from pkcs11.constants import Attribute, ObjectClass

    def swap(session: token_signer.Session) -> None:
        halves = {
            label: next(iter(list(session.get_objects(
                {Attribute.CLASS: ObjectClass.PUBLIC_KEY, Attribute.LABEL: label}
            ))))
            for label in ("one", "two")
        }  # fmt: skip
        identifier = halves["one"][Attribute.ID]
        halves["one"].destroy()
        halves["two"][Attribute.ID] = identifier

    one._session.write(swap)
    one.close()
    two.close()
    assert refused(lambda: tokens.open("one")).code == "ledger.token.fault"
    assert refused(lambda: tokens.open("two")).code == "ledger.token.key-missing"


@pytest.mark.parametrize(
    "private", [{"EXTRACTABLE": True}, {"SENSITIVE": False}], ids=["extractable", "not sensitive"]
)
def test_keys_that_could_be_copied_are_refused(tokens: SoftTokens, private: dict[str, bool]) -> None:
    plant(tokens, private=private)
    assert refused(tokens.open).code == "ledger.token.extractable"


def test_keys_of_other_curves_and_uses_are_refused(tokens: SoftTokens) -> None:
    plant(tokens, curve=bytes.fromhex("06052b81040022"))  # P-384
    assert refused(tokens.open).code == "ledger.token.scheme"
    plant(tokens, "idle", private={"SIGN": False})
    assert refused(lambda: tokens.open("idle")).code == "ledger.token.key"


def plant(
    tokens: SoftTokens,
    label: str = "key",
    *,
    private: dict[str, bool] | None = None,
    curve: bytes | None = None,
) -> None:
    """Make a key as somebody else's tool might."""
    import pkcs11
    from pkcs11.constants import Attribute

    template = {"EXTRACTABLE": False, "SENSITIVE": True, "SIGN": True, **(private or {})}
    (token,) = pkcs11.lib(str(tokens.module.resolve())).get_tokens("ward")
    with token.open(rw=True, user_pin=PIN) as session:
        session.create_domain_parameters(
            pkcs11.KeyType.EC,
            {Attribute.EC_PARAMS: curve or bytes.fromhex("06082a8648ce3d030107")},
            local=True,
        ).generate_keypair(
            label=label,
            id=label.encode(),
            store=True,
            mechanism=pkcs11.Mechanism.EC_KEY_PAIR_GEN,
            private_template={Attribute[name]: value for name, value in template.items()},
        )


P256 = public_of(ec.derive_private_key(7, ec.SECP256R1())).public_bytes
ED = MemorySigner("x", seed=b"x").public.public_bytes


def test_a_point_is_read_raw_or_as_an_octet_string() -> None:
    for value in (ED, b"\x04\x20" + ED):
        assert decode_point("ed25519", value) == VerificationKey("ed25519", ED)
    for value in (P256, b"\x04\x41" + P256):
        assert decode_point("ecdsa-p256", value) == VerificationKey("ecdsa-p256", P256)


@pytest.mark.parametrize(
    ("scheme", "value"),
    [("ed25519", b""), ("ed25519", ED[:-1]), ("ed25519", b"\x04\x20" + ED[:-1]), ("ed25519", b"\x04\x81\x20" + ED),
     ("ed25519", b"\x04\x20" + ED + b"\0"), ("ed25519", b"\x03\x20" + ED), ("ed25519", b"\x04\x21" + ED),
     ("ed25519", b"\x04\x22\x04\x20" + ED), ("ed25519", P256), ("ed25519", bytes(32)),
     ("ecdsa-p256", ED), ("ecdsa-p256", b"\x03" + P256[1:33]), ("ecdsa-p256", P256[:-1] + b"\xff"),
     ("ecdsa-p256", b"\x04\x81\x41" + P256), ("ecdsa-p256", b"\x04\x41" + P256 + b"\0"),
     ("ecdsa-p256", P256 + b"\0"), ("ecdsa-p256", b"\x06" + P256[1:])],
)  # fmt: skip
def test_other_points_are_refused(scheme: Scheme, value: bytes) -> None:
    with pytest.raises(MalformedKeyError):
        decode_point(scheme, value)
