# Models. The hospital has approved the family of models that the plan trains.
package wardround.model

import data.wardround.typed
import rego.v1

default family_approved := false

family_approved if {
	typed.name(input.plan.family)
	is_array(input.policy.families)
	input.plan.family in input.policy.families
}
