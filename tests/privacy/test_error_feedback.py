from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privacy.encoding import Encoding, clip_l2
from privacy.error_feedback import (
    ErrorFeedback,
    ResidualInvalidError,
    ResidualUnaccountedError,
    check_residual,
)
from privacy.noise import NoiseStream
from privacy.support import SupportInvalidError, gather, scatter, support, support_seed

PLAN, OTHER = "5f" * 32, "60" * 32
ENCODING = Encoding(lane_bits=16, bound=0.5, maximum_sites=5)


def _feedback(dimension: int) -> ErrorFeedback:
    return ErrorFeedback(dimension, plan_digest=PLAN, noise="local")


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.05, 0.3, 1.0]))
def test_nothing_is_lost_but_delayed(entropy: int, keep: float) -> None:
    """What was sent so far and the residual add up to all updates so far, after clipping and rounding."""
    dimension, random = 40, np.random.default_rng(entropy)
    feedback, updates, arrived = _feedback(dimension), np.zeros(dimension), np.zeros(dimension)
    clipped_once = False
    with NoiseStream() as rounding:
        for number in range(1, 9):
            update = random.normal(scale=0.3, size=dimension).astype(np.float32)
            updates += update
            chosen = support(dimension, keep, seed=support_seed(PLAN, number), previous=None)
            corrected = feedback.take(update)
            values = gather(corrected, chosen)
            clipped_once |= float(np.linalg.norm(values)) > ENCODING.bound
            lanes = ENCODING.encode(clip_l2(values, ENCODING.bound), rounding)
            sent = ENCODING.decode_sum(lanes, sites=1)
            feedback.keep(corrected, sent, chosen)
            arrived += scatter(sent, chosen, dimension)
    assert clipped_once and feedback.rounds == 8
    left = feedback.take(np.zeros(dimension, dtype=np.float32))
    assert np.allclose(arrived + left, updates, rtol=0, atol=1e-5)


def test_the_whole_update_sent_leaves_only_what_rounding_took() -> None:
    feedback = _feedback(3)
    corrected = feedback.take(np.array([0.1, -0.2, 0.3], dtype=np.float32))
    sent = ENCODING.decode_sum(ENCODING.encode(corrected), sites=1)
    feedback.keep(corrected, sent, None)
    left = feedback.take(np.zeros(3, dtype=np.float32))
    assert 0 < np.abs(left).max() <= 0.51 / ENCODING.scale


def test_taking_changes_nothing_until_something_was_sent() -> None:
    feedback, update = _feedback(2), np.array([1, 2], dtype=np.float32)
    first = feedback.take(update)
    first += 7
    assert feedback.take(update).tolist() == [1, 2] and feedback.rounds == 0


def test_a_residual_under_distributed_noise_is_refused() -> None:
    """The attack: what a site did not send of a round carries too little noise of its own, and leaves later."""
    check_residual("local")
    for attempt in (
        lambda: check_residual("distributed"),
        lambda: ErrorFeedback(2, plan_digest=PLAN, noise="distributed"),
        lambda: ErrorFeedback.from_bytes(b"", dimension=2, plan_digest=PLAN, noise="distributed"),
    ):
        with pytest.raises(ResidualUnaccountedError) as refusal:
            attempt()
        assert refusal.value.code == "privacy.residual-unaccounted"


def _kept() -> ErrorFeedback:
    feedback = _feedback(3)
    feedback.keep(np.array([1, -2, 3], dtype=np.float32), np.array([0.5]), np.array([2]))
    return feedback


def test_a_residual_survives_a_restart() -> None:
    data = _kept().to_bytes()
    assert data == b"wardround/error-feedback/v1\n" + bytes.fromhex(PLAN) + struct.pack(
        "<II3f", 1, 3, 1.0, -2.0, 2.5
    )
    again = ErrorFeedback.from_bytes(data, dimension=3, plan_digest=PLAN, noise="local")
    assert again.rounds == 1 and again.to_bytes() == data
    again.keep(again.take(np.zeros(3, np.float32)), np.array([1.0]), np.array([0]))
    assert again.rounds == 2 and data != again.to_bytes()


def test_a_residual_ends_with_its_plan() -> None:
    with pytest.raises(ResidualInvalidError, match="another plan"):
        ErrorFeedback.from_bytes(_kept().to_bytes(), dimension=3, plan_digest=OTHER, noise="local")


@pytest.mark.parametrize(
    "spoil",
    [
        lambda data: b"",
        lambda data: data[:-1],
        lambda data: data + b"\x00",
        lambda data: b"W" + data[1:],
        lambda data: data.replace(b"/v1\n", b"/v2\n"),
        lambda data: data[:64] + struct.pack("<I", 4) + data[68:],
        lambda data: data[:68] + struct.pack("<f", float("nan")) + data[72:],
        lambda data: data[:-4] + struct.pack("<f", float("-inf")),
    ],
)
def test_spoilt_bytes_are_refused(spoil) -> None:
    with pytest.raises(ResidualInvalidError) as refusal:
        ErrorFeedback.from_bytes(spoil(_kept().to_bytes()), dimension=3, plan_digest=PLAN, noise="local")
    assert refusal.value.code == "privacy.residual-invalid"


def test_vectors_that_do_not_fit_are_refused() -> None:
    feedback, zeros = _feedback(3), np.zeros(3, np.float32)
    for update in (np.zeros(4, np.float32), np.zeros(3), np.zeros((1, 3), np.float32)):
        with pytest.raises(ResidualInvalidError):
            feedback.take(update)
    for value in (np.nan, np.inf, -np.inf):
        with pytest.raises(ResidualInvalidError):
            feedback.take(np.array([0, value, 0], dtype=np.float32))
    for sent, chosen in ((np.zeros(2), None), (np.zeros(2), np.array([1])), (np.zeros(4), None)):
        with pytest.raises(ResidualInvalidError):
            feedback.keep(zeros, sent, chosen)
    for places in ([1, 1], [2, 1], [0, 3], [-1, 0]):
        with pytest.raises(SupportInvalidError):
            feedback.keep(zeros, np.zeros(2), np.array(places))
    for dimension, digest in ((0, PLAN), (3, "zz"), (3, "00")):
        with pytest.raises(ResidualInvalidError):
            ErrorFeedback(dimension, plan_digest=digest, noise="local")
