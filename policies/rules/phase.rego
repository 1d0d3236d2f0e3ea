# Phases. How much may be at stake for patients depends on how far the rollout has come. Before the agreements of the
# foundation are on record, nothing of a patient is used at all.
package wardround.phase

import rego.v1

permitted := {
	"foundation": ["minimal"],
	"pilot": ["minimal", "limited"],
	"expansion": ["minimal", "limited"],
	"clinical": ["minimal", "limited", "high"],
}

default permits_tier := false

permits_tier if {
	is_string(input.federation.phase)
	is_string(input.plan.risk_tier)
	input.plan.risk_tier in permitted[input.federation.phase]
}

default permits_data := false

permits_data if {
	input.federation.phase == "foundation"
	input.plan.patients == false
}

permits_data if {
	input.federation.phase in ["pilot", "expansion", "clinical"]
	is_boolean(input.plan.patients)
}
