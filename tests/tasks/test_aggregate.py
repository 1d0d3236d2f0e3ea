"""What follows from opened sums by cluster, and what counts of patients fit, whatever the plan's lanes are."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from policies.facts import NEVER
from policies.plan import Plan
from privacy.accounting import MICRO
from privacy.encoding import clip_coordinates, clip_l2
from privacy.packing import Lanes
from tasks.aggregate import (
    Aggregate,
    LanesError,
    aggregate,
    encode_counts,
    encoding_of,
    lane_count,
    lanes_to_bytes,
    outcome_of,
    packing_of,
    void_lanes,
)
from tasks.train import networks, weights
from tasks.train.server_optimizer import ServerStateError
from tests.plans import distributed_plan, tiny_plan

CLIP_L2 = 8.0
FINE = {"clip_l2": CLIP_L2, "lane_bits": 22, "maximum_sites": 12, "server_learning_rate": 1.0}
NARROW = {**FINE, "coordinate_clip": 0.25, "lane_bits": 8, "maximum_sites": 5}


def robust_plan(**update: object) -> Plan:
    participation = {"required": [], "minimum_sites": 12, "deadline_s": 30}
    return tiny_plan(robust={"hostile": 1}, participation=participation, update={**FINE, **update})


def cluster_sum(plan: Plan, random: np.random.Generator) -> Lanes:
    """(lane_count,) sum of four honest updates, each as long as the signed clip lets it be."""
    encoding, lanes = encoding_of(plan), np.zeros(lane_count(plan, "training"), np.int32)
    for _ in range(4):
        update = clip_l2(random.normal(size=len(lanes)).astype(np.float32) * 100, CLIP_L2)
        clip_coordinates(update, encoding.bound)
        lanes += encoding.encode(update)
    return lanes


def aggregated(plan: Plan, sums: list[Lanes]) -> tuple[bytes, Aggregate]:
    base = weights.to_bytes(networks.initial(plan.network, plan.data, 0))
    opened = b"".join(lanes_to_bytes(lanes) for lanes in sums)
    return base, aggregate(plan, 1, base, opened, sizes=(4,) * len(sums), previous=None)


def three(plan: Plan) -> list[Lanes]:
    random = np.random.default_rng(0)
    return [cluster_sum(plan, random) for _ in range(3)]


def test_with_a_clip_by_coordinate_no_honest_cluster_is_too_long() -> None:
    """Sites clip to the L2 norm that the plan signs, and then each coordinate: the norm may be any up to the former,
    which is many times what one coordinate may be."""
    plan = robust_plan(coordinate_clip=0.25)
    sums = three(plan)
    one_coordinate = 4 * plan.update.coordinate_clip * MICRO
    assert all(encoding_of(plan).sum_norm_micro(lanes, sites=4) > one_coordinate for lanes in sums)
    assert aggregated(plan, sums)[1].outliers == ()


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_void_cluster_is_an_outlier_and_moves_nothing(place: int) -> None:
    """The model is the one that follows where this cluster is left out for another reason: it is too long."""
    plan = robust_plan()
    sums = three(plan)
    sums[place] = np.full_like(sums[place], 4 * packing_of(plan, "training").site_limit)
    _, without = aggregated(plan, sums)
    sums[place] = void_lanes(plan)
    base, found = aggregated(plan, sums)
    assert without.outliers == found.outliers == (place,)
    assert found.cosines_micro[place] == -MICRO and found.norm_l2_micro == without.norm_l2_micro < NEVER
    assert found.model == without.model and found.model != base


@pytest.mark.parametrize("voids", [(0, 1), (0, 1, 2)])
def test_where_more_clusters_are_void_than_may_be_hostile_nothing_moves_and_no_gate_passes(
    voids: tuple[int, ...],
) -> None:
    plan = robust_plan()
    sums = three(plan)
    for number in voids:
        sums[number] = void_lanes(plan)
    base, found = aggregated(plan, sums)
    assert found.model == base and found.norm_l2_micro == NEVER and found.outliers == voids


@pytest.mark.parametrize("optimizer", ["adam", "yogi"])
def test_where_nothing_moves_the_servers_state_stays_too(optimizer: str) -> None:
    plan = robust_plan(server={"optimizer": optimizer})
    sums = three(plan)
    base, first = aggregated(plan, sums)
    assert first.model != base and first.server_state is not None
    opened = b"".join(lanes_to_bytes(void_lanes(plan)) for _ in sums)
    second = aggregate(
        plan, 2, first.model, opened, sizes=(4, 4, 4), previous=None, server_state=first.server_state
    )
    assert second.norm_l2_micro == NEVER
    assert (second.model, second.server_state) == (first.model, first.server_state)


def test_a_round_begins_with_the_state_after_the_last_one_and_a_plan_with_none() -> None:
    """Never with fresh state half-way, and never with another plan's: its base may be the newest model, its state is
    its own."""
    average, adam = robust_plan(), robust_plan(server={"optimizer": "adam"})
    sums = three(adam)
    base, first = aggregated(adam, sums)
    opened = b"".join(lanes_to_bytes(lanes) for lanes in sums)
    assert first.server_state is not None and outcome_of(first) != outcome_of(
        replace(first, server_state=None)
    )
    wrong = [(adam, 2, None), (adam, 1, first.server_state), (average, 1, first.server_state)]
    wrong += [(average, 2, first.server_state), (adam, 2, first.server_state[:-16])]
    for plan, number, state in wrong:
        with pytest.raises(ServerStateError):
            aggregate(plan, number, base, opened, sizes=(4, 4, 4), previous=None, server_state=state)


def test_no_sum_that_opens_is_taken_for_a_void_one() -> None:
    """The mark is far below what sites can add up to in the widest lanes that a plan may have."""
    plan = robust_plan()
    packing = packing_of(plan, "training")
    assert packing.lane_bits == 22
    assert int(void_lanes(plan)[0]) < -12 * packing.site_limit


def test_counts_of_patients_need_no_lanes_as_wide_as_they_are() -> None:
    plan = tiny_plan(update=NARROW)
    assert packing_of(plan, "training").lane_bits == 8
    counts = np.array([-3, 0, 26, 400_000], dtype=np.int64)
    assert encode_counts(plan, counts).tolist() == counts.tolist()
    limit = packing_of(plan, "evaluation").site_limit
    encode_counts(plan, np.array([limit, -limit], dtype=np.int64))
    for beyond in (limit + 1, -limit - 1, 2**40):
        with pytest.raises(LanesError):
            encode_counts(plan, np.array([beyond], dtype=np.int64))


def test_what_is_not_trained_does_not_drift_by_the_noise_that_is_on_every_coordinate() -> None:
    plan = distributed_plan(
        data={
            "image": {"height_px": 16, "width_px": 16, "modalities": ["CR"]},
            "labels": [0, 1],
            "minimum_patients": 1,
            "held_out_fraction": 0.2,
        },
        network={
            "name": "ViT", "patch_size": [8, 8], "hidden_size": 8, "mlp_dim": 8, "num_layers": 1, "num_heads": 1,
        },
    )  # fmt: skip
    base = networks.initial(plan.network, plan.data, 0)
    lanes = np.full(lane_count(plan, "training"), 1000, np.int32)
    made = aggregate(plan, 1, weights.to_bytes(base), lanes_to_bytes(lanes), sizes=(4,), previous=None)
    after = weights.from_bytes(made.model, base)
    stayed = {name for name, value in base.items() if np.array_equal(value, after[name])}
    frozen = {one.path for one in networks.examine(plan.network, plan.data).frozen}
    assert stayed == frozen and frozen
