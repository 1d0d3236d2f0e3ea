"""A whole study in one process: the product's training, noise, encoding and aggregation over several sites' data.

Without flows, ledger and masks, which change no lane: the sum of the lanes is what a protected sum opens to. A
central run is the same with one site that has everybody. What is compared, and on what, is in the modules beside.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction

import numpy as np
import torch

from ledger.canonical import JsonValue
from policies.cost import epsilon_micro, plan_cost
from policies.plan import Plan
from privacy.accounting import MICRO
from privacy.encoding import clip_coordinates, clip_l2
from privacy.noise import NoiseStream
from privacy.packing import Lanes
from tasks.aggregate import aggregate, encoding_of, lanes_to_bytes
from tasks.site_noise import noised_update
from tasks.train import networks, weights
from tasks.train.examples import Examples
from tasks.train.private import Delta, Running, clipped_update, run_steps, train_private
from tasks.train.sampling import PatientSampler
from tasks.train.weights import Weights

NO_CLIP = 1e4
"""Clips nothing that a run without noise meets."""


def derived(plan: Plan, **sections: Mapping[str, JsonValue]) -> Plan:
    """The plan with some fields of its sections replaced: `training={"steps": 5}`."""
    value = plan.model_dump(mode="json")
    return plan.with_fields({name: {**value[name], **dict(fields)} for name, fields in sections.items()})


def spent(plan: Plan) -> float:
    """Epsilon of all rounds and evaluations, at the plan's delta."""
    return epsilon_micro(plan_cost(plan), plan.budget.delta) / MICRO


def calibrated(plan: Plan, epsilon: float) -> Plan:
    """The plan with the least noise multiplier, in hundredths, that costs no more than `epsilon`."""
    low, high = 20, 20_000
    while low < high:
        middle = (low + high) // 2
        if spent(derived(plan, training={"noise_multiplier": middle / 100})) <= epsilon:
            high = middle
        else:
            low = middle + 1
    return derived(plan, training={"noise_multiplier": high / 100})


def centralised(plan: Plan) -> Plan:
    """The same steps by one site with everybody: every noisy step is its own round there and here, or `steps` of them
    are, and the constant batch is that of all sites."""
    sites = plan.participation.minimum_sites
    batch = float(Fraction(plan.training.nominal_batch_patients) * sites)
    return derived(
        plan,
        training={"noise": "local", "nominal_batch_patients": batch},
        update={"coordinate_clip": None, "clip_l2": NO_CLIP, "lane_bits": 32},
    )


def trained(
    plan: Plan,
    sites: Sequence[Examples],
    *,
    seed: int,
    private: bool = True,
    on_round: Callable[[int, int], None] | None = None,
) -> Weights:
    """The weights after all rounds. `private=False`: the same steps without clipping and noise."""
    torch.set_num_threads(1)
    torch.manual_seed(seed)  # of views without privacy; private trainings, noise and sampling know no seed
    like = networks.initial(plan.network, plan.data, seed)
    model, state = weights.to_bytes(like), None
    module = networks.build(plan.network, plan.data)
    for number in range(1, plan.rounds + 1):
        total: Lanes | None = None
        for examples in sites:
            networks.load(module, weights.from_bytes(model, like))
            lanes = _lanes(plan, module, examples, private=private)
            total = lanes if total is None else total + lanes
        assert total is not None
        made = aggregate(
            plan,
            number,
            model,
            lanes_to_bytes(total),
            sizes=(len(sites),),
            previous=None,
            server_state=state,
        )
        model, state = made.model, made.server_state
        if on_round is not None:
            on_round(number, plan.rounds)
    return weights.from_bytes(model, like)


def _lanes(plan: Plan, module: torch.nn.Module, examples: Examples, *, private: bool) -> Lanes:
    with NoiseStream() as stream:
        if private and plan.noise_share is not None:
            return noised_update(plan, clipped_update(module, examples, training=plan.training, noise=stream))
        if private:
            moved = train_private(module, examples, training=plan.training, noise=stream)
        else:
            moved = _without_noise(plan, module, examples, stream)
        encoding = encoding_of(plan)
        sent = clip_l2(moved.astype(np.float32), plan.update.clip_l2)
        if encoding.bound < plan.update.clip_l2:
            clip_coordinates(sent, encoding.bound)
        return encoding.encode(sent, stream)


def _without_noise(plan: Plan, module: torch.nn.Module, examples: Examples, stream: NoiseStream) -> Delta:
    training = plan.training.model_copy(update={"clip_l2": NO_CLIP})
    sampler = PatientSampler(examples.patients, rate=training.sampling_rate, noise=stream)
    before = networks.flatten(networks.extract(module)).astype(np.float64)
    run_steps(module, examples, sampler, training=training, noise=None, running=Running())
    return networks.flatten(networks.extract(module)) - before
