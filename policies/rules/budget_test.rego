# A plan stays under its own cap, a hospital's pool under its own, and no plan is laxer than the hospital.
package wardround.budget_test

import data.wardround.budget
import rego.v1

test_a_plan_may_cost_exactly_its_cap if {
	budget.plan_within_cap with input as {"plan": {"epsilon_micro": 8000000, "epsilon_cap_micro": 8000000}}
}

test_a_plan_may_not_cost_a_millionth_more_than_its_cap if {
	not budget.plan_within_cap with input as {"plan": {"epsilon_micro": 8000001, "epsilon_cap_micro": 8000000}}
}

test_a_plan_without_a_cap_is_refused if {
	not budget.plan_within_cap with input as {"plan": {"epsilon_micro": 0}}
}

draws(spent, cap, cost) if {
	budget.pool_within_cap with input as {
		"pool": {"spent_rdp_micro": spent, "cap_rdp_micro": cap},
		"cost_rdp_micro": cost,
	}
}

test_a_pool_may_be_drawn_to_its_cap if draws(60, 100, 40)

test_a_pool_is_never_drawn_over_its_cap if {
	not draws(60, 100, 41)
}

test_an_empty_pool_still_holds_a_plan_back if {
	not draws(0, 100, 101)
}

test_costs_that_are_no_costs_are_refused if {
	every cost in [-1, "40", null, true, [], {}, 9007199254740992] {
		not draws(60, 100, cost)
	}
}

test_what_was_spent_cannot_be_below_nothing if {
	not draws(-1000, 100, 40)
}

test_the_hospital_caps_one_plan if {
	budget.site_within_cap with input as {"plan": {"epsilon_micro": 5}, "policy": {"epsilon_cap_micro": 5}}
	not budget.site_within_cap with input as {"plan": {"epsilon_micro": 6}, "policy": {"epsilon_cap_micro": 5}}
	not budget.site_within_cap with input as {"plan": {"epsilon_micro": 5}, "policy": {}}
}

test_more_noise_than_the_floor_is_welcome if {
	budget.noise_enough with input as {
		"plan": {"noise_multiplier_micro": 1100000},
		"policy": {"noise_multiplier_floor_micro": 1000000},
	}
}

test_less_noise_than_the_floor_is_refused if {
	not budget.noise_enough with input as {
		"plan": {"noise_multiplier_micro": 999999},
		"policy": {"noise_multiplier_floor_micro": 1000000},
	}
}

test_a_plan_without_a_noise_is_refused if {
	not budget.noise_enough with input as {"plan": {}, "policy": {"noise_multiplier_floor_micro": 0}}
}

test_a_clip_over_the_ceiling_is_refused if {
	budget.clip_small_enough with input as {"plan": {"clip_l2_micro": 7}, "policy": {"clip_l2_ceiling_micro": 7}}
	not budget.clip_small_enough with input as {"plan": {"clip_l2_micro": 8}, "policy": {"clip_l2_ceiling_micro": 7}}
	not budget.clip_small_enough with input as {"plan": {"clip_l2_micro": -8}, "policy": {"clip_l2_ceiling_micro": 7}}
}

answers(asked, ceiling) if {
	budget.answer_uncertain_enough with input as {
		"plan": {"comparison_epsilon_micro": asked},
		"policy": {"comparison_epsilon_ceiling_micro": ceiling},
	}
}

test_an_answer_is_no_surer_than_the_hospital_allows if {
	answers(3000000, 3000000)
	answers(0, 3000000)
	not answers(3000001, 3000000)
	every value in [-1, "1", null, true] {
		not answers(value, 3000000)
		not answers(1, value)
	}
	not budget.answer_uncertain_enough with input as {"plan": {}, "policy": {"comparison_epsilon_ceiling_micro": 0}}
}

drifts(margin, floor) if {
	budget.drift_margin_wide_enough with input as {
		"plan": {"drift_margin_micro": margin},
		"policy": {"drift_margin_floor_micro": floor},
	}
}

test_a_hospital_says_of_no_smaller_drift_than_it_allows if {
	drifts(100000, 100000)
	drifts(1000000, 100000)
	not drifts(99999, 100000)
	every value in [-1, "1", null, true] {
		not drifts(value, 0)
		not drifts(1, value)
	}
	not budget.drift_margin_wide_enough with input as {"plan": {}, "policy": {"drift_margin_floor_micro": 0}}
}
