"""The recount: it agrees with the fold to the micro-unit, and believes no total that an event merely claims."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.event import NO_PREVIOUS, Event, sign_event
from policies.cost import round_mechanisms
from policies.recount import Recount, RecountError, decimal_text
from privacy import accounting
from privacy.accounting import Curve
from privacy.mechanisms import Mechanism
from tests.policies.assembly import Assembly, plan
from tests.policies.founding import COORDINATOR, SIGNERS, SITES, federation

PLAN = plan(rounds=3)
DIGEST = PLAN.content_digest()
TRAINING, EVALUATION = round_mechanisms(PLAN, 1)
POOL = federation().member("site-a").pool  # type: ignore[union-attr]


def entry(institution: str, kind: str, body: dict[str, Any]) -> bytes:
    """An event as the recount reads it; who may say what is not its affair."""
    event = Event(
        origin="any/log",
        type=kind,
        institution=institution,
        sequence=0,
        previous=NO_PREVIOUS,
        time_s=0,
        body=body,
    )
    return sign_event(event, [SIGNERS[institution]])


FOUNDED = entry(COORDINATOR, "federation.founded", federation().to_json())
PUBLISHED = entry(
    COORDINATOR,
    "plan.published",
    {"plan": PLAN.to_json(), "plan_digest": DIGEST, "base_model_digest": "0" * 64},
)


def total(mechanisms: list[Mechanism]) -> int:
    return POOL.epsilon_micro(accounting.total(mechanisms))  # type: ignore[union-attr]


def reserved(claimed: int, *, site: str = "site-a", attempt: int = 1, **changed: Any) -> bytes:  # noqa: ANN401
    body = {
        "plan_digest": DIGEST,
        "round": 1,
        "attempt": attempt,
        "mechanisms": [TRAINING.to_json(), EVALUATION.to_json()],
        "epsilon_total_micro": claimed,
    }
    return entry(site, "budget.reserved", {**body, **changed})


def spent(claimed: int, *released: str, site: str = "site-a", attempt: int = 1, **changed: Any) -> bytes:  # noqa: ANN401
    body = {
        "plan_digest": DIGEST,
        "round": 1,
        "attempt": attempt,
        "released": list(released),
        "epsilon_total_micro": claimed,
    }
    return entry(site, "budget.spent", {**body, **changed})


def counted(*entries: bytes) -> Recount:
    recount = Recount()
    for one in (FOUNDED, PUBLISHED, *entries):
        recount.take(one)
    return recount


def refused(*entries: bytes) -> str:
    """What the last of the entries is refused for; those before it stand."""
    recount = counted(*entries[:-1])
    with pytest.raises(RecountError) as caught:
        recount.take(entries[-1])
    assert caught.value.index == len(entries) + 1
    return caught.value.public_message.partition(": ")[2]


BOTH = total([TRAINING, EVALUATION])


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(SITES), st.sets(st.sampled_from(("training", "evaluation"))) | st.none()),
        max_size=12,
    )
)
def test_every_pool_adds_up_to_what_was_not_given_back(story: list[tuple[str, set[str] | None]]) -> None:
    """Any uses by any sites; each is settled by what was released, or (None) never."""
    kept: dict[str, list[Mechanism]] = {site: [] for site in SITES}
    attempts = dict.fromkeys(SITES, 0)
    entries = []
    for site, released in story:
        attempts[site] += 1
        whole = [*kept[site], TRAINING, EVALUATION]
        entries.append(reserved(total(whole), site=site, attempt=attempts[site]))
        if released is None:
            kept[site] = whole
            continue
        kept[site] += [TRAINING] * ("training" in released) + [EVALUATION] * ("evaluation" in released)
        steps = [step for step in ("training", "evaluation") if step in released]
        entries.append(spent(total(kept[site]), *steps, site=site, attempt=attempts[site]))
    accounts = {account.site: account for account in counted(*entries).accounts()}
    assert list(accounts) == sorted(SITES)
    for site, account in accounts.items():
        assert account.spent == accounting.total(kept[site])
        assert sorted(map(str, account.mechanisms)) == sorted(map(str, kept[site]))
        assert account.epsilon_micro == total(kept[site])
        assert len(account.uses) == attempts[site]


def test_it_agrees_with_the_fold() -> None:
    made = Assembly()
    recount = Recount()
    say = made.say

    def said(institution: str, body: Any) -> str:  # noqa: ANN401
        recount.take(made.entry(institution, body))
        return say(institution, body)

    made.say = said  # type: ignore[method-assign]
    made.reach("registered")
    made.say(SITES[1], made.settlement(SITES[1], "training", "evaluation"))
    assert recount.size == made.state.size
    assert {account.site: account.spent for account in recount.accounts()} == made.state.spent


def test_no_total_is_believed() -> None:
    for wrong in (BOTH - 1, BOTH + 1, 0, None, str(BOTH), float(BOTH) + 0.5):
        assert "micro-epsilon" in refused(reserved(wrong))  # type: ignore[arg-type]
    left = total([TRAINING])
    for wrong in (left - 1, BOTH, 0):
        assert "micro-epsilon" in refused(reserved(BOTH), spent(wrong, "training"))


def test_a_settlement_gives_back_once_and_only_what_was_reserved() -> None:
    settled = spent(total([TRAINING]), "training")
    assert "is settled" in refused(reserved(BOTH), settled, settled)
    assert "nobody reserved" in refused(settled)
    assert "nobody reserved" in refused(reserved(BOTH), spent(0, attempt=2))
    assert "nobody reserved" in refused(reserved(BOTH), spent(0, site="site-b"))
    training_only = reserved(total([TRAINING]), mechanisms=[TRAINING.to_json()])
    assert "never reserved" in refused(training_only, spent(0))
    assert "reserved already" in refused(reserved(BOTH), reserved(total([TRAINING, EVALUATION] * 2)))


def test_only_pools_are_drawn_on() -> None:
    nobody = entry(COORDINATOR, "budget.reserved", {"plan_digest": DIGEST, "round": 1, "attempt": 1})
    assert "no pool" in refused(nobody)


@pytest.mark.parametrize("changed", [{"round": True}, {"round": "1"}, {"attempt": None}, {"plan_digest": 1}])
def test_ill_typed_events_do_not_add_up(changed: dict[str, Any]) -> None:
    assert refused(reserved(BOTH, **changed))


def test_an_account_is_whole_numbers_and_text() -> None:
    def walk(value: object) -> None:
        assert not isinstance(value, float) or value in (2.0, 3.0, 0.2), "floats stand as the ledger has them"
        for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
            walk(item)

    account = counted(reserved(BOTH)).accounts()[0].to_json()
    walk(account)
    assert account["delta"] == "0.00001"
    assert account["spent_epsilon_micro"] == BOTH
    untouched = counted().accounts()[0]
    assert (untouched.spent, untouched.epsilon_micro) == (Curve.zero(), 0)


@given(st.floats(min_value=1e-300, max_value=1e300))
def test_decimal_text_reads_back_the_same(value: float) -> None:
    text = decimal_text(value)
    assert float(text) == value and "e" not in text.lower()
