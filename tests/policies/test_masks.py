"""A plan that learns masks: what a patient's two figures cost, what is read off them, and what gates ask."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.cost import INVERSE_ROOT_2, evaluation_mechanism, mechanisms_of
from policies.document import MalformedDocumentError
from policies.opening import figures_micro_of, histogram_lane_count
from policies.plan import Evaluation, Plan
from privacy.histogram import isotonic, mean, score_histogram
from privacy.noise import NoiseStream
from tasks.score import mask_counts
from tasks.segmentation import Segmented
from tests.plans import tiny_plan

MASKS: dict[str, Any] = {
    "image": {"height_px": 8, "width_px": 8, "modalities": ["CR"]},
    "target": "mask",
    "labels": [0, 1],
    "minimum_patients": 20,
    "held_out_fraction": 0.5,
}


def mask_plan(**fields: object) -> Plan:
    return tiny_plan(**{"data": MASKS, "gates": {"minimum_dice": 0.4}, **fields})


class _Silence(NoiseStream):
    """Draws zeros: to see what the noise is added to."""

    def gaussian(self, count: int, std: float) -> np.ndarray[Any, np.dtype[np.float64]]:
        return np.zeros(count)


def counted(dice: list[float], distance: list[float], sexes: list[int], terms: Evaluation) -> np.ndarray:
    with _Silence() as silence:
        return mask_counts(Segmented(np.array(dice), np.array(distance)), np.array(sexes), terms, silence)


FIGURES = st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1), st.integers(0, 2)), min_size=1, max_size=20)


@pytest.mark.parametrize("subgroups", ["none", "sex"])
@settings(deadline=None)
@given(patients=FIGURES)
def test_one_patient_more_moves_the_counts_by_what_is_charged(
    subgroups: str, patients: list[tuple[float, float, int]]
) -> None:
    terms = Evaluation.from_value({"bins": 8, "noise_std": 3.0, "subgroups": subgroups}, what="evaluation")
    whole, less = (counted(*map(list, zip(*some, strict=True)), terms) if some else np.zeros(0)
                   for some in (patients, patients[1:]))  # fmt: skip
    moved = float(np.linalg.norm(whole - (less if len(less) else 0)))
    assert moved == pytest.approx(math.sqrt(2))
    charged = evaluation_mechanism(mask_plan(evaluation=terms.to_json())).noise_multiplier
    assert charged <= 3.0 / moved  # a smaller multiplier costs more: never less noise than is charged for


@settings(deadline=None)  # plans take a while to read
@given(st.floats(0.1, 1e4))
def test_the_multiplier_is_never_rounded_up(noise_std: float) -> None:
    charged = evaluation_mechanism(mask_plan(evaluation={"bins": 4, "noise_std": noise_std}))
    assert charged.noise_multiplier**2 * 2 <= noise_std**2
    assert INVERSE_ROOT_2**2 * 2 < 1


def test_labels_cost_what_they_did() -> None:
    (mechanism,) = mechanisms_of(tiny_plan(), "evaluation", round_number=1)
    assert mechanism.to_json()["noise_multiplier"] == 3.0
    (twice,) = mechanisms_of(mask_plan(), "evaluation", round_number=1)
    assert float(str(twice.to_json()["noise_multiplier"])) < 3.0


def test_what_is_read_off_is_the_mean_dice_of_everybody_and_of_each_sex() -> None:
    plan = mask_plan(evaluation={"bins": 10, "noise_std": 3.0, "subgroups": "sex"})
    lanes = counted([0.95, 0.95, 0.25, 0.55], [0.05] * 4, [0, 0, 1, 2], plan.evaluation).astype(np.int32)
    assert len(lanes) == histogram_lane_count(plan.evaluation)
    found = figures_micro_of(lanes, plan)
    assert (found.auc, found.subgroup_aucs) == (None, ())
    assert found.dice == 675_000 and found.subgroup_dices == (950_000, 250_000)
    labels = figures_micro_of(lanes, tiny_plan(evaluation=plan.evaluation.to_json()))
    assert labels.dice is None and labels.auc is not None


@given(st.lists(st.floats(0, 1), min_size=1, max_size=50), st.integers(1, 64))
def test_the_mean_is_within_half_a_bin(values: list[float], bins: int) -> None:
    row = score_histogram(np.array(values), np.zeros(len(values), np.int64), bins)[0]
    found = mean(row)
    assert found is not None and abs(float(found) - np.mean(values)) <= 0.5 / bins + 1e-12


@given(st.lists(st.integers(-50, 50), min_size=1, max_size=40))
def test_the_exact_mean_is_the_floating_one_and_a_share_whatever_the_noise(cells: list[int]) -> None:
    row = np.array(cells, np.int64)
    counts = np.maximum(isotonic(np.cumsum(row)), 0.0)
    found = mean(row)
    if counts[-1] < 0.5 - 1e-9:
        assert found is None
    elif found is not None:
        middles = (np.arange(len(row)) + 0.5) / len(row)
        assert float(found) == pytest.approx(float((np.diff(counts, prepend=0) * middles).sum() / counts[-1]))
        assert 0 <= found <= 1


@pytest.mark.parametrize(
    "data, gates",
    [
        (MASKS, {"minimum_auc": 0.5}),
        (MASKS, {"minimum_auc": 0.5, "minimum_dice": 0.5}),
        (MASKS, {}),
        (None, {"minimum_dice": 0.5}),
        (None, {"minimum_auc": 0.5, "minimum_dice": 0.5}),
        (None, {}),
    ],
)
def test_a_plan_names_the_floor_of_what_it_learns_and_no_other(data: object, gates: object) -> None:
    fields = {"gates": gates} if data is None else {"gates": gates, "data": data}
    with pytest.raises(MalformedDocumentError, match=r"gates\.minimum_"):
        tiny_plan(**fields)
