# Quarantine. Nothing of a hospital in quarantine counts, until a quorum of the hospitals takes it back.
package wardround.quarantine

import rego.v1

default free := false

free if input.quarantined == false
