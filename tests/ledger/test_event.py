"""Envelopes and events: strict, canonical, readable by other DSSE tools."""

from __future__ import annotations

import base64
import contextlib
import json

import pytest
import rfc8785
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from hypothesis import given
from hypothesis import strategies as st
from securesystemslib.dsse import Envelope as OtherEnvelope
from securesystemslib.signer import CryptoSigner, SSlibKey

from ledger import canonical, envelope
from ledger.canonical import NotCanonicalError
from ledger.envelope import EnvelopeSignatureError, EnvelopeThresholdError, MalformedEnvelopeError
from ledger.errors import InputError
from ledger.event import (
    MAX_ENTRY_BYTES,
    NO_PREVIOUS,
    PAYLOAD_TYPE,
    EntryTooLargeError,
    Event,
    MalformedEventError,
    entry_digest,
    parse_entry,
    sign_event,
)
from ledger.keys import MemorySigner, VerificationKey, encode_p256

A, B = MemorySigner("site-a", seed=b"a"), MemorySigner("site-b", seed=b"b", scheme="ecdsa-p256")
FIELDS = {
    "origin": "log", "type": "plan.published", "institution": "site-a", "sequence": 0, "previous": NO_PREVIOUS,
    "time_s": 1, "body": {"k": [1, None, "ü"]},
}  # fmt: skip


def entry(*signers, **changes):
    return sign_event(Event(**(FIELDS | changes)), signers or [A])


def payload(value, *signers):
    """An envelope of our type around any JSON value."""
    return envelope.sign(PAYLOAD_TYPE, canonical.encode(value), signers or [A]).encode()


def keys(*signers):
    return {signer.public.keyid: signer.public for signer in signers}


def test_an_event_comes_back_as_it_was_signed():
    data = entry(A, B)
    signed = parse_entry(data)
    assert signed.event == Event(**FIELDS)
    assert signed.raw == data and signed.digest == entry_digest(data)
    assert set(signed.keyids) == {A.public.keyid, B.public.keyid}
    signed.verify(keys(A))
    signed.verify(keys(A, B), threshold=2)
    assert data == canonical.encode(json.loads(data))


def test_a_threshold_counts_known_keys_once():
    signed = parse_entry(entry(A))
    for known, threshold in ((keys(A, B), 2), (keys(B), 1), ({}, 1)):
        with pytest.raises(EnvelopeThresholdError):
            signed.verify(known, threshold=threshold)
    with pytest.raises(EnvelopeThresholdError):  # a key under another key's id does not count
        signed.verify({A.public.keyid: B.public})
    with pytest.raises(ValueError):
        signed.verify(keys(A), threshold=0)


def test_a_wrong_signature_of_a_known_key_spoils_the_entry():
    value = json.loads(entry(A, B))
    for item in value["signatures"]:
        if item["keyid"] == B.public.keyid:
            item["sig"] = base64.b64encode(B.sign(b"something else")).decode()
    signed = parse_entry(canonical.encode(value))
    signed.verify(keys(A))
    with pytest.raises(EnvelopeSignatureError):
        signed.verify(keys(A, B))


@pytest.mark.parametrize("scheme", ["ed25519", "ecdsa"])
def test_other_tools_read_and_write_our_envelopes(scheme):
    made = CryptoSigner.generate_ed25519() if scheme == "ed25519" else CryptoSigner.generate_ecdsa()
    ours = {"ed25519": A, "ecdsa": B}[scheme]
    # theirs to us
    other = OtherEnvelope(canonical.encode(Event(**FIELDS).to_json()), PAYLOAD_TYPE, {})
    assert other.pae() == envelope.pae(PAYLOAD_TYPE, other.payload)
    signature = bytes.fromhex(made.sign(other.pae()).signature)
    if scheme == "ecdsa":  # the other tool leaves s as it falls, over half the order every second time
        signature = encode_p256(*decode_dss_signature(signature))
    key = _public(made)
    theirs = envelope.Envelope(PAYLOAD_TYPE, other.payload, ((key.keyid, signature),))
    parse_entry(theirs.encode()).verify({key.keyid: key})
    # ours to them
    received = OtherEnvelope.from_dict(json.loads(entry(ours)))
    received.verify([_sslib_key(ours)], 1)


def _public(signer):
    public = signer.public_key
    if public.keytype == "ed25519":
        return VerificationKey("ed25519", bytes.fromhex(public.keyval["public"]))
    from cryptography.hazmat.primitives import serialization

    loaded = serialization.load_pem_public_key(public.keyval["public"].encode())
    point = loaded.public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)
    return VerificationKey("ecdsa-p256", point)


def _sslib_key(signer):
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519

    data = signer.public.public_bytes
    loaded = (
        ed25519.Ed25519PublicKey.from_public_bytes(data)
        if signer.public.scheme == "ed25519"
        else ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), data)
    )
    return SSlibKey.from_crypto(loaded, keyid=signer.public.keyid)


