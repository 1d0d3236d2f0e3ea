# Participation. Enough hospitals take part, none too many for the encoding, and all that the plan requires.
package wardround.participation

import data.wardround.typed
import rego.v1

default enough_members := false

enough_members if {
	typed.natural(input.federation.sites)
	typed.natural(input.plan.minimum_sites)
	input.plan.minimum_sites >= 3
	input.federation.sites >= input.plan.minimum_sites
}

default few_enough_members := false

few_enough_members if {
	typed.natural(input.federation.sites)
	typed.natural(input.plan.maximum_sites)
	input.federation.sites <= input.plan.maximum_sites
}

default all_known := false

all_known if {
	is_array(input.unknown_sites)
	count(input.unknown_sites) == 0
}

default enough_reported := false

enough_reported if {
	typed.natural(input.reported)
	typed.natural(input.minimum_sites)
	input.minimum_sites >= 3
	input.reported >= input.minimum_sites
}

default required_reported := false

required_reported if {
	is_array(input.missing_required)
	count(input.missing_required) == 0
}
