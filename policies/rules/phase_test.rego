# How much may be at stake for patients depends on how far the rollout has come.
package wardround.phase_test

import data.wardround.phase
import rego.v1

permits(phase_name, tier) if {
	phase.permits_tier with input as {"federation": {"phase": phase_name}, "plan": {"risk_tier": tier}}
}

test_minimal_risk_is_permitted_from_the_start if {
	every name in ["foundation", "pilot", "expansion", "clinical"] {
		permits(name, "minimal")
	}
}

test_limited_risk_waits_for_the_pilot if {
	not permits("foundation", "limited")
	permits("pilot", "limited")
	permits("expansion", "limited")
	permits("clinical", "limited")
}

test_high_risk_is_for_the_clinic_alone if {
	not permits("foundation", "high")
	not permits("pilot", "high")
	not permits("expansion", "high")
	permits("clinical", "high")
}

test_unknown_phases_and_tiers_permit_nothing if {
	every name in ["", "Clinical", "final", null, 4, true] {
		not permits(name, "minimal")
		not permits("clinical", name)
	}
}

data_permitted(phase_name, patients) if {
	phase.permits_data with input as {"federation": {"phase": phase_name}, "plan": {"patients": patients}}
}

test_no_patient_is_touched_before_the_foundation_is_laid if {
	not data_permitted("foundation", true)
	data_permitted("foundation", false)
	every name in ["pilot", "expansion", "clinical"] {
		data_permitted(name, true)
		data_permitted(name, false)
	}
}

test_who_does_not_say_whether_patients_are_used_is_refused if {
	every said in [null, "false", 0, ""] {
		not data_permitted("foundation", said)
		not data_permitted("clinical", said)
	}
	not data_permitted("", false)
}
