# The hospital's consent policy is published, covers the purpose, is in force, and its state is fresh.
package wardround.consent_test

import data.wardround.consent
import rego.v1

test_only_a_published_policy_counts if {
	consent.published with input as {"consent": {"published": true}}
	not consent.published with input as {"consent": {"published": false}}
	not consent.published with input as {"consent": {}}
	not consent.published with input as {}
}

covers(purpose, purposes) if {
	consent.covers_purpose with input as {"purpose": purpose, "consent": {"purposes": purposes}}
}

test_patients_agreed_to_this_purpose if covers("research", ["care", "research"])

test_another_purpose_is_not_covered if {
	not covers("marketing", ["care", "research"])
	not covers("research", [])
}

test_a_purpose_that_is_none_is_not_covered if {
	not covers("", [""])
	not covers(null, [null])
	not covers("research", "research")
	not covers("research", {"research": true})
}

at(time) if {
	consent.in_force with input as {"log_time_s": time, "consent": {"valid_from_s": 100, "valid_until_s": 200}}
}

test_a_policy_holds_from_its_first_second_to_the_one_before_its_last if {
	not at(99)
	at(100)
	at(199)
	not at(200)
}

test_a_policy_without_an_end_is_not_in_force_by_chance if {
	not consent.in_force with input as {"log_time_s": 150, "consent": {"valid_from_s": 100}}
	not consent.in_force with input as {"log_time_s": 150, "consent": {"valid_from_s": 100, "valid_until_s": null}}
}

test_times_that_are_no_times_are_refused if {
	every time in [-1, "150", null, true, []] {
		not at(time)
	}
}

test_the_state_of_consents_is_published_and_not_older_than_the_limit if {
	consent.state_published with input as {"consent_state": {"published": true}}
	not consent.state_published with input as {"consent_state": {}}
	consent.state_fresh with input as {"consent_state": {"age_s": 172800, "limit_s": 172800}}
	not consent.state_fresh with input as {"consent_state": {"age_s": 172801, "limit_s": 172800}}
	not consent.state_fresh with input as {"consent_state": {"limit_s": 172800}}
	not consent.state_fresh with input as {"consent_state": {"age_s": -1, "limit_s": 172800}}
}

test_a_report_names_the_state_under_which_it_reserved if {
	consent.root_expected with input as {"consent_root": "abc", "expected_consent_root": "abc"}
	not consent.root_expected with input as {"consent_root": "abc", "expected_consent_root": "abd"}
}

test_no_reservation_no_report if {
	not consent.root_expected with input as {"consent_root": "abc", "expected_consent_root": ""}
	not consent.root_expected with input as {"consent_root": "", "expected_consent_root": ""}
	not consent.root_expected with input as {}
}
