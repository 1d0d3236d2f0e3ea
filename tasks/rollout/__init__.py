"""The rollout as work: officers, measurements, sign-offs, conformance. The phases themselves are `flows.rollout`."""
