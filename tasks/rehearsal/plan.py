"""The plan that rehearsals play: everything that a plan says, as small as it goes, learned in a round.

It costs a budget that no hospital would grant, which invented patients do not mind: its noise is so small that a
model of 16 x 16 weights shows what became of it. Nothing of it is an example for a plan with patients.
"""

from __future__ import annotations

from ledger.canonical import JsonValue
from policies.plan import Plan
from tasks.planning import approved

_PLAN = """
schema_version: 1
name: rehearsal
study: rehearsal
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
  sampling_rate: 0.5
  steps: 8
  noise_multiplier: 0.5
  clip_l2: 1.0
  learning_rate: 0.5
  nominal_batch_patients: 15.0
update: {clip_l2: 4.0, lane_bits: 22, maximum_sites: 50, server_learning_rate: 1.0}
protection: {scheme: masked}
evaluation: {bins: 16, noise_std: 1.0}
budget: {epsilon_cap: 100000.0, delta: 1.0e-5}
gates: {minimum_auc: 0.0}
"""


def rehearsal_plan(fields: dict[str, JsonValue] | None = None) -> Plan:
    """With some top-level fields replaced, approved for the running code."""
    return approved(Plan.from_yaml(_PLAN, what="plan").with_fields(fields or {}))
