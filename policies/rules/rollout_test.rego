# A phase begins under terms that are strict enough, and ends when they are met.
package wardround.rollout_test

import data.wardround.rollout
import rego.v1

test_terms_are_of_the_phase_in_force if {
	rollout.phase_in_force with input as {"phase": "pilot", "terms": {"phase": "pilot"}}
	not rollout.phase_in_force with input as {"phase": "foundation", "terms": {"phase": "pilot"}}
	not rollout.phase_in_force with input as {"phase": "", "terms": {"phase": ""}}
}

test_the_federation_has_the_sites_that_terms_ask_for if {
	rollout.enough_members with input as {"terms": {"minimum_sites": 4}, "sites": 4}
	not rollout.enough_members with input as {"terms": {"minimum_sites": 5}, "sites": 4}
	every value in [-1, "4", null, true] {
		not rollout.enough_members with input as {"terms": {"minimum_sites": value}, "sites": 4}
	}
}

change_plan := "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

strict(name, drills, agreements) if {
	rollout.strict_enough with input as {"terms": {
		"phase": name,
		"drills": drills,
		"agreements": agreements,
		"change_plan": change_plan,
	}}
}

test_the_foundation_rests_on_three_agreements if {
	strict("foundation", [], ["baa", "dpa", "irb"])
	not strict("foundation", [], ["baa", "dpa"])
	not strict("foundation", [], [])
}

test_drills_of_the_expansion_and_of_the_clinic_cannot_be_left_out if {
	strict("expansion", ["restore", "poisoning", "quarantine", "key-rotation", "consent-withdrawal"], [])
	not strict("expansion", ["poisoning", "quarantine", "key-rotation", "consent-withdrawal"], [])
	strict("clinical", ["rollback", "drift"], [])
	not strict("clinical", ["drift"], [])
}

planned(name, digest) if {
	rollout.strict_enough with input as {"terms": {
		"phase": name,
		"drills": ["rollback", "drift", "restore", "poisoning", "quarantine", "key-rotation", "consent-withdrawal"],
		"agreements": ["baa", "dpa", "irb"],
		"change_plan": digest,
	}}
}

test_the_clinic_settles_what_may_be_changed if {
	planned("clinical", change_plan)
	every value in ["", "0123", null, 4, false] {
		not planned("clinical", value)
		planned("expansion", value)
	}
}

test_of_an_unknown_phase_nothing_is_strict_enough if {
	every name in ["", "final", null, 4] {
		not strict(name, [], [])
	}
}

bound := 100000

never := 9007199254740991

bounded(name, figure, regression, subgroups) if {
	sure_enough(name, figure, regression, subgroups, 950000, 600000)
}

sure_enough(name, figure, regression, subgroups, confidence, floor) if {
	rollout.bounded_enough with input as {"terms": {
		"phase": name,
		"minimum_figure_micro": figure,
		"maximum_regression_micro": regression,
		"maximum_subgroup_gap_micro": subgroups,
		"confidence_micro": confidence,
		"minimum_subgroup_figure_micro": floor,
	}}
}

test_a_model_is_better_than_chance_from_the_pilot_on if {
	bounded("foundation", 0, never, never)
	bounded("pilot", 500001, never, never)
	not bounded("pilot", 500000, bound, bound)
	not bounded("expansion", 500000, bound, bound)
}

test_the_clinic_bounds_regression_and_subgroups if {
	bounded("clinical", 700000, 200000, 200000)
	not bounded("clinical", 700000, 200001, 0)
	not bounded("clinical", 700000, 0, 200001)
	every value in [-1, "0", null, true] {
		not bounded("clinical", 700000, value, bound)
		not bounded("clinical", 700000, bound, value)
	}
	bounded("clinical", 700000, bound, bound)
	not bounded("clinical", 700000, never, bound)
	not bounded("clinical", 700000, bound, never)
	not bounded("clinical", 500000, bound, bound)
}

