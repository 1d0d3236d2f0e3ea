"""Signed answers: whose word they are and for which closed set. Anything else does not count, whatever it says."""

from __future__ import annotations

import pytest

from adapters import mail
from adapters.exchange import MemoryExchange
from ledger import canonical, envelope
from ledger.keys import MemorySigner
from policies.answer import PAYLOAD_TYPE, SumAnswer, read_answer
from policies.events import Absence, IdentityRotated
from policies.federation import PublicKey
from policies.opening import PAYLOAD_TYPE as OPENING_TYPE
from policies.opening import Opening, read_opening
from tasks.opening import said
from tests.policies.assembly import Assembly, at
from tests.policies.founding import COORDINATOR, LOG, ORIGIN, SIGNERS, SITES, WITNESSES, named

A, B, *_ = SITES


@pytest.fixture(scope="module")
def closed() -> Assembly:
    return at("closed")


def statement(assembly: Assembly, **changed: object) -> SumAnswer:
    fields: dict[str, object] = {
        "schema_version": 1,
        "origin": ORIGIN,
        "plan_digest": assembly.digest,
        "round": 1,
        "step": "training",
        "closed_digest": assembly.state.closed[assembly.digest, 1, "training"].content_digest(),
        "unmask_digest": named("shares"),
        "part_digest": None,
    }
    return SumAnswer.from_value({**fields, **changed}, what="answer")


def signed(payload: bytes, *signers: MemorySigner, kind: str = PAYLOAD_TYPE) -> bytes:
    return envelope.sign(kind, payload, list(signers)).encode()


def test_what_a_site_signed_is_its_answer(closed: Assembly) -> None:
    answer = statement(closed)
    data = signed(answer.canonical_bytes(), SIGNERS[A])
    assert read_answer(data, closed.state.founded(), A) == answer


@pytest.mark.parametrize(
    ("signer", "name"),
    [
        (SIGNERS[B], A),  # another site
        (SIGNERS[COORDINATOR], A),
        (SIGNERS["stranger"], A),
        (WITNESSES[A], A),  # the site's own key of another purpose
        (LOG, A),
        (SIGNERS["stranger"], "stranger"),  # no member
        (SIGNERS[COORDINATOR], COORDINATOR),  # no site
    ],
)
def test_nobody_answers_for_a_site(closed: Assembly, signer: MemorySigner, name: str) -> None:
    data = signed(statement(closed).canonical_bytes(), signer)
    assert read_answer(data, closed.state.founded(), name) is None


def test_a_coordinator_that_adds_its_own_name_to_a_site_s_signature_changes_nothing(closed: Assembly) -> None:
    """One signature of the site counts, and it covers what it signed alone."""
    data = signed(statement(closed).canonical_bytes(), SIGNERS[A])
    value = canonical.decode(data)
    assert isinstance(value, dict)
    forged = statement(closed, closed_digest=named("another set")).canonical_bytes()
    theirs = canonical.decode(signed(forged, SIGNERS[COORDINATOR]))
    assert isinstance(theirs, dict)
    mixed = canonical.encode({**theirs, "signatures": value["signatures"]})
    assert read_answer(mixed, closed.state.founded(), A) is None


def test_every_flipped_byte_makes_it_nobody_s_answer(closed: Assembly) -> None:
    data = signed(statement(closed).canonical_bytes(), SIGNERS[A])
    federation = closed.state.founded()
    for at_byte in range(len(data)):
        for bit in (0x01, 0x20):
            changed = data[:at_byte] + bytes([data[at_byte] ^ bit]) + data[at_byte + 1 :]
            assert read_answer(changed, federation, A) is None, at_byte


@pytest.mark.parametrize("data", [b"", b"{}", b"null", b"\xff" * 40])
def test_what_is_no_envelope_is_no_answer(closed: Assembly, data: bytes) -> None:
    assert read_answer(data, closed.state.founded(), A) is None


