"""Publish the terms of a phase, once: they are on the ledger before its first round, or it is not its phase."""

from __future__ import annotations

from pathlib import Path

from ledger.errors import InputError, PolicyViolation, Violation
from policies.federation import PHASES
from policies.rollout.record import Opened
from policies.rollout.statements import PhaseOpened, PhaseTerms
from tasks.coordinator.party import Coordinator
from tasks.step import step


class TermsFileError(InputError):
    code = "terms.file"


def read_terms(path: Path) -> PhaseTerms:
    """Terms written as YAML; every wrong field is named at once."""
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError):
        raise TermsFileError(
            f"{path} cannot be read", remedy="Give terms as YAML; see deployments/examples/rollout."
        ) from None
    return PhaseTerms.from_yaml(text, what="terms")


@step
async def enter(coordinator: Coordinator, terms: PhaseTerms) -> Opened | None:
    """The terms as they stand on the ledger, published unless they are there; None if the phase lies behind.

    PolicyViolation: the phase lies ahead (phase.order), or other terms are fixed already (phase.terms-fixed).
    """
    coordinator.tell(f"enter {terms.phase}")
    here, there = PHASES.index(coordinator.state.phase), PHASES.index(terms.phase)
    if here > there:
        return None
    if here < there:
        said = f"the federation is in its phase {PHASES[here]}: {terms.phase} comes later"
        raise PolicyViolation([Violation("phase.order", said)])
    opened = coordinator.state.rollout.opened
    if opened is None or opened.terms != terms:
        await coordinator.say(PhaseOpened(terms=terms))
    opened = coordinator.state.rollout.opened
    if opened is None:  # an incident came in between
        raise PolicyViolation([Violation("phase.not-opened", f"no terms of {terms.phase} are in force")])
    return opened
