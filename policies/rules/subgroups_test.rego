# Every subgroup has a figure, and none lies too far from another.
package wardround.subgroups_test

import data.wardround.subgroups
import rego.v1

complete(wanted, auc) if {
	subgroups.complete with input as {"subgroups": {"wanted": wanted, "figure_micro": auc}}
}

close(wanted, auc, gap) if {
	subgroups.close with input as {
		"subgroups": {"wanted": wanted, "figure_micro": auc},
		"maximum_subgroup_gap_micro": gap,
	}
}

test_a_plan_need_not_ask_for_subgroups if {
	complete(false, [])
	close(false, [], 1000000)
}

test_one_subgroup_is_none if {
	complete(true, [700000, 710000])
	not complete(true, [700000])
	not complete(true, [])
}

test_a_subgroup_without_a_figure_is_one_too_few if {
	not complete(true, [700000, null])
	not complete(true, [700000, "710000"])
	not complete(true, [700000, -1])
	not complete(true, [700000, 1000001])
	not complete(true, null)
}

test_a_gap_as_wide_as_the_plan_allows_is_allowed if close(true, [700000, 750000, 720000], 50000)

test_a_wider_one_is_not if {
	not close(true, [700000, 750001, 720000], 50000)
}

test_a_gap_needs_a_limit if {
	not close(true, [700000, 700000], null)
	not close(true, [700000, 700000], -1)
	not close(true, [700000, 700000], 1000001)
}

test_whether_they_are_wanted_is_not_guessed if {
	every answer in [null, 0, "false", []] {
		not complete(answer, [])
		not close(answer, [], 1000000)
	}
}
