# Delta is small against the number of patients, unless a published benchmark fixes it.
package wardround.delta_test

import data.wardround.delta
import rego.v1

small(patients, delta_pico, benchmark) if {
	delta.small_enough with input as {
		"register_patients": patients,
		"delta_pico": delta_pico,
		"delta_fixed_by_benchmark": benchmark,
	}
}

test_a_tenth_of_one_in_so_many_patients_is_small_enough if small(10000, 10000000, false)

test_the_same_delta_is_too_large_for_one_patient_more if {
	not small(10001, 10000000, false)
}

test_a_benchmark_may_fix_it if small(10001, 10000000, true)

test_a_benchmark_excuses_neither_nobody_nor_nothing if {
	not small(0, 10000000, true)
	not small(10, 0, true)
	not small(-10, 10, true)
}

test_only_a_plain_yes_is_a_benchmark if {
	every answer in [null, 1, "true", []] {
		not small(10001, 10000000, answer)
	}
}

test_the_largest_numbers_are_refused_and_not_forgotten if {
	not small(9007199254740991, 9007199254740991, false)
}
