# Consent. The hospital has published the version of the consent policy that the plan names; that version covers the
# plan's purpose and is in force; and the hospital has said lately in which state its patients' consents are.
# Whether one patient consents is decided at the hospital, record by record, when the cohort is selected.
package wardround.consent

import data.wardround.typed
import rego.v1

default published := false

published if input.consent.published == true

default covers_purpose := false

covers_purpose if {
	typed.name(input.purpose)
	is_array(input.consent.purposes)
	input.purpose in input.consent.purposes
}

default in_force := false

in_force if {
	typed.natural(input.log_time_s)
	typed.natural(input.consent.valid_from_s)
	typed.natural(input.consent.valid_until_s)
	input.consent.valid_from_s <= input.log_time_s
	input.log_time_s < input.consent.valid_until_s
}

default state_published := false

state_published if input.consent_state.published == true

default state_fresh := false

state_fresh if {
	typed.natural(input.consent_state.age_s)
	typed.natural(input.consent_state.limit_s)
	input.consent_state.age_s <= input.consent_state.limit_s
}

# A report names the state of consents under which its budget was reserved.
default root_expected := false

root_expected if {
	typed.name(input.consent_root)
	typed.name(input.expected_consent_root)
	input.consent_root == input.expected_consent_root
}
