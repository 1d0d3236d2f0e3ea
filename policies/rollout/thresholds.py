"""What terms ask for, in words, each with the codes under which the gate refuses while it is missing.

What there is of it lives in `policies.rollout.standing`; whether that is enough is what the rules say.
"""

from __future__ import annotations

from policies.federation import PHASES
from policies.rollout.statements import PhaseTerms


def thresholds(terms: PhaseTerms, *, before: str = "the champion, or the best before") -> dict[str, str]:
    """By codes, which belong together if there are several, what is asked; in the order in which things happen.

    `before` names the model that the margin of non-inferiority is held against.
    """
    least, many = f"{terms.minimum_sites} sites", "" if terms.minimum_rounds == 1 else "s"
    sure = "" if terms.confidence is None else f", at its lower {terms.confidence:.0%} limit"
    asked = {"phase.conformance": f"{least} whose source meets the plan's contract"}
    if terms.agreements:
        asked["phase.agreements"] = f"{least} with {', '.join(terms.agreements)} on record"
    asked |= {
        "phase.rounds": f"{terms.minimum_rounds} registered round{many} of {terms.study}",
        "phase.pending": "no evaluated round that is neither registered nor refused",
        "phase.reported": f"{least} in the last of them",
        "phase.evaluation-missing": "an evaluated model",
        "phase.figure": f"a figure of at least {terms.minimum_figure:g}{sure}",
    }
    if terms.phase == PHASES[-1]:
        asked["phase.tier-low"] = "a plan of the risk tier high"
    if terms.maximum_regression is not None:
        asked["phase.regression"] = f"at most {terms.maximum_regression:g} under {before}{sure}"
    if terms.maximum_subgroup_gap is not None:
        asked["phase.subgroups-missing phase.subgroup-gap"] = (
            f"subgroups at most {terms.maximum_subgroup_gap:g} apart"
        )
    if terms.minimum_subgroup_figure is not None:
        asked["phase.subgroup-floor"] = f"no subgroup under {terms.minimum_subgroup_figure:g}{sure}"
    if terms.minimum_better_off is not None:
        asked["phase.better-off"] = f"{terms.minimum_better_off} sites that say they are better off"
    asked["phase.quarantine"] = "no site in quarantine"
    if terms.drills:
        asked["phase.drills"] = f"drills {', '.join(terms.drills)}"
    return asked