test_the_clinic_is_sure_and_keeps_every_subgroup_above_chance if {
	sure_enough("clinical", 700000, bound, bound, 900000, 500001)
	sure_enough("pilot", 700000, bound, bound, 0, 0)
	every value in [0, 899999, -1, "950000", null, true] {
		not sure_enough("clinical", 700000, bound, bound, value, 600000)
	}
	every value in [0, 500000, -1, "600000", null, true] {
		not sure_enough("clinical", 700000, bound, bound, 950000, value)
	}
}

floored(wanted, figures) if {
	rollout.subgroups_above_floor with input as {"subgroup_floor": {
		"wanted": wanted,
		"minimum_micro": 600000,
		"figure_micro": figures,
	}}
}

test_no_subgroup_lies_under_the_floor if {
	floored(true, [600000, 900000])
	floored(false, [])
	every figures in [[], [900000], [599999, 900000], [900000, "900000"], [900000, null], null] {
		not floored(true, figures)
	}
	every said in [null, 0, "false"] {
		not floored(said, [600000, 900000])
	}
}

test_every_site_that_counts_is_checked_agreed_and_there if {
	rollout.conformant with input as {"sites": {"minimum": 4, "conformant": 4}}
	not rollout.conformant with input as {"sites": {"minimum": 4, "conformant": 3}}
	rollout.agreed with input as {"sites": {"minimum": 4, "agreed": 4}}
	not rollout.agreed with input as {"sites": {"minimum": 4, "agreed": 3}}
	rollout.reported with input as {"sites": {"minimum": 4, "reported": 5}}
	not rollout.reported with input as {"sites": {"minimum": 4}}
}

test_one_in_quarantine_is_one_too_many if {
	rollout.nobody_quarantined with input as {"sites": {"quarantined": 0}}
	every value in [1, -1, "0", null, false] {
		not rollout.nobody_quarantined with input as {"sites": {"quarantined": value}}
	}
}

test_rounds_and_drills_are_complete if {
	rollout.enough_rounds with input as {"rounds": {"minimum": 3, "registered": 3}}
	not rollout.enough_rounds with input as {"rounds": {"minimum": 3, "registered": 2}}
	rollout.drilled with input as {"missing_drills": []}
	not rollout.drilled with input as {"missing_drills": ["restore"]}
	not rollout.drilled with input as {}
}

test_every_evaluated_round_is_judged if {
	rollout.all_judged with input as {"rounds": {"pending": 0}}
	every value in [1, -1, "0", null, false] {
		not rollout.all_judged with input as {"rounds": {"pending": value}}
	}
	not rollout.all_judged with input as {}
}

test_a_model_of_the_clinic_learned_under_its_risk_tier if {
	rollout.tier_high_enough with input as {"phase": "clinical", "risk_tier": "high"}
	rollout.tier_high_enough with input as {"phase": "pilot", "risk_tier": "limited"}
	every value in ["limited", "minimal", "", null, true] {
		not rollout.tier_high_enough with input as {"phase": "clinical", "risk_tier": value}
	}
	not rollout.tier_high_enough with input as {"phase": "final", "risk_tier": "high"}
	not rollout.tier_high_enough with input as {"risk_tier": "high"}
}

gains(wanted, minimum, answered) if {
	rollout.better_off with input as {"better_off": {
		"wanted": wanted,
		"minimum": minimum,
		"answered": answered,
	}}
}

test_as_many_sites_say_that_they_are_better_off_as_the_terms_want if {
	gains(true, 3, 3)
	gains(true, 3, 4)
	not gains(true, 3, 2)
	gains(false, 0, 0)
	gains(false, 3, 2)
	every value in [-1, "3", null, true] {
		not gains(true, value, 3)
		not gains(true, 3, value)
		not gains(false, value, 3)
		not gains(false, 3, value)
	}
	every value in [null, 1, "true"] {
		not gains(value, 3, 3)
	}
	not rollout.better_off with input as {}
}
