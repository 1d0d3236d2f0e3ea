# Evaluation. The model was scored on held-out patients, is good enough, and is not much worse than the model in force.
package wardround.evaluation

import data.wardround.typed
import rego.v1

whole := 1000000

share(value) if {
	typed.natural(value)
	value <= whole
}

default released := false

released if input.opened == true

default scored := false

scored if input.evaluated == true

default above_floor := false

above_floor if {
	share(input.figure_micro)
	share(input.minimum_figure_micro)
	input.figure_micro >= input.minimum_figure_micro
}

default no_regression := false

no_regression if {
	input.in_force.known == false
	share(input.in_force.figure_micro)
	share(input.maximum_regression_micro)
}

no_regression if {
	input.in_force.known == true
	share(input.figure_micro)
	share(input.in_force.figure_micro)
	share(input.maximum_regression_micro)
	input.figure_micro + input.maximum_regression_micro >= input.in_force.figure_micro
}
