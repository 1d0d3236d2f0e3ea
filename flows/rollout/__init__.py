"""The phases of the rollout, one flow a phase. What they share is `phase`; what decides is `policies.rollout`."""
