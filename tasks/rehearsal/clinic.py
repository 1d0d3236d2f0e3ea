"""A rehearsal's clinical phase: sites that record what they owe it, and officers who sign whatever they are shown.

Of a real phase each of these is somebody's own act; here one process plays them all, for the drill that goes back
from a champion. Of the rehearsal's own drills there are no reports: none is played within another.
"""

from __future__ import annotations

from adapters.lineage import champion_version
from adapters.officer import OfficerFolder
from adapters.unsaid import Unsaid
from ledger import canonical
from policies.plan import Plan
from policies.rollout.record import Opened
from policies.rollout.statements import DrillRecorded, PhaseTerms
from tasks.coordinator.party import Coordinator
from tasks.found import COORDINATOR
from tasks.rehearsal.cast import Cast
from tasks.rollout.conformance import recorded
from tasks.rollout.signatures import keep, signed_evidence, statement_to_sign

_NOTHING = canonical.digest(b"rehearsed")


def clinical_terms(study: str, *, sites: int, maximum_regression: float) -> PhaseTerms:
    return PhaseTerms(
        phase="clinical",
        study=study,
        minimum_sites=sites,
        minimum_rounds=1,
        minimum_figure=0.6,
        maximum_regression=maximum_regression,
        confidence=0.95,
        maximum_subgroup_gap=0.2,
        minimum_subgroup_figure=0.55,
        drills=("rollback", "drift"),
        change_plan=_NOTHING,
    )


def conform_everywhere(cast: Cast, plan: Plan) -> None:
    """Leave at every site that its source meets the plan's contract; its next run says it."""
    for root in cast.founded.sites.values():
        Unsaid(root).put(recorded(plan))


async def record_drills(coordinator: Coordinator, opened: Opened) -> None:
    for drill in opened.terms.drills:
        nothing = canonical.digest(f"{drill} under {opened.entry_digest}".encode())
        await coordinator.say(DrillRecorded(drill=drill, report_digest=nothing))


def champion_alias(cast: Cast, study: str) -> int | None:
    """The version that the coordinator's MLflow names."""
    return champion_version(cast.founded.coordinator, study)


def sign_as_everybody(cast: Cast) -> None:
    """Every officer signs the evidence that was measured last; nothing where none was."""
    home, federation = cast.home(COORDINATOR), cast.founded.federation
    statement = statement_to_sign(home.root, cast.state())
    if statement is None:
        return
    for name, folder in cast.founded.officers.items():
        officer = federation.officer(name)
        if officer is not None:
            keep(home, [signed_evidence(statement, officer, OfficerFolder(folder))], statement)
