"""Rehearsals as work: a federation that is founded to be thrown away, who plays in it, and what befalls it.

Everything is real but the patients and how long it lasts. What is played, and in what order, is `flows.rehearsal` and
`flows.rollout.drills`.
"""
