"""Publish the terms of a phase, once: they are on the ledger before its first round, or it is not its phase."""

from __future__ import annotations

from pathlib import Path

from adapters.home import Home, write_atomically
from ledger.errors import InputError, PolicyViolation, Violation
from policies.federation import PHASES, Phase
from policies.rollout.change_plan import ChangePlan
from policies.rollout.record import Opened, Rollout
from policies.rollout.statements import PhaseOpened, PhaseTerms
from policies.state import FederationState
from tasks.coordinator.party import Coordinator
from tasks.step import step


class ChangePlanError(InputError):
    code = "terms.change-plan"


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


def with_change_plan(terms: PhaseTerms, path: Path, home: Home) -> PhaseTerms:
    """The terms that name the change plan of this file, which is kept among the home's reports for the evidence;
    ChangePlanError if they name another or it is of another study."""
    try:
        plan = ChangePlan.from_yaml(path.read_text(), what="change-plan")
    except (OSError, UnicodeDecodeError):
        raise ChangePlanError(
            f"{path} cannot be read", remedy="See deployments/examples/rollout/change-plan.yaml."
        ) from None
    digest = plan.content_digest()
    if plan.study != terms.study or terms.change_plan not in (None, digest):
        raise ChangePlanError(
            "the terms name another change plan or another study",
            remedy="Leave change_plan out of the terms: it is filled in.",
        )
    write_atomically(home.root / "reports" / f"change-plan-{digest[:16]}.json", plan.canonical_bytes())
    return terms.with_fields({"change_plan": digest})


def _led_to_a_champion(rollout: Rollout, terms: PhaseTerms) -> bool:
    began = max((one.index for one in rollout.ended if one.body.phase == terms.phase), default=-1)
    champion = rollout.champion(terms.study)
    return champion is not None and champion.terms == terms and champion.index > began


def lie_behind(state: FederationState, terms: PhaseTerms, *, again: bool = False) -> bool:
    """Whether the phase of these terms is over: nothing would be published. The last one is once a champion was
    promoted under these very terms, unless it is to begin `again`, for the next model."""
    here, there = PHASES.index(state.phase), PHASES.index(terms.phase)
    if here != there:
        return here > there
    return state.rollout.opened is None and not again and _led_to_a_champion(state.rollout, terms)


def comes_later(phase: Phase, now: Phase) -> Violation:
    return Violation("phase.order", f"the federation is in its phase {now}: {phase} comes later")


@step
async def enter(coordinator: Coordinator, terms: PhaseTerms, *, again: bool = False) -> Opened | None:
    """The terms as they stand on the ledger, published unless they are there; None if they lie behind.

    PolicyViolation: the phase lies ahead (phase.order), or other terms are fixed already (phase.terms-fixed).
    """
    coordinator.tell(f"enter {terms.phase}")
    if lie_behind(coordinator.state, terms, again=again):
        return None
    if coordinator.state.phase != terms.phase:
        raise PolicyViolation([comes_later(terms.phase, coordinator.state.phase)])
    opened = coordinator.state.rollout.opened
    if opened is None or opened.terms != terms:
        await coordinator.say(PhaseOpened(terms=terms))
    opened = coordinator.state.rollout.opened
    if opened is None:  # an incident came in between
        raise PolicyViolation([Violation("phase.not-opened", f"no terms of {terms.phase} are in force")])
    return opened
