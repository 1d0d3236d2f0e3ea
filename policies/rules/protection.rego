# How sums are protected. What a risk tier permits: without masks the coordinator and one key holder read every update;
# an aggregator of shares can falsify the sum unnoticed.
package wardround.protection

import data.wardround.typed
import rego.v1

permitted := {
	"minimal": ["masked", "homomorphic", "homomorphic-unmasked", "shared"],
	"limited": ["masked", "homomorphic", "shared"],
	"high": ["masked", "homomorphic"],
}

default permits_scheme := false

permits_scheme if {
	is_string(input.plan.risk_tier)
	is_string(input.plan.scheme)
	input.plan.scheme in permitted[input.plan.risk_tier]
}

# Zero where a plan asks for no robust sums.
default enough_for_robust := false

enough_for_robust if {
	typed.natural(input.plan.robust_sites)
	typed.natural(input.federation.sites)
	input.federation.sites >= input.plan.robust_sites
}
