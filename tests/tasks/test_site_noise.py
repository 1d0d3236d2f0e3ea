"""What a site sends under distributed noise: nothing but clipping, rounding to the nearest, and noise."""

from __future__ import annotations

import numpy as np
import pytest

from ledger.errors import CodedError
from privacy.distributed_noise import NoiseShare, ResolutionError
from privacy.encoding import clip_l2
from privacy.noise import NoiseStream
from privacy.packing import Lanes, Packing
from tasks import site_noise
from tasks.aggregate import encoding_of, model_size
from tasks.site_noise import noised_update
from tests.plans import distributed_plan


def test_before_the_noise_lanes_are_the_clipped_update_rounded_to_the_nearest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def bare(self: NoiseShare, lanes: Lanes, stream: NoiseStream, *, packing: Packing) -> Lanes:
        return lanes

    monkeypatch.setattr(NoiseShare, "added", bare)
    plan = distributed_plan()
    for size in (0.01, 30.0):
        update = np.random.default_rng(0).normal(size=model_size(plan)) * size
        expected = np.rint(clip_l2(update, 0.5) * encoding_of(plan).scale).astype(np.int64)
        assert noised_update(plan, update).tolist() == expected.tolist()


def test_single_precision_and_plans_with_local_noise_are_refused() -> None:
    plan = distributed_plan()
    update = np.zeros(model_size(plan))
    local = plan.with_fields({"training": {**plan.training.model_dump(), "noise": "local"}})
    for asked, given in ((plan, update.astype(np.float32)), (local, update)):
        with pytest.raises(CodedError) as refused:
            noised_update(asked, given)
        assert refused.value.code == "protect.not-distributed"


def test_lanes_too_narrow_for_the_network_are_refused_before_any_noise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    narrow = {"clip_l2": 8.0, "lane_bits": 18, "maximum_sites": 4, "server_learning_rate": 1.0}
    plan = distributed_plan(update={**narrow, "coordinate_clip": 0.05})
    monkeypatch.setattr(site_noise, "NoiseStream", None)
    with pytest.raises(ResolutionError):
        noised_update(plan, np.zeros(model_size(plan)))
