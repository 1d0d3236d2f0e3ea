# The rollout. A phase is worked on under terms that were published before, and ends when they are met.
package wardround.rollout

import data.wardround.evaluation
import data.wardround.typed
import rego.v1

# What every federation owes a phase, whatever its own terms add.

needed_drills := {
	"foundation": [],
	"pilot": [],
	"expansion": ["poisoning", "quarantine", "key-rotation", "consent-withdrawal", "restore"],
	"clinical": ["rollback", "drift"],
}

needed_agreements := {
	"foundation": ["baa", "dpa", "irb"],
	"pilot": [],
	"expansion": [],
	"clinical": [],
}

default phase_in_force := false

phase_in_force if {
	typed.name(input.phase)
	input.terms.phase == input.phase
}

default enough_members := false

enough_members if {
	typed.natural(input.terms.minimum_sites)
	typed.natural(input.sites)
	input.terms.minimum_sites <= input.sites
}

default strict_enough := false

strict_enough if {
	typed.name(input.terms.phase)
	is_array(input.terms.drills)
	is_array(input.terms.agreements)
	every drill in input.terms.drills {
		typed.name(drill)
	}
	every agreement in input.terms.agreements {
		typed.name(agreement)
	}
	change_planned
	every drill in needed_drills[input.terms.phase] {
		drill in input.terms.drills
	}
	every agreement in needed_agreements[input.terms.phase] {
		agreement in input.terms.agreements
	}
}

# Before a model is let into the clinic it is settled what may be changed about it.
change_planned if input.terms.phase in ["foundation", "pilot", "expansion"]

change_planned if {
	input.terms.phase == "clinical"
	typed.digest(input.terms.change_plan)
}

# A bound that everything meets is none.
widest := 200000

default bounded_enough := false

bounded_enough if input.terms.phase == "foundation"

bounded_enough if {
	input.terms.phase in ["pilot", "expansion"]
	typed.natural(input.terms.minimum_figure_micro)
	input.terms.minimum_figure_micro > 500000
}

bounded_enough if {
	input.terms.phase == "clinical"
	typed.natural(input.terms.minimum_figure_micro)
	input.terms.minimum_figure_micro > 500000
	typed.natural(input.terms.maximum_regression_micro)
	input.terms.maximum_regression_micro <= widest
	typed.natural(input.terms.maximum_subgroup_gap_micro)
	input.terms.maximum_subgroup_gap_micro <= widest
	typed.natural(input.terms.minimum_subgroup_figure_micro)
	input.terms.minimum_subgroup_figure_micro > 500000
	typed.natural(input.terms.confidence_micro)
	input.terms.confidence_micro >= 900000
}

# When a phase is to end.

default conformant := false

conformant if {
	typed.natural(input.sites.minimum)
	typed.natural(input.sites.conformant)
	input.sites.conformant >= input.sites.minimum
}

default agreed := false

agreed if {
	typed.natural(input.sites.minimum)
	typed.natural(input.sites.agreed)
	input.sites.agreed >= input.sites.minimum
}

default reported := false

reported if {
	typed.natural(input.sites.minimum)
	typed.natural(input.sites.reported)
	input.sites.reported >= input.sites.minimum
}

default nobody_quarantined := false

nobody_quarantined if {
	typed.natural(input.sites.quarantined)
	input.sites.quarantined == 0
}

default enough_rounds := false

enough_rounds if {
	typed.natural(input.rounds.minimum)
	typed.natural(input.rounds.registered)
	input.rounds.registered >= input.rounds.minimum
}

# No round is left whose figure somebody may have seen and nobody has judged.
default all_judged := false

all_judged if {
	typed.natural(input.rounds.pending)
	input.rounds.pending == 0
}

# What comes before patients in the clinic was watched over as such while it learned.
default tier_high_enough := false

tier_high_enough if input.phase in ["foundation", "pilot", "expansion"]

tier_high_enough if {
	input.phase == "clinical"
	input.risk_tier == "high"
}

# Where the terms ask for it, no subgroup lies under the floor, and there are subgroups.
default subgroups_above_floor := false

subgroups_above_floor if {
	input.subgroup_floor.wanted == false
	evaluation.share(input.subgroup_floor.minimum_micro)
}

subgroups_above_floor if {
	input.subgroup_floor.wanted == true
	evaluation.share(input.subgroup_floor.minimum_micro)
	is_array(input.subgroup_floor.figure_micro)
	count(input.subgroup_floor.figure_micro) >= 2
	every value in input.subgroup_floor.figure_micro {
		evaluation.share(value)
		value >= input.subgroup_floor.minimum_micro
	}
}

default drilled := false

drilled if {
	is_array(input.missing_drills)
	count(input.missing_drills) == 0
}

# How many sites answered that they are better off: the raw count, in which some answers are lies. No estimate is
# judged.
default better_off := false

better_off if {
	input.better_off.wanted == false
	typed.natural(input.better_off.minimum)
	typed.natural(input.better_off.answered)
}

better_off if {
	input.better_off.wanted == true
	typed.natural(input.better_off.minimum)
	typed.natural(input.better_off.answered)
	input.better_off.answered >= input.better_off.minimum
}
