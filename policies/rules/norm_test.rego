# The sum of clipped updates can only be so large.
package wardround.norm_test

import data.wardround.norm
import rego.v1

test_a_sum_within_the_bound_is_taken if {
	norm.within_bound with input as {"norm_micro": 3000000, "norm_limit_micro": 3000000}
}

test_a_larger_one_is_not if {
	not norm.within_bound with input as {"norm_micro": 3000001, "norm_limit_micro": 3000000}
}

test_a_norm_that_is_none_is_not_taken if {
	every value in [-1, "1", null, true, [], 9007199254740992] {
		not norm.within_bound with input as {"norm_micro": value, "norm_limit_micro": 3000000}
	}
	not norm.within_bound with input as {"norm_micro": 1}
}
