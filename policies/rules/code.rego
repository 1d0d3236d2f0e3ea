# Code and approval. What runs is what the plan approves, from bundles that the hospital approves, and where the steward approves plans one by one, this one.
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

# A bundle of somebody's is named by its digest and approved like code, together with the digest of the network that
# it has: the plan gives that very network. Most plans name no bundle.
default bundle_approved := false

bundle_approved if input.plan.bundle == "none"

bundle_approved if {
	typed.digest(input.plan.bundle)
	typed.digest(input.plan.network)
	input.approved_bundles[input.plan.bundle] == input.plan.network
}

default plan_approved := false

plan_approved if input.approved == true

default steward_approved := false

steward_approved if input.approved_by_steward == true
