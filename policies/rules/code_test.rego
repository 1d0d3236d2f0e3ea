# What runs is what the plan approves, and a steward who approves plans one by one has approved this one.
package wardround.code_test

import data.wardround.code
import rego.v1

digest := "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

network := "fedcba9876543210fedcba9876543210fedcba9876543210fedcba9876543210"

from_bundle := {"bundle": digest, "network": network}

test_a_plan_names_the_code_that_may_run_it if {
	code.plan_approves_some with input as {"plan": {"code_digests": [digest]}}
	not code.plan_approves_some with input as {"plan": {"code_digests": []}}
	not code.plan_approves_some with input as {"plan": {"code_digests": ["abc"]}}
	not code.plan_approves_some with input as {"plan": {"code_digests": [digest, null]}}
	not code.plan_approves_some with input as {"plan": {"code_digests": digest}}
	not code.plan_approves_some with input as {"plan": {}}
}

test_a_report_of_other_code_is_refused if {
	code.receipt_approved with input as {"code": {"running": "abc", "approved": ["abd", "abc"]}}
	not code.receipt_approved with input as {"code": {"running": "abe", "approved": ["abd", "abc"]}}
}

test_a_report_that_names_no_code_is_refused if {
	not code.receipt_approved with input as {"code": {"approved": ["abc"]}}
	not code.receipt_approved with input as {"code": {"running": "", "approved": [""]}}
	not code.receipt_approved with input as {"code": {"running": null, "approved": [null]}}
}

test_part_of_a_digest_is_no_digest if {
	not code.receipt_approved with input as {"code": {"running": "ab", "approved": "abc"}}
}

test_a_hospital_runs_approved_code_only if {
	code.site_approved with input as {"running_code": "abc", "plan": {"code_digests": ["abc"]}}
	not code.site_approved with input as {"running_code": "abd", "plan": {"code_digests": ["abc"]}}
	not code.site_approved with input as {"plan": {"code_digests": ["abc"]}}
}

test_a_hospital_approves_each_bundle if {
	code.bundle_approved with input as {"plan": from_bundle, "approved_bundles": {"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef": network}}
	not code.bundle_approved with input as {"plan": from_bundle, "approved_bundles": {}}
	not code.bundle_approved with input as {"plan": from_bundle, "approved_bundles": [digest]}
	not code.bundle_approved with input as {"plan": from_bundle, "approved_bundles": digest}
	not code.bundle_approved with input as {"plan": from_bundle}
}

test_a_bundle_is_approved_with_its_network if {
	not code.bundle_approved with input as {"plan": from_bundle, "approved_bundles": {"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef": digest}}
	not code.bundle_approved with input as {"plan": from_bundle, "approved_bundles": {"fedcba9876543210fedcba9876543210fedcba9876543210fedcba9876543210": network}}
	not code.bundle_approved with input as {"plan": {"bundle": digest}, "approved_bundles": {"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef": null}}
	not code.bundle_approved with input as {"plan": {"bundle": digest, "network": ""}, "approved_bundles": {"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef": ""}}
}

test_a_plan_says_that_it_has_no_bundle if {
	code.bundle_approved with input as {"plan": {"bundle": "none"}, "approved_bundles": []}
	every bundle in [null, "", false, "abc", []] {
		not code.bundle_approved with input as {"plan": {"bundle": bundle, "network": network}, "approved_bundles": {"": network, "abc": network}}
	}
	not code.bundle_approved with input as {"plan": {}, "approved_bundles": []}
}

test_only_a_plain_yes_approves if {
	code.plan_approved with input as {"approved": true}
	code.steward_approved with input as {"approved_by_steward": true}
	every answer in [false, null, 1, "true", "yes", [true]] {
		not code.plan_approved with input as {"approved": answer}
		not code.steward_approved with input as {"approved_by_steward": answer}
	}
}

test_silence_is_no_approval if {
	not code.plan_approved with input as {}
	not code.steward_approved with input as {}
}
