# What a fact must be before any rule compares it.
package wardround.typed_test

import data.wardround.typed
import rego.v1

test_counts_are_whole_numbers_from_0_on if {
	typed.natural(0)
	typed.natural(9007199254740991)
	every value in [-1, 9007199254740992, "1", null, true, [], {}] {
		not typed.natural(value)
	}
}

test_names_are_not_empty if {
	typed.name("hospital-a")
	every value in ["", null, 1, true, [], ["hospital-a"], {}] {
		not typed.name(value)
	}
}

test_digests_are_64_characters if {
	typed.digest("0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef")
	every value in ["", "0123456789abcdef", null, 64, []] {
		not typed.digest(value)
	}
}
