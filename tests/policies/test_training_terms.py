"""What a plan's training may not say, because the noise or the clip would not be what it claims."""

from __future__ import annotations

import pytest

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
        ({"training": {**DISTRIBUTED, "colluding": 3}}, "no honest site has a share"),
    ],
)
def test_distributed_noise_is_refused_beside_what_would_break_its_claim(
    fields: dict[str, object], words: str
) -> None:
    assert distributed_plan().noise_share is not None
    with pytest.raises(MalformedDocumentError, match=words):
        distributed_plan(**fields)


def test_views_without_a_difference_are_refused() -> None:
    training = {**tiny_plan().training.model_dump(), "views": 4}
    with pytest.raises(MalformedDocumentError, match="views that do not differ"):
        tiny_plan(training=training)
