# Update norms. Every hospital clips its update, so that their sum can only be so large: a larger one was poisoned.
package wardround.norm

import data.wardround.typed
import rego.v1

default within_bound := false

within_bound if {
	typed.natural(input.norm_micro)
	typed.natural(input.norm_limit_micro)
	input.norm_micro <= input.norm_limit_micro
}
