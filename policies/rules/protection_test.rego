# How sums are protected, by what is at stake.
package wardround.protection_test

import data.wardround.protection
import rego.v1

permits(tier, scheme) if {
	protection.permits_scheme with input as {"plan": {"risk_tier": tier, "scheme": scheme}}
}

enough(sites, needed) if {
	protection.enough_for_robust with input as {"federation": {"sites": sites}, "plan": {"robust_sites": needed}}
}

test_every_tier_may_use_masks_alone_and_under_a_key if {
	every tier in ["minimal", "limited", "high"] {
		permits(tier, "masked")
		permits(tier, "homomorphic")
	}
}

test_without_masks_only_where_least_is_at_stake if {
	permits("minimal", "homomorphic-unmasked")
	not permits("limited", "homomorphic-unmasked")
	not permits("high", "homomorphic-unmasked")
}

test_shares_are_not_for_the_clinic if {
	permits("limited", "shared")
	not permits("high", "shared")
}

test_unknown_schemes_and_tiers_are_refused if {
	every other in ["", "Masked", "none", "plain", null, 4, true, ["masked"]] {
		not permits("minimal", other)
		not permits(other, "masked")
	}
}

test_robust_sums_need_their_sites if {
	enough(12, 12)
	enough(3, 0)
	not enough(11, 12)
	not enough("12", 12)
	not enough(12, null)
}
