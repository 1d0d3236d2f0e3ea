# What a rule may take for granted of a fact: nothing. A value that is missing, of another kind, negative or too large
# makes the rule that asks for it fail, and a rule that fails refuses.
package wardround.typed

import rego.v1

largest := 9007199254740991

# A whole number from 0 on: a count, a cost in micro-units, a time in seconds of the log.
natural(value) if {
	is_number(value)
	value >= 0
	value <= largest
}

name(value) if {
	is_string(value)
	count(value) > 0
}

# A digest as it is written everywhere: 64 characters.
digest(value) if {
	is_string(value)
	count(value) == 64
}
