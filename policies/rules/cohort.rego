# The cohort. There are enough consenting patients, for the plan and for the hospital's own policy. Asked at the
# hospital alone: the figure never leaves.
package wardround.cohort

import data.wardround.typed
import rego.v1

default large_enough := false

large_enough if {
	typed.natural(input.cohort_patients)
	typed.natural(input.minimum_patients)
	typed.natural(input.policy_minimum_patients)
	input.cohort_patients >= 1
	input.cohort_patients >= input.minimum_patients
	input.cohort_patients >= input.policy_minimum_patients
}
