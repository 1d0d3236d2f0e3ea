"""Keys: naming, strictness, files."""

from __future__ import annotations

import os
import stat

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from ledger import canonical
from ledger.keys import (
    BadSignatureError,
    FileSigner,
    KeyFileError,
    KeyNameError,
    MalformedKeyError,
    MemorySigner,
    VerificationKey,
    encode_p256,
)

SCHEMES = ("ed25519", "ecdsa-p256")


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_key_is_named_by_its_canonical_json(scheme):
    key = MemorySigner("a", scheme=scheme).public
    assert VerificationKey.from_json(key.to_json()) == key
    assert key.keyid == canonical.digest(canonical.encode(key.to_json()))
    assert len(key.public_bytes) == {"ed25519": 32, "ecdsa-p256": 65}[scheme]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_signatures_verify_and_nothing_else_does(scheme):
    signer, other = MemorySigner("a", scheme=scheme), MemorySigner("b", scheme=scheme)
    signature = signer.sign(b"message")
    assert signature == signer.sign(b"message")
    signer.public.verify(signature, b"message")
    for key, data, message in (
        (signer.public, signature, b"messagf"),
        (signer.public, signature[:-1], b"message"),
        (signer.public, signature + b"\0", b"message"),
        (signer.public, b"", b"message"),
        (other.public, signature, b"message"),
    ):
        with pytest.raises(BadSignatureError):
            key.verify(data, message)
    for at in range(len(signature)):
        flipped = signature[:at] + bytes([signature[at] ^ 1]) + signature[at + 1 :]
        with pytest.raises(BadSignatureError):
            signer.public.verify(flipped, b"message")


def test_der_is_read_in_its_only_form():
    signer = MemorySigner("a", scheme="ecdsa-p256", seed=b"1")
    signature = signer.sign(b"message")
    r, s = decode_dss_signature(signature)
    assert encode_dss_signature(r, s) == signature
    long_form = signature[:1] + b"\x81" + signature[1:]
    with pytest.raises(BadSignatureError):
        signer.public.verify(long_form, b"message")


P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


def test_a_p256_signature_has_no_twin_that_verifies():
    """(r, n-s) holds wherever (r, s) does, and anybody can compute it."""
    signer = MemorySigner("a", scheme="ecdsa-p256", seed=b"1")
    loaded = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), signer.public.public_bytes)
    for number in range(32):
        message = bytes([number])
        signature = signer.sign(message)
        r, s = decode_dss_signature(signature)
        assert s <= P256_ORDER // 2
        signer.public.verify(signature, message)
        twin = encode_dss_signature(r, P256_ORDER - s)
        loaded.verify(twin, message, ec.ECDSA(hashes.SHA256()))
        with pytest.raises(BadSignatureError):
            signer.public.verify(twin, message)


