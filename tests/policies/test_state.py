"""Who says it: signatures, chains and indices, and that a fork is a fork."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ledger.errors import PolicyViolation
from ledger.event import entry_digest, parse_entry
from policies.cost import plan_cost
from policies.events import MemberRetired, PolicyAdopted
from policies.state import FederationState
from tests.policies.assembly import STAGES, Assembly, at
from tests.policies.founding import COORDINATOR, ORIGIN, SITES, federation, named

A = SITES[0]


def test_a_whole_round_folds_to_one_registered_model() -> None:
    assembly = at("registered")
    state = assembly.state
    assert state.latest_model(assembly.plan.study) == named("model 1")
    assert state.model_before(assembly.digest, 2) == named("model 1")
    assert state.spent_by(A).scaled(assembly.plan.rounds) == plan_cost(assembly.plan)
    assert state.verdicts[assembly.digest, 1].passed


def test_nothing_is_said_before_the_founding() -> None:
    empty = Assembly()
    assert empty.refusals(empty.entry(COORDINATOR, empty.published())) == {"ledger.chain.founding"}


def test_before_the_founding_there_is_no_federation_to_ask() -> None:
    with pytest.raises(PolicyViolation) as refused:
        FederationState(ORIGIN).founded()
    assert refused.value.code == "federation.not-founded"


def test_the_founding_needs_every_members_signature() -> None:
    empty = Assembly()
    assert empty.refusals(empty.entry(COORDINATOR, federation(), signer=COORDINATOR)) == {
        "ledger.chain.founding"
    }


def test_the_founding_is_the_coordinators_to_record() -> None:
    empty = Assembly()
    entry = empty.entry(A, federation())
    assert empty.refusals(entry) == {"federation.founder"}


def test_a_rule_that_more_must_sign_than_there_are_is_refused_at_the_founding_alone() -> None:
    rules = [{"phase": "pilot", "role": "data-steward", "signatures": 3}]
    empty, more = Assembly(), federation().with_fields({"sign_offs": rules})
    assert empty.refusals(empty.entry(COORDINATOR, more)) == {"federation.officers"}
    # A hospital whose steward would be needed may leave all the same.
    founded = at("founded")
    founded.say(A, MemberRetired(name=A))
    assert {officer.name for officer in founded.state.founded().officers} == {"steward-b", "compliance"}


def test_whoever_has_the_signed_document_admits_no_other_founding() -> None:
    said = Assembly().entry(COORDINATOR, federation())
    for digest, codes in (
        (federation().content_digest(), set()),
        (federation(cap=51).content_digest(), {"federation.document"}),
    ):
        assert Assembly(state=FederationState(ORIGIN, founding_digest=digest)).refusals(said) == codes


def test_only_members_speak_and_only_for_themselves() -> None:
    assembly = at("published")
    speech = assembly.approval()
    assert assembly.refusals(assembly.entry("stranger", speech)) == {"ledger.chain.member"}
    assert assembly.refusals(assembly.entry(A, speech, signer="site-b")) == {"ledger.chain.signature"}
    assert assembly.refusals(assembly.entry(A, speech, signer=COORDINATOR)) == {"ledger.chain.signature"}
    assert assembly.refusals(assembly.entry(A, speech, origin="another/log")) == {"ledger.chain.origin"}


def test_a_chain_has_no_gap_no_repetition_and_no_fork() -> None:
    assembly = at("approved")
    speech = PolicyAdopted(policy_digest=named("next"))
    assert assembly.refusals(assembly.entry(A, speech, sequence=2)) == {"ledger.chain.gap"}
    assert assembly.refusals(assembly.entry(A, speech, sequence=0)) == {"ledger.chain.replayed"}
    assert assembly.refusals(assembly.entry(A, speech, previous=named("other"))) == {"ledger.chain.previous"}
    entry = assembly.entry(A, speech)
    assert assembly.refusals(entry, index=assembly.state.size + 1) == {"ledger.chain.order"}
    assembly.state.advance(assembly.state.size, entry)
    assert assembly.refusals(entry) == {"ledger.chain.replayed"}
    assert assembly.state.indices[entry_digest(entry)] == assembly.state.size - 1


def test_unknown_and_malformed_events_are_refused_by_name() -> None:
    assembly = at("founded")
    body = assembly.published()
    assert assembly.refusals(assembly.entry(COORDINATOR, body, type="plan.promoted")) == {"event.unknown"}
    extra = {**body.to_json(), "note": "free text"}
    assert assembly.refusals(assembly.entry(COORDINATOR, body, body=extra)) == {"event.malformed"}
    assert assembly.refusals(b"{}") != set()


@given(st.sampled_from(STAGES), st.data())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_refused_entry_changes_nothing_and_a_fork_hears_nothing(stage: str, data: st.DataObject) -> None:
    """Any entry of a whole round, said at any stage and possibly with a flipped byte: either it is the next
    thing to say, or it is refused and the state is what it was."""
    entry = bytearray(data.draw(st.sampled_from(STORY)))
    if data.draw(st.booleans()):
        entry[data.draw(st.integers(0, len(entry) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    state = FOLDED[stage]
    twin = state.fork()
    changed = twin.fork()
    try:
        changed.advance(changed.size, bytes(entry))
    except Exception:
        assert changed == twin
    else:
        assert changed != twin
        assert bytes(entry) in STORY
    assert twin == state


def _story() -> tuple[list[bytes], dict[str, FederationState]]:
    """Every entry of a round, and the state at each stage."""
    entries: list[bytes] = []
    told = Assembly()
    folded: dict[str, FederationState] = {}

    class Recorded(FederationState):
        def advance(self, index: int, entry: bytes) -> None:
            super().advance(index, entry)
            entries.append(entry)

    told.state = Recorded(ORIGIN)
    for stage in STAGES:
        told._take(stage)
        folded[stage] = FederationState(ORIGIN)
        for index, entry in enumerate(entries):
            folded[stage].advance(index, entry)
    return entries, folded


STORY, FOLDED = _story()


def test_the_log_time_never_runs_backwards() -> None:
    assembly = at("founded")
    entry = assembly.entry(COORDINATOR, assembly.published(), time_s=5)
    before = assembly.state.log_time_s
    assembly.state.advance(assembly.state.size, entry)
    assert parse_entry(entry).event.time_s == 5
    assert assembly.state.log_time_s == before


def test_a_statement_that_breaks_its_judge_is_refused_and_stops_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assembly = at("approved")
    entry = assembly.entry(A, PolicyAdopted(policy_digest=named("rules")))

    def broken(*_: object, **__: object) -> None:
        raise OverflowError("of a number that nobody foresaw")

    monkeypatch.setattr("policies.admission.violations_of", broken)
    assert assembly.refusals(entry) == {"event.unjudged"}
    monkeypatch.undo()
    assembly.state.advance(assembly.state.size, entry)
