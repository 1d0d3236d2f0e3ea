# The model was scored, is good enough, and not much worse than the one in force.
package wardround.evaluation_test

import data.wardround.evaluation
import rego.v1

test_only_what_happened_counts if {
	evaluation.released with input as {"opened": true}
	not evaluation.released with input as {"opened": false}
	not evaluation.released with input as {}
	evaluation.scored with input as {"evaluated": true}
	not evaluation.scored with input as {"evaluated": 1}
	not evaluation.scored with input as {}
}

floor(auc, minimum) if {
	evaluation.above_floor with input as {"figure_micro": auc, "minimum_figure_micro": minimum}
}

test_exactly_the_floor_is_good_enough if floor(600000, 600000)

test_under_the_floor_is_not if {
	not floor(599999, 600000)
}

test_a_score_over_one_is_no_score if {
	not floor(1000001, 600000)
	not floor(-1, 0)
	not floor("1000000", 0)
	not floor(1000000, null)
}

regression(auc, known, in_force, most) if {
	evaluation.no_regression with input as {
		"figure_micro": auc,
		"in_force": {"known": known, "figure_micro": in_force},
		"maximum_regression_micro": most,
	}
}

test_the_first_model_cannot_be_worse_than_another if regression(1, false, 0, 0)

test_a_little_worse_is_allowed_where_the_plan_says_so if regression(780000, true, 800000, 20000)

test_more_than_a_little_worse_is_refused if {
	not regression(779999, true, 800000, 20000)
	not regression(799999, true, 800000, 0)
}

test_better_is_always_allowed if regression(900000, true, 800000, 0)

test_whether_there_is_a_model_in_force_is_not_guessed if {
	every answer in [null, 0, "false", []] {
		not regression(900000, answer, 800000, 0)
	}
}
