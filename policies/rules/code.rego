# Code and approval. What runs is what the plan approves, and where the steward approves plans one by one, this one.
package wardround.code

import data.wardround.typed
import rego.v1

default plan_approves_some := false

plan_approves_some if {
	is_array(input.plan.code_digests)
	count(input.plan.code_digests) > 0
	every value in input.plan.code_digests {
		typed.digest(value)
	}
}

default receipt_approved := false

receipt_approved if {
	typed.name(input.code.running)
	is_array(input.code.approved)
	input.code.running in input.code.approved
}

default site_approved := false

site_approved if {
	typed.name(input.running_code)
	is_array(input.plan.code_digests)
	input.running_code in input.plan.code_digests
}

default plan_approved := false

plan_approved if input.approved == true

default steward_approved := false

steward_approved if input.approved_by_steward == true
