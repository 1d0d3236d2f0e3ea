# The rollout. A phase is worked on under terms that were published before, and ends when they are met.
package wardround.rollout

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
	every drill in needed_drills[input.terms.phase] {
		drill in input.terms.drills
	}
	every agreement in needed_agreements[input.terms.phase] {
		agreement in input.terms.agreements
	}
}

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
	input.terms.regression_bounded == true
	input.terms.subgroups_bounded == true
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

default drilled := false

drilled if {
	is_array(input.missing_drills)
	count(input.missing_drills) == 0
}
