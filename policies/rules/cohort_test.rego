# There are enough consenting patients, by the plan's measure and by the hospital's.
package wardround.cohort_test

import data.wardround.cohort
import rego.v1

patients(cohort_patients, plan, hospital) if {
	cohort.large_enough with input as {
		"cohort_patients": cohort_patients,
		"minimum_patients": plan,
		"policy_minimum_patients": hospital,
	}
}

test_just_enough_is_enough if patients(20, 20, 20)

test_the_stricter_of_the_two_counts if {
	not patients(19, 10, 20)
	not patients(19, 20, 10)
}

test_nobody_is_never_enough if {
	not patients(0, 0, 0)
}

test_counts_that_are_no_counts_are_refused if {
	every count_of in [-1, "20", null, true, [], 9007199254740992] {
		not patients(count_of, 0, 0)
		not patients(100, count_of, 0)
		not patients(100, 0, count_of)
	}
}
