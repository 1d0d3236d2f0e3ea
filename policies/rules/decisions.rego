# The decisions: which rules are asked when, and the code under which each refuses. Nothing is decided here; a rule that
# does not hold, for whatever reason, is a violation.
package wardround.decision

import data.wardround.budget
import data.wardround.code
import data.wardround.cohort
import data.wardround.consent
import data.wardround.delta
import data.wardround.evaluation
import data.wardround.model
import data.wardround.norm
import data.wardround.participation
import data.wardround.phase
import data.wardround.protection
import data.wardround.quarantine
import data.wardround.rollout
import data.wardround.schema
import data.wardround.subgroups
import rego.v1

# Before anything is trained: the plan by itself and the federation that it is for.

plan contains "plan.no-code" if not code.plan_approves_some

plan contains "plan.too-few-members" if not participation.enough_members

plan contains "plan.too-many-members" if not participation.few_enough_members

plan contains "plan.unknown-site" if not participation.all_known

plan contains "budget.plan-cap" if not budget.plan_within_cap

plan contains "plan.scheme" if not protection.permits_scheme

plan contains "plan.robust-sites" if not protection.enough_for_robust

plan contains "phase.risk-tier" if not phase.permits_tier

plan contains "phase.patient-data" if not phase.permits_data

# Before anything is trained: one hospital.

member contains "budget.pool-cap" if not budget.pool_within_cap

member contains "consent.version" if not consent.published

member contains "consent.purpose" if {
	consent.published
	not consent.covers_purpose
}

member contains "consent.not-in-force" if {
	consent.published
	not consent.in_force
}

member contains "site.quarantined" if not quarantine.free

# When a hospital reserves the cost of a round.

reservation contains "budget.pool-cap" if not budget.pool_within_cap

reservation contains "consent.version" if not consent.published

reservation contains "consent.purpose" if {
	consent.published
	not consent.covers_purpose
}

reservation contains "consent.not-in-force" if {
	consent.published
	not consent.in_force
}

reservation contains "consent.state-missing" if not consent.state_published

reservation contains "consent.state-stale" if {
	consent.state_published
	not consent.state_fresh
}

reservation contains "site.quarantined" if not quarantine.free

reservation contains "plan.not-approved" if not code.plan_approved

# When a hospital reports.

receipt contains "receipt.code" if not code.receipt_approved

receipt contains "receipt.validation" if not schema.passed

receipt contains "receipt.suite" if not schema.same_suite

receipt contains "receipt.consent-state" if not consent.root_expected

receipt contains "site.quarantined" if not quarantine.free

# Before a model is registered. What a later stage judges rests on the earlier ones: these are asked first.

default reports_complete := false

reports_complete if {
	participation.enough_reported
	participation.required_reported
}

default sum_usable := false

sum_usable if {
	reports_complete
	evaluation.released
	norm.within_bound
	evaluation.scored
}

release contains "participation.too-few" if not participation.enough_reported

release contains "participation.required-missing" if not participation.required_reported

release contains "aggregate.missing" if {
	reports_complete
	not evaluation.released
}

release contains "update.norm" if {
	reports_complete
	evaluation.released
	not norm.within_bound
}

release contains "evaluation.missing" if {
	reports_complete
	evaluation.released
	not evaluation.scored
}

release contains "evaluation.below-floor" if {
	sum_usable
	not evaluation.above_floor
}

release contains "evaluation.regression" if {
	sum_usable
	not evaluation.no_regression
}

release contains "evaluation.subgroups-missing" if {
	sum_usable
	not subgroups.complete
}

release contains "evaluation.subgroup-gap" if {
	sum_usable
	subgroups.complete
	not subgroups.close
}

# Before the next round may follow one that is not evaluated: what can be asked of its sum alone.

continuation contains "participation.too-few" if not participation.enough_reported

continuation contains "participation.required-missing" if not participation.required_reported

continuation contains "aggregate.missing" if {
	reports_complete
	not evaluation.released
}

continuation contains "update.norm" if {
	reports_complete
	evaluation.released
	not norm.within_bound
}

# Before the figures of joint statistics count.

statistics contains "participation.too-few" if not participation.enough_reported

statistics contains "participation.required-missing" if not participation.required_reported

statistics contains "aggregate.missing" if {
	reports_complete
	not evaluation.released
}

# Before the terms of a phase of the rollout are in force.

phase_entry contains "phase.order" if not rollout.phase_in_force

phase_entry contains "phase.terms-sites" if not rollout.enough_members

phase_entry contains "phase.terms-weak" if not rollout.strict_enough

phase_entry contains "phase.terms-bounds" if not rollout.bounded_enough

# Before a phase ends.

phase_exit contains "phase.conformance" if not rollout.conformant

phase_exit contains "phase.agreements" if not rollout.agreed

phase_exit contains "phase.reported" if not rollout.reported

phase_exit contains "phase.quarantine" if not rollout.nobody_quarantined

phase_exit contains "phase.rounds" if not rollout.enough_rounds

phase_exit contains "phase.pending" if not rollout.all_judged

phase_exit contains "phase.tier-low" if not rollout.tier_high_enough

phase_exit contains "phase.drills" if not rollout.drilled

phase_exit contains "phase.evaluation-missing" if not evaluation.scored

phase_exit contains "phase.figure" if {
	evaluation.scored
	not evaluation.above_floor
}

phase_exit contains "phase.regression" if {
	evaluation.scored
	not evaluation.no_regression
}

phase_exit contains "phase.subgroups-missing" if {
	evaluation.scored
	not subgroups.complete
}

phase_exit contains "phase.subgroup-gap" if {
	evaluation.scored
	subgroups.complete
	not subgroups.close
}

phase_exit contains "phase.subgroup-floor" if {
	evaluation.scored
	subgroups.complete
	not rollout.subgroups_above_floor
}

phase_exit contains "phase.better-off" if {
	evaluation.scored
	not rollout.better_off
}

# At the hospital alone, before its data are opened.

site contains "site.noise-floor" if not budget.noise_enough

site contains "site.clip-ceiling" if not budget.clip_small_enough

site contains "site.comparison" if not budget.answer_uncertain_enough

site contains "site.drift-margin" if not budget.drift_margin_wide_enough

site contains "site.plan-cap" if not budget.site_within_cap

site contains "site.model-family" if not model.family_approved

site contains "plan.code" if not code.site_approved

site contains "plan.bundle" if not code.bundle_approved

site contains "plan.not-approved" if not code.steward_approved

# The same of joint statistics, which train nothing.

site_statistics contains "site.noise-floor" if not budget.noise_enough

site_statistics contains "site.plan-cap" if not budget.site_within_cap

site_statistics contains "plan.code" if not code.site_approved

site_statistics contains "plan.not-approved" if not code.steward_approved

# At the hospital alone, once it knows its cohort and before anything is reserved.

cohort_size contains "site.cohort" if not cohort.large_enough

cohort_size contains "site.delta" if not delta.small_enough
