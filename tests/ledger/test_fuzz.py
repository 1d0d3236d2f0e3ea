"""Every parser of what others send: any bytes are a value that writes itself the same again, or a named refusal.

Bytes are drawn at random, and by changing valid ones: flipped, cut, doubled, spliced into each other.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger import (
    canonical,
    checkpoint,
    cosignature,
    envelope,
    equivocation,
    event,
    note,
    policy,
    proof,
    rollback,
    tiles,
    witness_request,
)
from ledger.errors import InputError, VerificationError
from ledger.keys import MemorySigner, VerificationKey
from ledger.log import Log
from ledger.memory import MemoryStorage
from policies.document import MalformedDocumentError
from policies.events import (
    TYPES,
    ConsentPublished,
    DrillRecorded,
    IdentityRotated,
    IncidentReported,
    MemberRetired,
    ModelRolledBack,
    PhaseMeasured,
    PhaseOpened,
    PolicyAdopted,
    SiteQuarantined,
    SiteReleased,
    parse_body,
    type_of,
)
from policies.federation import PublicKey
from tests.policies.assembly import Assembly
from tests.policies.founding import CONSENT, SITES
from tests.policies.rollout.phases import advanced, agreements, conformance, promoted, terms
from tests.policies.test_inquiries import answered

ORIGIN = "fuzz.example/log"
LOG, SITE, OTHER = (MemorySigner(name, seed=name.encode()) for name in ("log", "site", "other"))
P256 = MemorySigner("p256", seed=b"p256", scheme="ecdsa-p256")
VKEY, COSIGNER = note.vkey_of(ORIGIN, LOG), cosignature.vkey_of("site", SITE)


def log_of(*entries):
    log = Log.create(MemoryStorage(), origin=ORIGIN, signer=LOG)
    log.append(entries)
    return log


ONE, TWO = log_of(b"a", b"b", b"c"), log_of(b"a", b"x", b"c", b"d", b"e")
LINE = cosignature.sign(ONE.checkpoint().partition(b"\n\n")[0] + b"\n", name="site", signer=SITE, time_s=7)
COSIGNED = ONE.checkpoint() + LINE.line()
ENTRY = event.sign_event(
    event.Event(
        origin=ORIGIN, type="x.y", institution="site", sequence=0, previous=event.NO_PREVIOUS, time_s=1,
        body={"k": [1, None, 0.5, "ü"]},
    ),
    [SITE, P256],
)  # fmt: skip
EVIDENCE = equivocation.Equivocation(ONE.checkpoint(), TWO.checkpoint(), TWO.consistency_proof(3, 5))
POLICY = policy.quorum_policy(VKEY, [COSIGNER, cosignature.vkey_of("other", OTHER)])
BUNDLE = tiles.encode_bundle([b"", b"one", b"x" * 300])


@dataclass(frozen=True)
class Parser:
    """`again` parses bytes and writes what was parsed; `valid` are examples of what it accepts."""

    again: Callable[[bytes], bytes]
    valid: tuple[bytes, ...]
    exact: bool = True  # else: writing a parsed value is the canonical form, which parses to itself


def text(parse, write=str):
    """A parser of text, for bytes that happen to be one."""
    return lambda data: write(parse(data.decode("utf-8", "surrogateescape"))).encode(
        "utf-8", "surrogateescape"
    )


def found_cosignature(data):
    signed = note.parse(data)
    found = cosignature.find(signed, COSIGNER)
    if found is not None:
        made = cosignature.sign(signed.text, name="site", signer=SITE, time_s=found.time_s)
        assert made == signed.by(COSIGNER)  # Ed25519 signs the same twice
    return signed.encode()


def event_of(data):
    signed = event.parse_entry(data)
    payload = canonical.encode(signed.event.to_json())
    return envelope.Envelope(event.PAYLOAD_TYPE, payload, signed.envelope.signatures).encode()


def bodies():
    """One body of every kind, as a whole round says them."""
    said = {}

    class Told(Assembly):
        def say(self, institution, body):
            said[type(body)] = (type_of(body), body.to_json())
            return super().say(institution, body)

    told, asked = Told().reach("registered"), answered()
    for unsaid in (
        told.refusal(SITES[0]),
        MemberRetired(name=SITES[0]),
        PolicyAdopted(policy_digest=told.digest),
        told.settlement(SITES[0], "training", "evaluation"),
        told.key(),
        IdentityRotated(purpose="identity", name=SITES[0], key=PublicKey.of(SITE.public)),
        ConsentPublished.from_value(CONSENT.to_json(), what="consent policy"),
        SiteQuarantined(site=SITES[0], code="test.drill", evidence=told.digest),
        SiteReleased(site=SITES[0], quarantine=told.digest),
        PhaseOpened(terms=terms()),
        PhaseMeasured(phase="pilot", opened=told.digest, policy_digest=told.digest),
        advanced(told),
        agreements()[0],
        conformance(),
        DrillRecorded(drill="poisoning", report_digest=told.digest),
        promoted(told),
        ModelRolledBack(study="tiny-study", to=told.digest, kind="model-harm"),
        IncidentReported(severity="minor", kind="other"),
        asked.published(),
        asked.figures(),
    ):
        said[type(unsaid)] = (type_of(unsaid), unsaid.to_json())
    return tuple(canonical.encode({"type": kind, "body": body}) for kind, body in said.values())


def body_of(data):
    value = canonical.decode(data)
    if not isinstance(value, dict) or value.keys() != {"type", "body"} or not isinstance(value["body"], dict):
        raise MalformedDocumentError("not the shape of this test")
    parsed = parse_body(value["type"], value["body"])
    return canonical.encode({"type": value["type"], "body": parsed.to_json()})


def evidence_of(data):
    parsed = equivocation.parse(data)
    with contextlib.suppress(InputError, VerificationError):
        parsed.verify(VKEY)
    return parsed.encode()


PARSERS = {
    "note": Parser(lambda data: note.parse(data).encode(), (COSIGNED, "a\n\nb ü\n\n".encode() + LINE.line())),
    "signature lines": Parser(
        lambda data: b"".join(item.line() for item in note.parse_signatures(data)),
        (LINE.line(), LINE.line() + note.sign(b"", "other", OTHER).line()),
    ),
    "vkey": Parser(text(note.parse_vkey), (str(VKEY).encode(), str(COSIGNER).encode())),
    "checkpoint": Parser(
        lambda data: checkpoint.parse(data)[0].text() + data[len(checkpoint.parse(data)[1].text) :],
        (COSIGNED, TWO.checkpoint()),
    ),
    "cosignature": Parser(found_cosignature, (COSIGNED,)),
    "policy": Parser(lambda data: policy.parse_policy(data).serialise(), (POLICY.serialise(),), exact=False),
    "proof": Parser(
        lambda data: proof.parse(data).encode(),
        (
            proof.TlogProof(1, TWO.inclusion_proof(1, 5), TWO.checkpoint(), b"extra").encode(),
            proof.TlogProof(0, (), COSIGNED).encode(),
        ),
    ),
    "witness request": Parser(
        lambda data: witness_request.encode_request(*witness_request.parse_request(data)),
        (TWO.witness_request(3), ONE.witness_request(0)),
    ),
    "tile path": Parser(
        text(tiles.parse_path, lambda name: name.path),
        (b"tile/0/x001/x234/067", b"tile/entries/273.p/112", b"tile/63/000.p/1"),
    ),
    "bundle": Parser(lambda data: tiles.encode_bundle(tiles.parse_bundle(data, 3)), (BUNDLE,)),
    "envelope": Parser(lambda data: envelope.parse(data).encode(), (ENTRY,)),
    "event": Parser(event_of, (ENTRY,)),
    "evidence": Parser(evidence_of, (EVIDENCE.encode(),)),
    "rollback": Parser(lambda data: rollback.encode(rollback.parse(data)), (rollback.encode(COSIGNED),)),
    "canonical JSON": Parser(
        lambda data: canonical.encode(canonical.decode(data)),
        (ENTRY, '{"a":[0.5,-1e+30,true,null],"ü":{}}'.encode(), b"[9007199254740991]"),
    ),
    "key": Parser(
        lambda data: canonical.encode(VerificationKey.from_json(canonical.decode(data)).to_json()),
        (canonical.encode(SITE.public.to_json()), canonical.encode(P256.public.to_json())),
    ),
    "event body": Parser(body_of, bodies(), exact=False),
}


def writes_itself(parser, data):
    """Whether the bytes were accepted; whatever else than a refusal or themselves comes of them fails."""
    try:
        again = parser.again(data)
    except (InputError, VerificationError):
        return False
    assert again == data if parser.exact else parser.again(again) == again
    return True


@pytest.mark.parametrize("name", PARSERS)
def test_what_is_valid_writes_itself_again(name):
    for data in PARSERS[name].valid:
        assert writes_itself(PARSERS[name], data)
        assert PARSERS[name].again(data) == data


TOKENS = st.sampled_from(
    [b"\n", b"\n\n", b" ", b"+", b"=", b"-", b".", b"/", b"0", b"9" * 20, b'"', b"{}", b"[]", b"null", b"1e9", b"\0",
     b"\xff", "—".encode(), "é".encode(), "\u0664".encode(), b"A" * 44]
)  # fmt: skip
EDITS = st.lists(
    st.tuples(
        st.sampled_from(["flip", "cut", "insert", "double", "splice", "end"]),
        st.integers(0, 2**16), st.integers(0, 255), TOKENS | st.binary(max_size=4),
    ),
    min_size=1, max_size=4,
)  # fmt: skip


def edited(data, edits, other):
    for what, where, amount, piece in edits:
        at = where % (len(data) + 1)
        match what:
            case "flip":
                data = (
                    data[:at] + bytes([byte ^ (amount or 1) for byte in data[at : at + 1]]) + data[at + 1 :]
                )
            case "cut":
                data = data[:at] + data[at + amount % 8 + 1 :]
            case "insert":
                data = data[:at] + piece + data[at:]
            case "double":
                data = data[:at] + data[at : at + amount] + data[at:]
            case "splice":
                data = data[:at] + other[where % (len(other) + 1) :]
            case "end":
                data = data[:at]
    return data


@pytest.mark.parametrize("name", PARSERS)
@settings(max_examples=150)
@given(random=st.binary(max_size=80), edits=EDITS, first=st.integers(0, 99), second=st.integers(0, 99))
def test_any_bytes_write_themselves_or_are_refused(name, random, edits, first, second):
    parser = PARSERS[name]
    one, other = (parser.valid[number % len(parser.valid)] for number in (first, second))
    writes_itself(parser, random)
    writes_itself(parser, edited(one, edits, other))
    writes_itself(parser, edited(one, edits[:1], one))


def test_every_kind_of_body_of_every_type_of_event_is_among_the_bodies():
    found = {}
    for data in PARSERS["event body"].valid:
        event = canonical.decode(data)
        found.setdefault(event["type"], set()).add(type(parse_body(event["type"], event["body"])))
    assert found == {kind: set(bodies) for kind, bodies in TYPES.items()}
