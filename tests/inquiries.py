"""The inquiry of most tests of joint statistics: every kind of query, with much noise and little of it in figures."""

from __future__ import annotations

import yaml

from policies.inquiry import Inquiry
from tasks.planning import approved

HEART = """
schema_version: 1
name: heart
study: heart-study
edition: "1"
risk_tier: limited
consent: {policy_version: "2026-1", purpose: research}
participation: {required: [], minimum_sites: 3, deadline_s: 30}
protection: {scheme: masked}
table:
  minimum_patients: 20
  columns:
    - {name: age-years, kind: number}
    - {name: risk, kind: number}
    - {name: disease, kind: number}
    - {name: sex, kind: word}
queries:
  - {kind: count, name: patients, noise_multiplier: 10.0}
  - {kind: sum, name: years, column: age-years, lower: 0, upper: 100, resolution: 1, noise_multiplier: 10.0}
  - {kind: mean, name: mean-age, column: age-years, lower: 18, upper: 98, resolution: 1, noise_multiplier: 10.0}
  - {kind: variance, name: age, column: age-years, lower: 18, upper: 98, resolution: 1, noise_multiplier: 10.0}
  - {kind: histogram, name: sexes, column: sex, categories: [female, male], noise_multiplier: 10.0}
  - {kind: auc, name: risk-score, score: risk, label: disease, bins: 8, noise_multiplier: 10.0}
budget: {epsilon_cap: 2.0, delta: 1.0e-5}
"""


def heart_inquiry(**fields: object) -> Inquiry:
    """The inquiry with some top-level fields replaced, approved for the running code."""
    value = yaml.safe_load(HEART)
    value.update(fields)
    return approved(Inquiry.from_value(value, what="inquiry"))
