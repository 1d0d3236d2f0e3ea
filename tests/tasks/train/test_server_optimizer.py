"""The server's steps against the paper's equations, one weight at a time, and torch's; the state's strict form."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save

from policies.training import Server
from tasks.train.server_optimizer import Row, ServerState, ServerStateError, learning_rate_at, step
from tasks.train.weights import WeightsError, unflatten

TERMS = [Server(optimizer=name) for name in ("average", "adam", "yogi")]
SIZE = 997

numbers = st.floats(min_value=-8.0, max_value=8.0, allow_nan=False, width=32)


def written_out(terms: Server, rate: float, x: float, updates: list[float]) -> list[float]:
    """Reddi et al. 2021, algorithm 2, for one weight, as it stands in the paper."""
    m, v, places = 0.0, terms.tau * terms.tau, []
    for d in updates:
        m = terms.beta1 * m + (1.0 - terms.beta1) * d
        if terms.optimizer == "adam":
            v = terms.beta2 * v + (1.0 - terms.beta2) * (d * d)
        elif v - d * d != 0.0:
            v = v - (1.0 - terms.beta2) * (d * d) * math.copysign(1.0, v - d * d)
        x = x + rate * d if terms.optimizer == "average" else x + rate * m / (math.sqrt(v) + terms.tau)
        places.append(x)
    return places


def rounds(terms: Server, rate: float, x: Row, updates: list[Row]) -> tuple[Row, ServerState | None]:
    state = ServerState.fresh(terms, len(x)) if terms.keeps_state else None
    for update in updates:
        x, state = step(x, update, state, terms=terms, learning_rate=rate)
    return x, state


@settings(max_examples=60, deadline=None)
@given(
    optimizer=st.sampled_from(["average", "adam", "yogi"]),
    beta1=st.floats(0, 0.99),
    beta2=st.floats(0, 0.999),
    tau=st.floats(1e-6, 1.0),
    rate=st.floats(1e-4, 10.0),
    starts=st.lists(numbers, min_size=1, max_size=9),
    data=st.data(),
)
def test_every_weight_takes_the_papers_step_bit_for_bit(
    optimizer: str,
    beta1: float,
    beta2: float,
    tau: float,
    rate: float,
    starts: list[float],
    data: st.DataObject,
) -> None:
    terms = Server.from_value(
        {"optimizer": optimizer, "beta1": beta1, "beta2": beta2, "tau": tau}, what="server"
    )
    updates = data.draw(st.lists(st.lists(numbers, min_size=len(starts), max_size=len(starts)), max_size=4))
    moved, _ = rounds(terms, rate, np.array(starts), [np.array(update) for update in updates])
    for place, start in enumerate(starts):
        alone = written_out(terms, rate, start, [update[place] for update in updates])
        assert moved[place] == ([start, *alone][-1])


def test_adam_is_torchs_where_the_equations_agree() -> None:
    """torch's v starts at zero and both means are corrected for it. So late that the corrections are 1, and with v
    put at tau^2, both take the same steps: torch's epsilon is tau, its gradient the update turned round."""
    terms, random = Server(optimizer="adam", tau=0.03), np.random.default_rng(0)
    start, updates = random.normal(size=SIZE), [random.normal(size=SIZE) for _ in range(5)]
    weight = torch.nn.Parameter(torch.tensor(start))
    theirs = torch.optim.Adam([weight], lr=0.2, betas=(terms.beta1, terms.beta2), eps=terms.tau)
    theirs.state[weight] = {
        "step": torch.tensor(1e7),
        "exp_avg": torch.zeros_like(weight),
        "exp_avg_sq": torch.full_like(weight, terms.tau**2),
    }
    for update in updates:
        weight.grad = torch.tensor(-update)
        theirs.step()
    ours, _ = rounds(terms, 0.2, start, updates)
    assert np.allclose(ours, weight.detach().numpy(), rtol=0, atol=1e-12)


def test_an_average_is_what_it_was_before_there_were_other_optimisers() -> None:
    """The digests that plans of earlier snapshots released."""
    base = ((np.arange(SIZE) % 97 - 48) / 64.0).astype(np.float32)
    mean = (np.arange(SIZE) * 7919 % 20011 - 10005) / 4096.0
    moved, state = step(base.astype(np.float64), mean, None, terms=Server(), learning_rate=0.7)
    assert state is None
    assert hashlib.sha256(moved.astype("<f4").tobytes()).hexdigest() == (
        "590b11bdb208089203dc543b9f34ec196429100a702b3d773f399c014b59ea60"
    )


LAYOUTS: dict[str, Callable[[Row], Row]] = {
    "every other of twice as many": lambda row: np.repeat(row, 2)[::2],
    "backwards": lambda row: row[::-1].copy()[::-1],
    "off the vector registers' edge": lambda row: np.concatenate([[0.0], row])[1:],
    "a column": lambda row: np.asfortranarray(np.tile(row[:, None], 3))[:, 1],
    "a row of a column": lambda row: np.tile(row[:, None], 3)[:, 1],
    "the other byte order": lambda row: row.astype(">f8"),
}


