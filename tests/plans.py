"""The plan of most tests: everything that a plan says, as small as it goes. Imports nothing heavy."""

from __future__ import annotations

import yaml

from policies.plan import Plan
from tasks.planning import approved

TINY_PLAN = """
schema_version: 1
name: tiny
study: tiny-study
edition: "1"
base: initial
rounds: 1
seed: 0
risk_tier: limited
consent: {policy_version: "2026-1", purpose: research}
participation: {required: [], minimum_sites: 3, deadline_s: 60}
data:
  image: {height_px: 8, width_px: 8, modalities: [CR]}
  labels: [0, 1]
  minimum_patients: 20
  held_out_fraction: 0.5
network: {name: Classifier, channels: [4], strides: [2], norm_groups: 2}
training:
  sampling_rate: 0.2
  steps: 2
  noise_multiplier: 2.0
  clip_l2: 1.0
  learning_rate: 0.1
  nominal_batch_patients: 10.0
update: {clip_l2: 8.0, lane_bits: 22, maximum_sites: 50, server_learning_rate: 1.0}
protection: {scheme: masked}
evaluation: {bins: 4, noise_std: 3.0}
budget: {epsilon_cap: 8.0, delta: 1.0e-5}
gates: {minimum_auc: 0.0}
"""


def tiny_plan(**fields: object) -> Plan:
    """The tiny plan with some top-level fields replaced, approved for the running code."""
    value = yaml.safe_load(TINY_PLAN)
    value.update(fields)
    return approved(Plan.from_value(value, what="plan"))


DISTRIBUTED = {
    "noise": "distributed", "colluding": 1, "sampling_rate": 0.2, "steps": 1, "noise_multiplier": 1.0,
    "clip_l2": 1.0, "learning_rate": 0.1, "nominal_batch_patients": 10.0,
}  # fmt: skip
"""One patient moves a site's update by 0.01."""


def distributed_plan(**fields: object) -> Plan:
    """The tiny plan, one step a round, each site adding its share of the noise."""
    update = {"clip_l2": 0.5, "lane_bits": 32, "maximum_sites": 4, "server_learning_rate": 1.0}
    participation = {"required": [], "minimum_sites": 4, "deadline_s": 30}
    return tiny_plan(**{"training": DISTRIBUTED, "update": update, "participation": participation, **fields})
