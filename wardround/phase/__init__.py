"""`wardround phase`: where a rollout stands, its terms, evidence, sign-offs and incidents."""