def test_an_event_fits_an_entry_or_is_refused():
    room = MAX_ENTRY_BYTES - len(entry(body={"k": ""}))
    fitting = entry(body={"k": "x" * (room * 3 // 4 - 3)})
    assert len(fitting) <= MAX_ENTRY_BYTES
    for length in (room * 3 // 4 + 3, 70_000):
        with pytest.raises(EntryTooLargeError):
            entry(body={"k": "x" * length})
    with pytest.raises(EntryTooLargeError):
        parse_entry(b"x" * 65536)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"schema_version": 2}, "ledger.event.version"),
        ({"type": "plan"}, "ledger.event.type"),
        ({"type": "Plan.published"}, "ledger.event.type"),
        ({"type": "plan.published\n"}, "ledger.event.type"),
        ({"previous": "0" * 63}, "ledger.event.previous"),
        ({"previous": "A" * 64}, "ledger.event.previous"),
        ({"sequence": -1}, "ledger.event.range"),
        ({"time_s": -1}, "ledger.event.range"),
        ({"origin": ""}, "ledger.event.malformed"),
        ({"institution": ""}, "ledger.event.malformed"),
        ({"sequence": "0"}, "ledger.event.malformed"),
        ({"sequence": True}, "ledger.event.malformed"),
        ({"sequence": 0.5}, "ledger.event.malformed"),
        ({"time_s": None}, "ledger.event.malformed"),
        ({"origin": 5}, "ledger.event.malformed"),
        ({"body": []}, "ledger.event.malformed"),
        ({"more": 1}, "ledger.event.malformed"),
    ],
)
def test_malformed_events(changes, code):
    with pytest.raises(MalformedEventError) as caught:
        parse_entry(payload(Event(**FIELDS).to_json() | changes))
    assert caught.value.code == code


def test_every_field_is_required():
    for name in Event(**FIELDS).to_json():
        value = {key: item for key, item in Event(**FIELDS).to_json().items() if key != name}
        with pytest.raises(MalformedEventError):
            parse_entry(payload(value))


def test_other_payload_types_are_no_events():
    data = envelope.sign("application/other", canonical.encode(Event(**FIELDS).to_json()), [A]).encode()
    with pytest.raises(MalformedEventError) as caught:
        parse_entry(data)
    assert caught.value.code == "ledger.event.payload-type"


def test_a_payload_that_is_not_canonical_is_refused():
    loose = json.dumps(Event(**FIELDS).to_json()).encode()
    with pytest.raises(NotCanonicalError):
        parse_entry(envelope.sign(PAYLOAD_TYPE, loose, [A]).encode())


def _altered(change):
    value = json.loads(entry(A, B))
    change(value)
    return canonical.encode(value)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda v: v.update(more=1), "ledger.envelope.malformed"),
        (lambda v: v.pop("payload"), "ledger.envelope.malformed"),
        (lambda v: v.update(payload=5), "ledger.envelope.malformed"),
        (lambda v: v.update(payload="A"), "ledger.envelope.base64"),
        (lambda v: v.update(payload="QQ"), "ledger.envelope.base64"),
        (lambda v: v.update(payload="QR=="), "ledger.envelope.base64"),
        (lambda v: v.update(signatures=[]), "ledger.envelope.count"),
        (lambda v: v["signatures"].extend([v["signatures"][0]] * 63), "ledger.envelope.count"),
        (lambda v: v["signatures"].append(v["signatures"][1]), "ledger.envelope.duplicate"),
        (lambda v: v["signatures"].reverse(), "ledger.envelope.duplicate"),
        (lambda v: v["signatures"][0].update(more=1), "ledger.envelope.malformed"),
        (lambda v: v["signatures"][0].update(keyid="00"), "ledger.envelope.keyid"),
        (lambda v: v["signatures"][0].update(sig="*"), "ledger.envelope.base64"),
    ],
)
def test_malformed_envelopes(change, code):
    with pytest.raises(MalformedEnvelopeError) as caught:
        parse_entry(_altered(change))
    assert caught.value.code == code


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"{}", b"null", b'{"a":1,"a":1}', b'{"a": 1}', b"[NaN]", b"[1e999]", b"[9007199254740992]",
     b'["\\ud800"]', b"[" * 5000 + b"]" * 5000, b"\xff", b'\xef\xbb\xbf{}', b"[1.0]", b"[-0]"],
)  # fmt: skip
def test_bytes_that_are_not_canonical_json_are_refused(data):
    with pytest.raises(InputError):
        parse_entry(data)


@given(st.integers(0, 10_000), st.integers(1, 255))
def test_every_flipped_byte_of_an_entry_is_refused(position, mask):
    data = entry(A)
    at = position % len(data)
    with pytest.raises((InputError, EnvelopeSignatureError, EnvelopeThresholdError)):
        parse_entry(data[:at] + bytes([data[at] ^ mask]) + data[at + 1 :]).verify(keys(A))


def test_two_signers_hold_two_keys():
    with pytest.raises(ValueError):
        entry(A, A)
    with pytest.raises(ValueError):
        sign_event(Event(**FIELDS), [])


JSON = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**54), 2**54),
        st.floats(allow_nan=False),
        st.text(st.characters(codec="ascii"), max_size=6),
        st.text(max_size=6),
    ),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)


@given(
    JSON,
    st.integers(0, 400),
    st.sampled_from([b" ", b"0", b"e1", b".0", b"-", b"\\u0041", b'"', b"NaN", b"/"]),
)
def test_the_quick_check_of_canonical_form_agrees_with_rfc_8785(value, at, inserted):
    """The C encoder is only ever a short cut: what it accepts, the reference encoder writes the same."""
    compact = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    data = compact.encode(errors="surrogatepass")
    for candidate in (data, data[:at] + inserted + data[at:], data.lower(), json.dumps(value).encode()):
        try:
            accepted = canonical.decode(candidate)
        except NotCanonicalError:
            continue
        assert rfc8785.dumps(accepted) == candidate
    with contextlib.suppress(NotCanonicalError):
        written = canonical.encode(value)
        assert canonical.encode(canonical.decode(written)) == written
