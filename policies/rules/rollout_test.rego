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

strict(name, drills, agreements) if {
	rollout.strict_enough with input as {"terms": {"phase": name, "drills": drills, "agreements": agreements}}
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

test_of_an_unknown_phase_nothing_is_strict_enough if {
	every name in ["", "final", null, 4] {
		not strict(name, [], [])
	}
}

bounded(name, figure, regression, subgroups) if {
	rollout.bounded_enough with input as {"terms": {
		"phase": name,
		"minimum_figure_micro": figure,
		"regression_bounded": regression,
		"subgroups_bounded": subgroups,
	}}
}

test_a_model_is_better_than_chance_from_the_pilot_on if {
	bounded("foundation", 0, false, false)
	bounded("pilot", 500001, false, false)
	not bounded("pilot", 500000, true, true)
	not bounded("expansion", 500000, true, true)
}

test_the_clinic_bounds_regression_and_subgroups if {
	bounded("clinical", 700000, true, true)
	not bounded("clinical", 700000, false, true)
	not bounded("clinical", 700000, true, false)
	not bounded("clinical", 500000, true, true)
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
