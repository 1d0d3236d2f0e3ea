from __future__ import annotations

import copy
import math
import multiprocessing
import pickle
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection

import numpy as np
import pytest
from scipy import stats

import privacy.noise as noise_module
from privacy.noise import NoiseRequestError, NoiseStream, NoiseStreamError

# Statistical tests run on true randomness: each threshold fails a correct stream less than once in 10^7 runs.
P_VALUE = 1e-8


def test_gaussians_have_the_asked_distribution() -> None:
    with NoiseStream() as stream:
        samples = stream.gaussian(200_000, 3.0)
    assert samples.shape == (200_000,) and samples.dtype == np.float64
    assert stats.kstest(samples / 3.0, "norm").pvalue > P_VALUE
    assert abs(samples.mean()) < 6 * 3.0 / math.sqrt(len(samples))
    assert abs(samples.var() / 9.0 - 1) < 6 * math.sqrt(2 / len(samples))
    assert abs(stats.kurtosis(samples)) < 6 * math.sqrt(24 / len(samples))
    # Neither the two halves nor neighbours know of each other.
    assert abs(np.corrcoef(samples[:-1], samples[1:])[0, 1]) < 6 / math.sqrt(len(samples))
    assert abs(np.corrcoef(samples[:100_000], samples[100_000:])[0, 1]) < 6 / math.sqrt(100_000)


