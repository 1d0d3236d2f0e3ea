# Delta. The guarantee may fail with the probability δ (here in units of 1e-12), which must be small against the number
# of patients in the register: at most 1/(10 · patients), unless a published benchmark fixes it. At the hospital alone.
package wardround.delta

import data.wardround.typed
import rego.v1

default small_enough := false

small_enough if {
	typed.natural(input.register_patients)
	typed.natural(input.delta_pico)
	input.register_patients >= 1
	input.delta_pico >= 1
	input.delta_fixed_by_benchmark == false
	(10 * input.register_patients) * input.delta_pico <= 1000000000000
}

small_enough if {
	typed.natural(input.register_patients)
	typed.natural(input.delta_pico)
	input.register_patients >= 1
	input.delta_pico >= 1
	input.delta_fixed_by_benchmark == true
}
