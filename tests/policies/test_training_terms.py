"""What a plan's training may not say, because the noise or the clip would not be what it claims."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ledger.errors import CodedError
from policies.cost import plan_cost
from policies.document import MalformedDocumentError
from tests.plans import DISTRIBUTED, distributed_plan, tiny_plan


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"robust": {"hostile": 1}}, "one whole sum"),
        ({"compression": {"keep": 0.1}}, "one whole sum"),
        (
            {"network": {"name": "Classifier", "channels": [4], "strides": [2], "standardised": True}},
            "noise where their gradient is",
        ),
        ({"training": {**DISTRIBUTED, "steps": 2}}, "a round is one step"),
        ({"training": {**DISTRIBUTED, "proximal": 0.1}}, "a round is one step"),
        ({"training": {**DISTRIBUTED, "averaging": 0.9}}, "a round is one step"),
        ({"training": {**DISTRIBUTED, "colluding": 0}}, "greater than or equal to 1"),
        ({"training": {**DISTRIBUTED, "colluding": 2}}, "minimum_sites 4 hold against 1"),
        ({"participation": {"minimum_sites": 3, "deadline_s": 30}}, "minimum_sites 3 hold against 0"),
        ({"protection": {"scheme": "shared"}}, "masked or homomorphic"),
        ({"protection": {"scheme": "homomorphic-unmasked"}, "risk_tier": "minimal"}, "masked or homomorphic"),
    ],
)
def test_distributed_noise_is_refused_beside_what_would_break_its_claim(
    fields: dict[str, object], words: str
) -> None:
    assert distributed_plan().noise_share is not None
    with pytest.raises(MalformedDocumentError, match=words):
        distributed_plan(**fields)


def test_distributed_noise_is_permitted_as_far_as_the_masks_hold() -> None:
    seven = {"required": [], "minimum_sites": 7, "deadline_s": 30}
    update = {**distributed_plan().update.model_dump(), "maximum_sites": 7}
    for scheme in ("masked", "homomorphic"):
        plan = distributed_plan(
            training={**DISTRIBUTED, "colluding": 2},
            participation=seven,
            update=update,
            protection={"scheme": scheme},
        )
        assert plan.noise_share is not None and plan.noise_share.shares == 5


@given(
    st.fixed_dictionaries(
        {
            name: st.floats(min_value=0, exclude_min=True, allow_infinity=False)
            for name in ("noise_multiplier", "clip_l2", "learning_rate", "nominal_batch_patients")
        }
    ),
    st.floats(min_value=0, exclude_min=True, allow_infinity=False),
)
@example({"noise_multiplier": 1.0, "clip_l2": 1e-200, "learning_rate": 1e-200}, 0.5)
@example({"noise_multiplier": 1e-310}, 0.5)
@example({"clip_l2": 1e300, "learning_rate": 1e300, "nominal_batch_patients": 1e-300}, 5e-324)
def test_no_number_of_a_plan_stops_who_reads_it(terms: dict[str, float], clip_l2: float) -> None:
    update = {**distributed_plan().update.model_dump(), "clip_l2": clip_l2}
    for noise in ("distributed", "local"):
        with suppress(MalformedDocumentError):
            plan = distributed_plan(training={**DISTRIBUTED, **terms, "noise": noise}, update=update)
            share = plan.noise_share
            assert share is None or share.scale > 0
            with suppress(CodedError):
                plan_cost(plan)


def test_views_without_a_difference_are_refused() -> None:
    training = {**tiny_plan().training.model_dump(), "views": 4}
    with pytest.raises(MalformedDocumentError, match="views that do not differ"):
        tiny_plan(training=training)


@pytest.mark.parametrize(
    ("terms", "words"),
    [
        ({"learning_rate": 1e39}, "less than or equal to 1000000"),
        ({"nominal_batch_patients": 1e-300}, "no network survives"),
        ({"learning_rate": 1e5, "clip_l2": 1e5}, "no network survives"),
        ({"clip_l2": 1e300}, "clip_l2: Input should be less"),
        ({"clip_l2": 1e-30}, "clip_l2: Input should be greater"),
    ],
)
def test_steps_that_overflow_before_the_noise_is_on_them_are_refused(
    terms: dict[str, float], words: str
) -> None:
    """What overflows for some patients and not for others would tell of them without noise."""
    local = {"noise": "local", "learning_rate": 0.1, "clip_l2": 1.0, "nominal_batch_patients": 10.0}
    training = {**tiny_plan().training.model_dump(), **local}
    tiny_plan(training=training)
    with pytest.raises(MalformedDocumentError, match=words):
        tiny_plan(training={**training, **terms})


@pytest.mark.parametrize("views", [1, 3])
def test_rows_of_a_table_have_no_views(views: int) -> None:
    """Found out at the sites it would be found after every one of them has reserved its budget."""
    feature = {"kind": "number", "name": "age", "lower": 20.0, "upper": 80.0}
    table: dict[str, object] = {
        "data": {
            "table": {"features": [feature], "label": "disease"},
            "labels": [0, 1],
            "minimum_patients": 20,
            "held_out_fraction": 0.5,
        },
        "network": {"name": "TabularMLP"},
    }
    training = {**tiny_plan().training.model_dump(), "augmentation": None}
    tiny_plan(**table, training=training)
    augmented = {**training, "views": views, "augmentation": {"flip": True, "shift_px": 2}}
    assert tiny_plan(training=augmented).training.views == views
    with pytest.raises(MalformedDocumentError, match="a row of a table has no views"):
        tiny_plan(**table, training=augmented)
