"""The phased rollout: what was announced for a phase, what of it holds, and who signed that it may end.

Everything follows from the ledger: a phase's terms are on it before its first round, its measurements are the
figures that the rounds left there, and its end carries the officers' signatures. How a phase is worked through lives
in `flows.rollout`; the thresholds of the gate itself are rules (`policies/rules/rollout.rego`).
"""