@pytest.mark.parametrize(
    "changed",
    [
        {"patients": 412},
        {"schema_version": 2},
        {"round": 0},
        {"round": "1"},
        {"step": "inference"},
        {"closed_digest": "A" * 64},
        {"unmask_digest": "shares"},
        {"part_digest": [named("part")]},
    ],
)
def test_an_answer_says_exactly_what_it_has_to(closed: Assembly, changed: dict[str, object]) -> None:
    honest = statement(closed).to_json()
    for value in ({**honest, **changed}, {name: honest[name] for name in honest if name not in changed}):
        if value == honest:
            continue
        data = signed(canonical.encode(value), SIGNERS[A])
        assert read_answer(data, closed.state.founded(), A) is None


def test_what_is_not_canonical_is_no_answer(closed: Assembly) -> None:
    payload = statement(closed).canonical_bytes().replace(b'":', b'": ', 1)
    assert read_answer(signed(payload, SIGNERS[A]), closed.state.founded(), A) is None


def test_an_opening_is_no_answer_and_an_answer_no_opening(closed: Assembly) -> None:
    federation = closed.state.founded()
    answer = statement(closed).canonical_bytes()
    assert read_answer(signed(answer, SIGNERS[A], kind=OPENING_TYPE), federation, A) is None
    opening = Opening(
        schema_version=1,
        origin=ORIGIN,
        plan_digest=closed.digest,
        round=1,
        step="training",
        sum_digest=named("sum 1"),
        outcome_digest=None,
    ).canonical_bytes()
    assert read_opening(signed(opening, SIGNERS[A], kind=OPENING_TYPE), federation, A) is not None
    assert read_opening(signed(opening, SIGNERS[A], kind=PAYLOAD_TYPE), federation, A) is None
    assert read_answer(signed(opening, SIGNERS[A]), federation, A) is None


def test_after_a_rotation_only_the_new_key_answers() -> None:
    assembly = at("closed")
    data = signed(statement(assembly).canonical_bytes(), SIGNERS[A])
    rotation = IdentityRotated(purpose="identity", name=A, key=PublicKey.of(SIGNERS["new"].public))
    assembly.state.advance(assembly.state.size, assembly.entry(A, rotation, signer=f"{A} new"))
    assert read_answer(data, assembly.state.founded(), A) is None
    again = signed(statement(assembly).canonical_bytes(), SIGNERS["new"])
    assert read_answer(again, assembly.state.founded(), A) is not None


def counts(assembly: Assembly, answer: SumAnswer, *, name: str = A) -> bool:
    """Whether an opener takes it for the answer of the site about round 1's training."""
    exchange = MemoryExchange()
    data = signed(answer.canonical_bytes(), SIGNERS[A])
    exchange.put(f"{mail.answers(assembly.digest, 1, 'training')}/{name}", data)
    return said(exchange, assembly.state, assembly.published(), 1, "training", name) is not None


def test_the_answer_for_the_closed_set_counts(closed: Assembly) -> None:
    assert counts(closed, statement(closed))
    assert not counts(closed, statement(closed), name=B), "put in another site's place"


@pytest.mark.parametrize(
    "changed",
    [
        {"origin": "wardround/other/term-1"},
        {"plan_digest": named("another plan")},
        {"round": 2},
        {"step": "evaluation"},
        {"closed_digest": named("another set")},
    ],
)
def test_an_answer_about_anything_else_does_not(closed: Assembly, changed: dict[str, object]) -> None:
    assert not counts(closed, statement(closed, **changed))


def test_the_answer_for_a_set_that_was_closed_otherwise_does_not() -> None:
    """The coordinator shows a site a set of its own; the ledger has another, and the answer is for none there."""
    full = at("closed")
    fewer = at("reserved")
    for site in SITES[:3]:
        fewer.say(site, fewer.receipt(site))
    fewer.say(COORDINATOR, fewer.closing(missing=(Absence(site=SITES[3], code="site.silent"),)))
    assert not counts(full, statement(fewer))
    assert counts(fewer, statement(fewer))
    assert not counts(at("reported"), statement(full)), "before anything is closed"