@pytest.mark.parametrize(
    ("s", "kept"),
    [(1, 1), (P256_ORDER // 2, P256_ORDER // 2), (P256_ORDER // 2 + 1, P256_ORDER // 2), (P256_ORDER - 1, 1),
     (0, 0), (P256_ORDER, P256_ORDER), (2**256 - 1, 2**256 - 1)],
)  # fmt: skip
def test_the_smaller_s_is_taken_and_one_out_of_range_is_left_to_fail(s, kept):
    assert decode_dss_signature(encode_p256(5, s)) == (5, kept)


@pytest.mark.parametrize(
    "public",
    [b"", bytes(31), bytes(32), b"\x01" + bytes(31),
     b"\xec" + b"\xff" * 30 + b"\x7f", b"\xee" + b"\xff" * 30 + b"\x7f",
     bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"),
     bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85")],
)  # fmt: skip
def test_points_of_small_order_and_strange_encodings_are_no_keys(public):
    with pytest.raises(MalformedKeyError):
        VerificationKey("ed25519", public)


@pytest.mark.parametrize(
    "value",
    [None, [], {}, {"public": "AA==", "scheme": "rsa"}, {"public": 1, "scheme": "ed25519"},
     {"public": "AA", "scheme": "ed25519"}, {"public": "AA==", "scheme": "ed25519", "more": 1},
     {"public": "AA==", "scheme": "ecdsa-p256"}],
)  # fmt: skip
def test_malformed_key_documents(value):
    with pytest.raises(MalformedKeyError):
        VerificationKey.from_json(value)


def test_a_compressed_point_is_refused():
    private = ec.generate_private_key(ec.SECP256R1())
    compressed = private.public_key().public_bytes(
        serialization.Encoding.X962, serialization.PublicFormat.CompressedPoint
    )
    with pytest.raises(MalformedKeyError):
        VerificationKey("ecdsa-p256", compressed)


@pytest.mark.parametrize("name", ["", "a b", "a+b", "a\tb", "a\u2003b", "\ud800"])
def test_names_that_no_note_can_carry_are_refused(name):
    with pytest.raises(KeyNameError):
        MemorySigner(name)


# -- files ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_key_file_round_trips_encrypted(tmp_path, scheme):
    path = tmp_path / "key.pem"
    made = FileSigner.generate(path, name="site-a", passphrase=b"secret", scheme=scheme)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert b"BEGIN ENCRYPTED PRIVATE KEY" in path.read_bytes()
    loaded = FileSigner.load(path, name="site-a", passphrase=b"secret")
    assert loaded.public == made.public
    made.public.verify(loaded.sign(b"x"), b"x")
    assert "secret" not in repr(loaded) and "PRIVATE" not in repr(loaded)


@pytest.mark.parametrize("broken", ["fsync", "link"])
def test_a_power_cut_leaves_no_key_file_in_the_way(tmp_path, monkeypatch, broken):
    class PowerCut(BaseException):
        pass

    path = tmp_path / "key.pem"

    def cut(*_, **__):
        assert not path.exists()  # a name that a cut could leave with nothing in it
        raise PowerCut

    with monkeypatch.context() as patched:
        patched.setattr(os, broken, cut)
        with pytest.raises(PowerCut):
            FileSigner.generate(path, name="a", passphrase=b"secret")
    FileSigner.generate(path, name="a", passphrase=b"secret")
    assert [file.name for file in tmp_path.iterdir()] == ["key.pem"]


def refused(call):
    with pytest.raises(KeyFileError) as caught:
        call()
    return caught.value.code


def test_key_files_that_are_refused(tmp_path):
    path = tmp_path / "key.pem"
    FileSigner.generate(path, name="a", passphrase=b"secret")
    before = path.read_bytes()

    def load(passphrase=b"secret"):
        return FileSigner.load(path, name="a", passphrase=passphrase)

    assert refused(lambda: FileSigner.generate(path, name="a", passphrase=b"x")) == "ledger.key.file-exists"
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
    assert (
        refused(lambda: FileSigner.generate(tmp_path / "b", name="a", passphrase=b""))
        == "ledger.key.passphrase"
    )
    assert not (tmp_path / "b").exists()
    assert refused(lambda: load(b"wrong")) == "ledger.key.file"
    path.chmod(0o640)
    assert refused(load) == "ledger.key.file-mode"
    path.chmod(0o600)
    path.write_bytes(before[:-60])
    assert refused(load) == "ledger.key.file"
    path.unlink()
    assert refused(load) == "ledger.key.file-missing"


@pytest.mark.parametrize(
    ("private", "encryption", "expected"),
    [
        (ed25519.Ed25519PrivateKey.generate(), serialization.NoEncryption(), "ledger.key.not-encrypted"),
        (
            ec.generate_private_key(ec.SECP384R1()),
            serialization.BestAvailableEncryption(b"secret"),
            "ledger.key.scheme",
        ),
    ],
)
def test_other_keys_are_refused(tmp_path, private, encryption, expected):
    path = tmp_path / "key.pem"
    path.write_bytes(
        private.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
    )
    path.chmod(0o600)
    assert refused(lambda: FileSigner.load(path, name="a", passphrase=b"secret")) == expected
