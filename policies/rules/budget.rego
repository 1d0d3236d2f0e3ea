# Budgets. A plan costs no more than it says, and a hospital's patients are never asked for more than their pool holds,
# whatever was drawn before and by whichever plan. Costs are compared at the pool's one order, in micro-units.
package wardround.budget

import data.wardround.typed
import rego.v1

default plan_within_cap := false

plan_within_cap if {
	typed.natural(input.plan.epsilon_micro)
	typed.natural(input.plan.epsilon_cap_micro)
	input.plan.epsilon_micro <= input.plan.epsilon_cap_micro
}

default pool_within_cap := false

pool_within_cap if {
	typed.natural(input.pool.spent_rdp_micro)
	typed.natural(input.pool.cap_rdp_micro)
	typed.natural(input.cost_rdp_micro)
	input.pool.spent_rdp_micro + input.cost_rdp_micro <= input.pool.cap_rdp_micro
}

# What the hospital allows one plan, whatever the plan allows itself.
default site_within_cap := false

site_within_cap if {
	typed.natural(input.plan.epsilon_micro)
	typed.natural(input.policy.epsilon_cap_micro)
	input.plan.epsilon_micro <= input.policy.epsilon_cap_micro
}

# Noise and clipping: a plan can only be stricter than the hospital.
default noise_enough := false

noise_enough if {
	typed.natural(input.plan.noise_multiplier_micro)
	typed.natural(input.policy.noise_multiplier_floor_micro)
	input.plan.noise_multiplier_micro >= input.policy.noise_multiplier_floor_micro
}

default clip_small_enough := false

clip_small_enough if {
	typed.natural(input.plan.clip_l2_micro)
	typed.natural(input.policy.clip_l2_ceiling_micro)
	input.plan.clip_l2_micro <= input.policy.clip_l2_ceiling_micro
}

# One answer that is the truth or a lie has no noise but its own epsilon; a plan that asks for none has 0.
default answer_uncertain_enough := false

answer_uncertain_enough if {
	typed.natural(input.plan.comparison_epsilon_micro)
	typed.natural(input.policy.comparison_epsilon_ceiling_micro)
	input.plan.comparison_epsilon_micro <= input.policy.comparison_epsilon_ceiling_micro
}

# How far under the model in force a hospital must lie before it says so; a plan that asks for no such word has 1.
default drift_margin_wide_enough := false

drift_margin_wide_enough if {
	typed.natural(input.plan.drift_margin_micro)
	typed.natural(input.policy.drift_margin_floor_micro)
	input.plan.drift_margin_micro >= input.policy.drift_margin_floor_micro
}
