"""`wardround rollout`: a whole rollout on one machine, from nothing to a clinical champion."""
