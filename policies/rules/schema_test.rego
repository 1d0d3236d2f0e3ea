# The data held the contract, and it was the plan's contract.
package wardround.schema_test

import data.wardround.schema
import rego.v1

test_the_data_held_the_contract if {
	schema.passed with input as {"schema": {"passed": true}}
	not schema.passed with input as {"schema": {"passed": false}}
	not schema.passed with input as {"schema": {"passed": "true"}}
	not schema.passed with input as {"schema": {}}
}

test_an_easier_contract_does_not_count if {
	schema.same_suite with input as {"schema": {"suite": "abc", "expected_suite": "abc"}}
	not schema.same_suite with input as {"schema": {"suite": "abd", "expected_suite": "abc"}}
	not schema.same_suite with input as {"schema": {"suite": "", "expected_suite": ""}}
	not schema.same_suite with input as {"schema": {"suite": 1, "expected_suite": 1}}
	not schema.same_suite with input as {"schema": {}}
}
