# Nothing of a hospital in quarantine counts.
package wardround.quarantine_test

import data.wardround.quarantine
import rego.v1

test_a_hospital_that_is_not_in_quarantine_is_free if {
	quarantine.free with input as {"quarantined": false}
}

test_a_hospital_in_quarantine_is_not if {
	not quarantine.free with input as {"quarantined": true}
}

test_whether_it_is_must_be_said if {
	not quarantine.free with input as {}
	every answer in [null, 0, "", "false", []] {
		not quarantine.free with input as {"quarantined": answer}
	}
}