def test_a_sample_is_built_from_four_uniforms_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Changing one uniform changes one sample: the mitigation of Holohan and Braghin with n = 2."""
    with NoiseStream() as stream:
        uniforms = stream.uniforms(400)
        asked: list[int] = []

        def fixed(count: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
            asked.append(count)
            return uniforms.copy()

        monkeypatch.setattr(stream, "uniforms", fixed)
        before = stream.gaussian(100, 1.0)
        assert asked == [400]
        for place in range(0, 400, 57):
            kept = uniforms[place]
            uniforms[place] = (kept + 0.37) % 1
            assert np.flatnonzero(stream.gaussian(100, 1.0) != before).tolist() == [place % 100]
            uniforms[place] = kept


def test_extreme_uniforms_give_finite_gaussians(monkeypatch: pytest.MonkeyPatch) -> None:
    with NoiseStream() as stream:
        for word in (0.0, 1 - 2.0**-53):
            monkeypatch.setattr(stream, "uniforms", lambda count, word=word: np.full(count, word))
            assert np.isfinite(stream.gaussian(10, 1.0)).all()


def test_uniforms_are_uniform_over_53_bits() -> None:
    with NoiseStream() as stream:
        uniforms = stream.uniforms(200_000)
    assert stats.kstest(uniforms, "uniform").pvalue > P_VALUE
    assert uniforms.min() >= 0 and uniforms.max() < 1
    low_bits = (uniforms * 2.0**53).astype(np.uint64) & np.uint64(1)
    assert abs(low_bits.mean() - 0.5) < 6 * 0.5 / math.sqrt(len(uniforms))


def test_two_streams_and_two_reads_are_never_equal() -> None:
    with NoiseStream() as a, NoiseStream() as b:
        first, second, other = a.words(1000), a.words(1000), b.words(1000)
    assert len(set(first.tolist()) | set(second.tolist()) | set(other.tolist())) == 3000


def test_a_long_read_never_repeats_across_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(noise_module, "_ZEROS", bytes(64))
    monkeypatch.setattr(noise_module, "_CHUNK_SAMPLES", 8)
    with NoiseStream() as stream:
        assert len(set(stream.words(1001).tolist())) == 1001
        assert len(set(stream.gaussian(1001, 1.0).tolist())) == 1001


def test_threads_never_draw_the_same_numbers() -> None:
    with NoiseStream() as stream, ThreadPoolExecutor(8) as pool:
        words = [word for part in pool.map(stream.words, [1000] * 64) for word in part.tolist()]
    assert len(set(words)) == 64_000


def test_a_stream_is_never_copied() -> None:
    with NoiseStream() as stream:
        for attempt in (pickle.dumps, copy.copy, copy.deepcopy):
            with pytest.raises(NoiseStreamError) as refusal:
                attempt(stream)
            assert refusal.value.code == "privacy.noise-stream"


def test_the_key_stays_nowhere_in_the_object() -> None:
    with NoiseStream() as stream:
        assert not [value for value in vars(stream).values() if isinstance(value, bytes | bytearray)]


def test_a_closed_stream_refuses() -> None:
    with NoiseStream() as stream:
        stream.words(1)
    with pytest.raises(NoiseStreamError):
        stream.words(1)


def _draw(stream: NoiseStream, answer: Connection) -> None:
    try:
        stream.words(1)
    except NoiseStreamError:
        answer.send("refused")
    else:
        answer.send("drawn")


def test_a_forked_child_cannot_draw_the_parents_noise_again() -> None:
    fork = multiprocessing.get_context("fork")
    here, there = fork.Pipe()
    with NoiseStream() as stream:
        child = fork.Process(target=_draw, args=(stream, there))
        child.start()
        assert here.poll(20) and here.recv() == "refused"
        child.join()


@pytest.mark.parametrize("probability", [0.0, 1e-3, 0.1, 0.5, 0.9, 1.0])
def test_coins_fall_as_often_as_asked(probability: float) -> None:
    with NoiseStream() as stream:
        coins = stream.bernoulli(probability, 200_000)
    assert coins.dtype == np.bool_
    spread = math.sqrt(probability * (1 - probability) / len(coins))
    assert abs(coins.mean() - probability) <= 6 * spread + 1e-12


def test_a_coins_threshold_is_exact_and_rounded_down(monkeypatch: pytest.MonkeyPatch) -> None:
    with NoiseStream() as stream:
        edge = int(0.1 * 2**64)
        words = np.array([0, edge - 1, edge, 2**64 - 1], dtype=np.uint64)
        monkeypatch.setattr(stream, "words", lambda count: words)
        assert stream.bernoulli(0.1, 4).tolist() == [True, True, False, False]
        assert stream.bernoulli(1.0, 4).all()
        assert not stream.bernoulli(0.0, 4).any()
        assert not stream.bernoulli(2.0**-70, 4).any()


def test_integers_are_uniform() -> None:
    with NoiseStream() as stream:
        counts = np.bincount(stream.integers(7, 140_000), minlength=7)
        chosen = stream.choices(np.array([1, 2, 3] * 30_000, dtype=np.int64)).reshape(-1, 3)
    assert stats.chisquare(counts).pvalue > P_VALUE
    assert not chosen[:, 0].any() and set(chosen[:, 1]) == {0, 1} and set(chosen[:, 2]) == {0, 1, 2}
    assert stats.chisquare(np.bincount(chosen[:, 2])).pvalue > P_VALUE


def test_words_that_would_favour_an_integer_are_drawn_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """2^64 mod 3 = 1: word 0 has no partners and is refused, so 3 words for 0, 1, 2 each remain."""
    drawn = iter(
        [
            np.array([0, 1, 2, 3], dtype=np.uint64),
            np.array([0], dtype=np.uint64),
            np.array([5], dtype=np.uint64),
        ]
    )
    with NoiseStream() as stream:
        monkeypatch.setattr(stream, "words", lambda count: next(drawn))
        assert stream.integers(3, 4).tolist() == [2, 1, 2, 0]


def test_a_buffer_is_filled_with_fresh_words_each_time() -> None:
    with NoiseStream() as stream:
        words = np.zeros(50_000, dtype=np.uint32)
        stream.fill(words)
        first = words.copy()
        stream.fill(words)
        assert stats.kstest(words / 2.0**32, "uniform").pvalue > P_VALUE
        assert np.count_nonzero(first == words) < 3
        stream.fill(words[:0])
    with pytest.raises(NoiseStreamError):
        stream.fill(words)


def test_wrong_requests_are_refused() -> None:
    with NoiseStream() as stream:
        for std in (0.0, -1.0, math.nan, math.inf):
            with pytest.raises(NoiseRequestError):
                stream.gaussian(1, std)
        for probability in (-0.1, 1.1, math.nan):
            with pytest.raises(NoiseRequestError):
                stream.bernoulli(probability, 1)
        for wrong in (
            lambda: stream.words(-1),
            lambda: stream.gaussian(-1, 1.0),
            lambda: stream.integers(0, 1),
        ):
            with pytest.raises(NoiseRequestError) as refusal:
                wrong()
            assert refusal.value.code == "privacy.noise-invalid"
        assert stream.words(0).shape == (0,) and stream.gaussian(0, 1.0).shape == (0,)
