# Enough hospitals, none too many for the encoding, and all that the plan requires.
package wardround.participation_test

import data.wardround.participation
import rego.v1

members(sites, least) if {
	participation.enough_members with input as {"federation": {"sites": sites}, "plan": {"minimum_sites": least}}
}

test_as_many_members_as_the_plan_needs if {
	members(3, 3)
	members(5, 4)
	not members(3, 4)
}

test_two_hospitals_could_subtract_their_own if {
	not members(2, 2)
	not members(5, 2)
	not members(5, 0)
}

test_counts_that_are_no_counts_are_refused if {
	every value in [-3, "5", null, true, []] {
		not members(value, 3)
		not members(5, value)
	}
}

test_the_encoding_holds_only_so_many if {
	participation.few_enough_members with input as {"federation": {"sites": 8}, "plan": {"maximum_sites": 8}}
	not participation.few_enough_members with input as {"federation": {"sites": 9}, "plan": {"maximum_sites": 8}}
	not participation.few_enough_members with input as {"federation": {}, "plan": {"maximum_sites": 8}}
}

test_every_required_hospital_is_a_member if {
	participation.all_known with input as {"unknown_sites": []}
	not participation.all_known with input as {"unknown_sites": ["hospital-x"]}
	not participation.all_known with input as {"unknown_sites": ""}
	not participation.all_known with input as {}
}

reported(sites, least) if {
	participation.enough_reported with input as {"reported": sites, "minimum_sites": least}
}

test_enough_hospitals_reported if {
	reported(3, 3)
	not reported(2, 3)
	not reported(2, 2)
	not reported(null, 3)
}

test_every_required_hospital_reported if {
	participation.required_reported with input as {"missing_required": []}
	not participation.required_reported with input as {"missing_required": ["hospital-a"]}
	not participation.required_reported with input as {"missing_required": {}}
	not participation.required_reported with input as {}
}
