"""What a site holds its noised counts against: the ledger and the plan, and nothing of its patients."""

from __future__ import annotations

import numpy as np
import pytest

from ledger.errors import InputError
from policies.disclosure import public_code
from policies.drift import PERFORMANCE, has_drifted, level_in_force
from policies.events import SiteQuarantined, UpdateRefused
from policies.plan import Plan
from privacy.drift import Level
from tests.policies.assembly import Assembly, at, plan
from tests.policies.founding import COORDINATOR, SITES

A, B, C, D = SITES
SURE = Level(0.95, 0.0)
WORSE = np.array([5, 5, 10, 40, 60, 20, 10, 10], np.int64)
"""Of two rows of four: most without the finding score high."""


def watched(**evaluation: object) -> Plan:
    return plan(
        evaluation={"bins": 4, "noise_std": 1.0, **evaluation},
        gates={"minimum_auc": 0.0, "drift": {"margin": 0.15, "deviations": 3.0}},
    )


def test_counts_far_under_the_model_in_force_are_drift_and_others_are_not() -> None:
    assert has_drifted(WORSE, watched(), SURE)
    assert not has_drifted(WORSE.reshape(2, 4)[::-1].ravel(), watched(), SURE)
    # Under a figure that is itself no better, under noise that drowns them, or where nobody watches.
    assert not has_drifted(WORSE, watched(), Level(0.3, 0.0))
    assert not has_drifted(WORSE, watched(noise_std=50.0), SURE)
    assert not has_drifted(WORSE, plan(), SURE)
    assert not has_drifted(WORSE, watched(), None)


def test_subgroups_count_together_with_all_their_noise() -> None:
    by_sex = np.concatenate([WORSE, np.zeros(16, np.int64)])
    assert has_drifted(by_sex, watched(subgroups="sex"), SURE)
    small = WORSE // 4
    assert has_drifted(small, watched(noise_std=1.6), SURE)
    assert not has_drifted(
        np.concatenate([small, np.zeros(16, np.int64)]), watched(noise_std=1.6, subgroups="sex"), SURE
    )


def test_masks_are_judged_by_their_dice() -> None:
    masks = watched().with_fields(
        {
            "data": {**watched().data.to_json(), "target": "mask"},
            "network": {
                "name": "UNet", "channels": [4, 8], "strides": [2], "norm_groups": 2,
            },
            "gates": {"minimum_dice": 0.0, "drift": {"margin": 0.15, "deviations": 3.0}},
        }
    )  # fmt: skip
    distances = np.zeros(4, np.int64)
    assert has_drifted(np.concatenate([np.array([90, 5, 5, 5]), distances]), masks, Level(0.8, 0.0))
    assert not has_drifted(np.concatenate([np.array([5, 5, 5, 90]), distances]), masks, Level(0.8, 0.0))


def test_the_level_in_force_is_the_ledgers() -> None:
    assembly = Assembly(plan=watched())
    before = at("judged")
    assert level_in_force(before.state, watched()) is None  # evaluated, and nothing is registered yet
    assembly = at("registered")
    assert level_in_force(assembly.state, assembly.plan) is None  # that plan watches for nothing
    found = level_in_force(assembly.state, watched())
    figure = assembly.state.figure_in_force(assembly.plan)
    assert found is not None and figure is not None
    assert found.figure == figure / 1e6 and found.variance > 0


def test_a_drifted_site_may_say_so_and_one_more_than_can_be_taken_back_may_not() -> None:
    assembly = at("released")
    drifted = SiteQuarantined(site=A, code=PERFORMANCE)
    assert assembly.refusals(assembly.entry(B, drifted)) == {"quarantine.foreign"}
    assembly.say(A, drifted)
    # Of four sites a quorum is three: the second one to drift would leave too few.
    second = assembly.entry(B, SiteQuarantined(site=B, code=PERFORMANCE))
    assert assembly.refusals(second) == {"quarantine.too-many"}
    # Nor for any other reason that no entry shows, and whoever says it.
    for speaker in (B, COORDINATOR):
        word = assembly.entry(speaker, SiteQuarantined(site=B, code="site.own-wish"))
        assert assembly.refusals(word) == {"quarantine.too-many"}


def test_a_coordinator_says_of_no_site_that_it_drifted() -> None:
    """It would be believed: that is what the site itself would say, and by name."""
    assembly = at("released")
    word = SiteQuarantined(site=A, code=PERFORMANCE)
    assert assembly.refusals(assembly.entry(COORDINATOR, word)) == {"quarantine.foreign"}
    other = SiteQuarantined(site=A, code="incident.reported")
    assert assembly.refusals(assembly.entry(COORDINATOR, other)) == set()

    def withheld(speaker: str, code: str) -> set[str]:
        refused = UpdateRefused(
            plan_digest=assembly.plan.content_digest(), round=1, step="evaluation", site=A, code=code
        )
        return assembly.refusals(assembly.entry(speaker, refused))

    assert withheld(COORDINATOR, PERFORMANCE) == {"refusal.foreign"}
    assert withheld(COORDINATOR, "site.late") == withheld(A, PERFORMANCE) == set()


@pytest.mark.parametrize(
    "terms", [{"margin": 1e-6}, {"margin": 0.099}, {"deviations": 2.0}, {"deviations": 2.9}]
)
def test_a_plan_that_would_name_who_lies_a_little_under_the_others_is_none(terms: dict[str, float]) -> None:
    with pytest.raises(InputError):
        watched().with_fields(
            {"gates": {"minimum_auc": 0.0, "drift": {"margin": 0.1, "deviations": 3.0, **terms}}}
        )


@pytest.mark.parametrize("code", [PERFORMANCE, "drift.of-something-else", "data.drift"])
def test_only_what_was_paid_for_is_told(code: str) -> None:
    assert public_code(code) == (PERFORMANCE if code == PERFORMANCE else "site.withheld")
