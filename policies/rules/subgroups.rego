# Subgroups. Where the plan asks for it, every subgroup has a figure, and no two lie further apart than it allows.
package wardround.subgroups

import data.wardround.evaluation
import rego.v1

default complete := false

complete if {
	input.subgroups.wanted == false
	is_array(input.subgroups.figure_micro)
}

complete if {
	input.subgroups.wanted == true
	is_array(input.subgroups.figure_micro)
	count(input.subgroups.figure_micro) >= 2
	every value in input.subgroups.figure_micro {
		evaluation.share(value)
	}
}

default close := false

close if {
	input.subgroups.wanted == false
	evaluation.share(input.maximum_subgroup_gap_micro)
}

close if {
	input.subgroups.wanted == true
	evaluation.share(input.maximum_subgroup_gap_micro)
	count(input.subgroups.figure_micro) >= 2
	max(input.subgroups.figure_micro) - min(input.subgroups.figure_micro) <= input.maximum_subgroup_gap_micro
}
