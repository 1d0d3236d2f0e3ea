# The hospital has approved this family of models.
package wardround.model_test

import data.wardround.model
import rego.v1

test_an_approved_family_may_be_trained if {
	model.family_approved with input as {"plan": {"family": "Classifier"}, "policy": {"families": ["Classifier"]}}
}

test_another_family_may_not if {
	not model.family_approved with input as {"plan": {"family": "Generator"}, "policy": {"families": ["Classifier"]}}
	not model.family_approved with input as {"plan": {"family": "Classifier"}, "policy": {"families": []}}
	not model.family_approved with input as {"plan": {}, "policy": {"families": ["Classifier"]}}
}

test_a_list_is_a_list if {
	not model.family_approved with input as {"plan": {"family": "Class"}, "policy": {"families": "Classifier"}}
	not model.family_approved with input as {"plan": {"family": null}, "policy": {"families": [null]}}
}
