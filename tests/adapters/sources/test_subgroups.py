"""Who counts in which subgroup: everybody in exactly one of each kind, whatever a record says."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.sources.subgroups import groups_of
from policies.plan import Evaluation
from privacy.histogram import KINDS, SUBGROUPS, Kind
from privacy.noise import NoiseStream
from tasks.score import evaluation_counts


class Silence(NoiseStream):
    """Draws zeros: to see what the noise is added to."""

    def gaussian(self, count: int, std: float) -> npt.NDArray[np.float64]:
        return np.zeros(count)


SAID: tuple[tuple[Kind, str, str], ...] = (
    ("sex", "F", "female"), ("sex", " male ", "male"), ("sex", "O", "other"), ("sex", "", "other"),
    ("age", "59.9", "under-60"), ("age", "60", "60-and-over"), ("age", "0", "under-60"), ("age", "90", "60-and-over"),
    ("age", "", "other"), ("age", "old", "other"), ("age", "-1", "other"), ("age", "1e9", "other"),
    ("age", "nan", "other"), ("race", "Caucasian", "white"), ("race", "white", "white"),
    ("race", "Black or African American", "black"), ("race", "african-american", "black"), ("race", "asian", "other"),
    ("race", "", "other"),
)  # fmt: skip


@pytest.mark.parametrize(("kind", "text", "group"), SAID)
def test_what_a_record_says_places_a_patient(kind: Kind, text: str, group: str) -> None:
    (found,) = groups_of({kind: [text]}, items=1)
    for column, other in enumerate(KINDS):
        assert SUBGROUPS[other][found[column]] == (group if other == kind else "other")


@given(st.lists(st.tuples(st.text(max_size=8), st.text(max_size=8), st.text(max_size=8)), max_size=30))
def test_everybody_is_counted_once_whatever_is_said(said: list[tuple[str, str, str]]) -> None:
    texts = {kind: [row[column] for row in said] for column, kind in enumerate(KINDS)}
    groups = groups_of(texts, items=len(said))
    scores, labels = np.full(len(said), 0.4, np.float32), np.arange(len(said)) % 2
    for column, kind in enumerate(KINDS):
        terms = Evaluation.from_value({"bins": 4, "noise_std": 1.0, "subgroups": kind}, what="evaluation")
        with Silence() as silence:
            counts = evaluation_counts(scores, labels, groups[:, column], terms, silence)
        assert counts.sum() == len(said) and len(counts) == 2 * 4 * len(SUBGROUPS[kind])
