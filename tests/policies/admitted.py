"""One document of facts for every decision that the installed rules admit, each figure at its threshold."""

from __future__ import annotations

from typing import Final

from ledger.canonical import JsonValue

Document = dict[str, JsonValue]

DIGEST: Final = "a" * 64
NO_END: Final = 2**53 - 1
MEMBER: Final[Document] = {
    "pool": {"spent_rdp_micro": 90, "cap_rdp_micro": 100},
    "cost_rdp_micro": 10,
    "consent": {"published": True, "purposes": ["research"], "valid_from_s": 50, "valid_until_s": NO_END},
    "purpose": "research",
    "log_time_s": 50,
    "quarantined": False,
}
ADMITTED: Final[dict[str, Document]] = {
    "plan": {
        "plan": {
            "minimum_sites": 4,
            "maximum_sites": 4,
            "patients": True,
            "risk_tier": "limited",
            "scheme": "shared",
            "robust_sites": 4,
            "epsilon_micro": 9,
            "epsilon_cap_micro": 9,
            "code_digests": [DIGEST, "b" * 64],
        },
        "federation": {"phase": "pilot", "sites": 4},
        "unknown_sites": [],
    },
    "member": MEMBER,
    "reservation": MEMBER
    | {"approved": True, "consent_state": {"published": True, "age_s": 9, "limit_s": 9}},
    "receipt": {
        "code": {"running": DIGEST, "approved": [DIGEST]},
        "schema": {"passed": True, "suite": DIGEST, "expected_suite": DIGEST},
        "consent_root": DIGEST,
        "expected_consent_root": DIGEST,
        "quarantined": False,
    },
    "continuation": {
        "reported": 3,
        "minimum_sites": 3,
        "missing_required": [],
        "opened": True,
        "norm_micro": 8,
        "norm_limit_micro": 8,
    },
    "release": {
        "reported": 3,
        "minimum_sites": 3,
        "missing_required": [],
        "opened": True,
        "norm_micro": 8,
        "norm_limit_micro": 8,
        "evaluated": True,
        "figure_micro": 800_000,
        "minimum_figure_micro": 800_000,
        "in_force": {"known": True, "figure_micro": 820_000},
        "maximum_regression_micro": 20_000,
        "subgroups": {"wanted": True, "figure_micro": [780_000, 800_000, 830_000]},
        "maximum_subgroup_gap_micro": 50_000,
    },
    "phase_entry": {
        "phase": "clinical",
        "terms": {
            "phase": "clinical",
            "minimum_sites": 4,
            "minimum_figure_micro": 500_001,
            "maximum_regression_micro": 200_000,
            "maximum_subgroup_gap_micro": 200_000,
            "minimum_subgroup_figure_micro": 500_001,
            "confidence_micro": 900_000,
            "change_plan": DIGEST,
            "agreements": [],
            "drills": ["rollback", "drift"],
        },
        "sites": 4,
    },
    "phase_exit": {
        "sites": {"minimum": 4, "conformant": 4, "agreed": 4, "reported": 4, "quarantined": 0},
        "rounds": {"minimum": 3, "registered": 3, "pending": 0},
        "phase": "clinical",
        "risk_tier": "high",
        "evaluated": True,
        "figure_micro": 800_000,
        "minimum_figure_micro": 800_000,
        "in_force": {"known": True, "figure_micro": 820_000},
        "maximum_regression_micro": 20_000,
        "subgroups": {"wanted": True, "figure_micro": [780_000, 800_000, 830_000]},
        "maximum_subgroup_gap_micro": 50_000,
        "better_off": {"wanted": True, "minimum": 3, "answered": 3},
        "subgroup_floor": {"wanted": True, "minimum_micro": 600_000, "figure_micro": [600_000, 700_000]},
        "missing_drills": [],
    },
    "site": {
        "plan": {
            "noise_multiplier_micro": 800_000,
            "clip_l2_micro": 1_000_000,
            "comparison_epsilon_micro": 3_000_000,
            "drift_margin_micro": 100_000,
            "epsilon_micro": 8,
            "family": "densenet",
            "bundle": DIGEST,
            "network": DIGEST,
            "code_digests": [DIGEST],
        },
        "policy": {
            "noise_multiplier_floor_micro": 800_000,
            "clip_l2_ceiling_micro": 1_000_000,
            "comparison_epsilon_ceiling_micro": 3_000_000,
            "drift_margin_floor_micro": 100_000,
            "epsilon_cap_micro": 8,
            "families": ["densenet"],
        },
        "running_code": DIGEST,
        "approved_by_steward": True,
        "approved_bundles": {DIGEST: DIGEST},
    },
    "statistics": {"reported": 3, "minimum_sites": 3, "missing_required": [], "opened": True},
    "site_statistics": {
        "plan": {"noise_multiplier_micro": 800_000, "epsilon_micro": 8, "code_digests": [DIGEST]},
        "policy": {"noise_multiplier_floor_micro": 800_000, "epsilon_cap_micro": 8},
        "running_code": DIGEST,
        "approved_by_steward": True,
    },
    "cohort_size": {
        "register_patients": 1_000,
        "cohort_patients": 60,
        "minimum_patients": 50,
        "policy_minimum_patients": 60,
        "delta_pico": 100_000_000,  # 1e-4, which is 1/(10 · 1000)
        "delta_fixed_by_benchmark": False,
    },
}
"""Facts that are admitted, each threshold met exactly: whatever is changed for the worse by one is refused."""
