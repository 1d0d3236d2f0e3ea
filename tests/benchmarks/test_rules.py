"""Decisions a second behind all guards, beside the engine asked the same rules bare, in interleaved rounds.

Bare: no check of the facts, no lock, no check of the answer. CPU time of one process, which is one core. The aim is
1,500 reservations a second.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Final

import pytest
from pytest_benchmark.fixture import BenchmarkFixture
from regopy import Interpreter

from policies.rego import DECISIONS, INSTALLED, Rules
from policies.rego_sources import read_sources
from tests.policies.admitted import ADMITTED, Document

ROUNDS: Final = 9
TIMES: Final = 300


def bare(decision: str) -> Callable[[Document], list[str]]:
    engine = Interpreter()
    for name, text in sorted(read_sources(INSTALLED).items()):
        engine.add_module(name, text)
    entry = f"wardround/decision/{decision}"
    bundle = engine.build(None, [entry])

    def ask(facts: Document) -> list[str]:
        engine.set_input(facts)
        codes: list[str] = engine.query_bundle_entrypoint(bundle, entry).results[0].expressions[0]
        return codes

    return ask


def per_s(ask: Callable[[], object]) -> float:
    start = time.process_time()
    for _ in range(TIMES):
        ask()
    return TIMES / (time.process_time() - start)


@pytest.mark.benchmark(group="rules")
@pytest.mark.parametrize("decision", DECISIONS)
def test_decide(benchmark: BenchmarkFixture, decision: str) -> None:
    rules, engine, facts = Rules.load(), bare(decision), ADMITTED[decision]
    assert rules.decide(decision, facts) == () and engine(facts) == []
    rounds: list[tuple[float, float]] = []
    benchmark.pedantic(
        lambda: rounds.append(
            (per_s(lambda: rules.decide(decision, facts)), per_s(lambda: engine(facts))),
        ),
        rounds=ROUNDS,
        warmup_rounds=1,
    )
    speed = statistics.median(guarded for guarded, _ in rounds)
    ratio = statistics.median(guarded / plain for guarded, plain in rounds)
    print(f"\n{decision:<12} {speed:>7,.0f} decisions/s, {ratio:.2f} of the bare engine", end="")
