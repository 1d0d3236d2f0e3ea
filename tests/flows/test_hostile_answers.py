"""Second messages that are false, for another set, missing or not what was signed: each leaves its site out, no more.

Of four sites three answers open a sum. The fourth lies in another way in each step.
"""

from __future__ import annotations

import os

import pytest

from adapters import mail
from adapters.exchange import DirectoryExchange, Exchange
from adapters.home import Home
from ledger import envelope
from policies.answer import PAYLOAD_TYPE, SumAnswer
from policies.plan import Plan
from policies.receipt import Step
from privacy.protected_sum import Answer
from tasks.opening import said
from tasks.summing import SumTerms
from tasks.worker.site_session import SiteSession
from tests.consortium import SITES, Consortium, site_worker
from tests.plans import tiny_plan

pytestmark = pytest.mark.xdist_group("rounds-1")

D = SITES[3]
UNSENT = "cd" * 32


class LyingSession(SiteSession):
    """In round 1 as many random bytes as an answer has, then an answer without shares."""

    def answer(self, plan: Plan, terms: SumTerms, *rest: object) -> Answer | None:
        honest = super().answer(plan, terms, *rest)
        assert honest is not None
        if terms.context.round > 1:
            return honest
        random = Answer(unmask=os.urandom(len(honest.unmask)))
        return random if terms.context.step == "training" else Answer()


class LyingExchange:
    """In round 2 it signs for another closed set, then shares that it never sent; in round 3 it sends another site's
    answer as its own."""

    def __init__(self, inner: Exchange, home: Home) -> None:
        self._inner, self._home = inner, home

    def put(self, name: str, data: bytes) -> None:
        self._inner.put(name, self._bent(name, data))

    def replace(self, name: str, data: bytes) -> None:
        self._inner.replace(name, self._bent(name, data))

    def _bent(self, name: str, data: bytes) -> bytes:
        if not name.startswith("answers/"):
            return data
        honest = SumAnswer.from_canonical(envelope.parse(data).payload, what="answer")
        match honest.round, honest.step:
            case 2, "training":
                return self._signed(honest.with_fields({"closed_digest": "ab" * 32}))
            case 2, "evaluation":
                return self._signed(honest.with_fields({"unmask_digest": UNSENT}))
            case 3, "training":
                return self._inner.get(f"{name.rpartition('/')[0]}/{SITES[0]}") or b"not yet there"
        return data

    def _signed(self, answer: SumAnswer) -> bytes:
        signer = self._home.signer("signing", D)
        return envelope.sign(PAYLOAD_TYPE, answer.canonical_bytes(), [signer]).encode()

    def get(self, name: str, *, at_most_bytes: int | None = None) -> bytes | None:
        return self._inner.get(name, at_most_bytes=at_most_bytes)

    def names(self, prefix: str) -> list[str]:
        return self._inner.names(prefix)


async def test_whatever_one_site_answers_the_sum_is_opened_from_the_others(
    consortium: Consortium, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.opening.GRACE_S", 0.5)
    consortium.workers[D] = site_worker(LyingSession)
    home = Home(consortium.founded.sites[D])
    consortium.exchanges[D] = lambda shared: LyingExchange(shared, home)
    plan = tiny_plan(rounds=3)
    outcome = await consortium.run(plan)
    assert outcome.errors == {}
    assert [outcome.missing(plan, number) for number in (1, 2, 3)] == [{}] * 3
    assert consortium.registered_versions() == 3
    # Each lie is there, so that it was this that was left out. Only some of them are answers by their form.
    exchange = DirectoryExchange(consortium.founded.exchange)
    digest, published = plan.content_digest(), outcome.state.plans[plan.content_digest()]
    steps: list[tuple[int, Step]] = [(n, step) for n in (1, 2, 3) for step in ("training", "evaluation")]
    assert all(exchange.get(f"{mail.answers(digest, *step)}/{D}") for step in steps)
    found = {step: said(exchange, outcome.state, published, *step, D) for step in steps}
    assert {step for step in steps if found[step] is None} == {(2, "training"), (3, "training")}
    unsent = found[2, "evaluation"]
    assert unsent is not None and unsent.unmask_digest == UNSENT
