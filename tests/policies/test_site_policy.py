"""What a hospital's own limits are measured against: the mechanisms that a plan declares, never its raw fields."""

from __future__ import annotations

import pytest

from policies.disclosure import public_code
from policies.plan import Plan
from policies.site_policy import SitePolicy, site_violations
from tests.plans import tiny_plan
from tests.policies.test_masks import mask_plan

LIMITS = SitePolicy(epsilon_cap=100.0, delta=1e-5, plan_epsilon_cap=100.0, noise_multiplier_floor=2.0)


def codes(plan: Plan, monkeypatch: pytest.MonkeyPatch, **stricter: float) -> set[str]:
    monkeypatch.setattr("policies.site_policy.running_code_digest", lambda: plan.code_digests[0])
    limits = LIMITS.with_fields({"model_families": [plan.network.name], **stricter})
    return {one.code for one in site_violations(plan, limits, site="hospital-a", approved_by_steward=True)}


@pytest.mark.parametrize(("noise_std", "refused"), [(2.82, {"site.noise-floor"}), (2.83, set())])
def test_two_figures_of_masks_share_the_noise_that_a_floor_asks_for(
    noise_std: float, refused: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = mask_plan(evaluation={"bins": 4, "noise_std": noise_std})
    assert codes(plan, monkeypatch) == refused


@pytest.mark.parametrize(("noise_std", "refused"), [(1.99, {"site.noise-floor"}), (2.0, set())])
def test_a_histogram_of_labels_has_all_the_noise_it_names(
    noise_std: float, refused: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert codes(tiny_plan(evaluation={"bins": 4, "noise_std": noise_std}), monkeypatch) == refused


@pytest.mark.parametrize(("epsilon", "refused"), [(3.01, {"site.comparison"}), (3.0, set()), (None, set())])
def test_an_answer_is_no_surer_than_the_hospital_lets_it_be(
    epsilon: float | None, refused: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    compare = None if epsilon is None else {"epsilon": epsilon}
    plan = tiny_plan(evaluation={"bins": 4, "noise_std": 3.0, "compare": compare})
    assert codes(plan, monkeypatch) == refused


@pytest.mark.parametrize(("margin", "refused"), [(0.19, {"site.drift-margin"}), (0.2, set()), (None, set())])
def test_a_site_says_of_no_smaller_drift_than_the_hospital_lets_it(
    margin: float | None, refused: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    drift = None if margin is None else {"margin": margin, "deviations": 3.0}
    plan = tiny_plan(gates={"minimum_auc": 0.0, "drift": drift})
    assert codes(plan, monkeypatch, drift_margin_floor=0.2) == refused
    assert codes(plan, monkeypatch) == set()
    assert all(public_code(code) == code for code in refused), "it follows from the plan and the policy alone"
