# The data contract. The hospital's data held it, and it was the plan's contract, not an easier one.
package wardround.schema

import data.wardround.typed
import rego.v1

default passed := false

passed if input.schema.passed == true

default same_suite := false

same_suite if {
	typed.name(input.schema.suite)
	typed.name(input.schema.expected_suite)
	input.schema.suite == input.schema.expected_suite
}