@pytest.mark.parametrize("terms", TERMS, ids=lambda terms: terms.optimizer)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_result_does_not_depend_on_how_numbers_lie_in_memory(terms: Server, layout: str) -> None:
    random, lie = np.random.default_rng(1), LAYOUTS[layout]
    x, updates = random.normal(size=SIZE), [random.normal(size=SIZE) / 100 for _ in range(4)]
    straight, state = rounds(terms, 0.3, x, updates)
    bent, bent_state = rounds(terms, 0.3, lie(x), [lie(update) for update in updates])
    assert straight.tobytes() == bent.astype("<f8").tobytes()
    if state is not None and bent_state is not None:
        assert state.to_bytes() == bent_state.to_bytes()
    one_by_one = [rounds(terms, 0.3, x[i : i + 1], [u[i : i + 1] for u in updates])[0] for i in range(SIZE)]
    assert np.concatenate(one_by_one).tobytes() == straight.tobytes()


@pytest.mark.parametrize("terms", TERMS[1:], ids=lambda terms: terms.optimizer)
def test_a_state_that_was_stored_goes_on_as_one_that_was_not(terms: Server) -> None:
    random = np.random.default_rng(2)
    x, updates = random.normal(size=SIZE), [random.normal(size=SIZE) / 1000 for _ in range(6)]
    whole, _ = rounds(terms, 0.1, x, updates)
    half, state = rounds(terms, 0.1, x, updates[:3])
    for update in updates[3:]:
        assert state is not None
        state = ServerState.from_bytes(state.to_bytes(), size=SIZE)
        half, state = step(half, update, state, terms=terms, learning_rate=0.1)
    assert half.tobytes() == whole.tobytes()


@settings(max_examples=50, deadline=None)
@given(st.lists(numbers, min_size=1, max_size=30), st.floats(0, 0.999), st.floats(1e-9, 10.0))
def test_a_mean_of_squares_never_falls_below_zero(updates: list[float], beta2: float, tau: float) -> None:
    for name in ("adam", "yogi"):
        terms = Server.from_value({"optimizer": name, "beta2": beta2, "tau": tau}, what="server")
        _, state = rounds(terms, 1.0, np.zeros(1), [np.array([update]) for update in updates])
        assert state is not None and state.v[0] >= 0
        ServerState.from_bytes(state.to_bytes(), size=1)


def test_a_linear_schedule_falls_to_zero_after_the_last_round() -> None:
    linear, constant = Server(schedule="linear"), Server()
    rates = [learning_rate_at(linear, 0.8, round_number=number, rounds=4) for number in (1, 2, 3, 4)]
    assert rates == [0.8, 0.8 * 3 / 4, 0.8 * 2 / 4, 0.8 / 4]
    assert {learning_rate_at(constant, 0.8, round_number=number, rounds=4) for number in (1, 4)} == {0.8}


M, V = np.zeros(3), np.ones(3)
BAD_STATES = {
    "no safetensors": b"m and v",
    "nothing": b"",
    "m alone": save({"m": M}),
    "something beside": save({"m": M, "v": V, "name": V}),
    "too short": save({"m": M[:2], "v": V}),
    "a column": save({"m": M, "v": V[:, None].copy()}),
    "single precision": save({"m": M.astype(np.float32), "v": V}),
    "not a number": save({"m": np.array([0, np.nan, 0]), "v": V}),
    "endless": save({"m": M, "v": np.array([1, np.inf, 1])}),
    "squares below zero": save({"m": M, "v": np.array([1, -1e-300, 1])}),
    "cut off": ServerState(m=M, v=V).to_bytes()[:-1],
}


@pytest.mark.parametrize("bad", BAD_STATES)
def test_a_state_that_is_not_exactly_one_is_refused(bad: str) -> None:
    with pytest.raises(ServerStateError):
        ServerState.from_bytes(BAD_STATES[bad], size=3)


def test_an_average_takes_no_state_and_the_others_do_not_go_without() -> None:
    with pytest.raises(ServerStateError):
        step(M, M, ServerState(m=M, v=V), terms=TERMS[0], learning_rate=1.0)
    for terms in TERMS[1:]:
        with pytest.raises(ServerStateError):
            step(M, M, None, terms=terms, learning_rate=1.0)
        with pytest.raises(ServerStateError):
            step(M, M[:2], ServerState.fresh(terms, 3), terms=terms, learning_rate=1.0)


def test_weights_that_overflow_become_no_model() -> None:
    terms = Server(optimizer="adam", tau=1e-300)
    moved, _ = step(M, np.full(3, 1e-200), ServerState.fresh(terms, 3), terms=terms, learning_rate=1e6)
    with pytest.raises(WeightsError), np.errstate(over="ignore"):
        unflatten(moved, {"w": np.zeros(3, np.float32)})
