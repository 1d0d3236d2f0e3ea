"""Where the rollout stands as this institution sees it, for a table, a file or a Prefect artifact.

Public things only: what is on the ledger, and how many of a role have signed. Reading it starts nothing.
"""

from __future__ import annotations

from pathlib import Path

from prefect.artifacts import acreate_table_artifact
from prefect.context import FlowRunContext

from policies.rollout.standing import ChampionStanding, Standing, standing
from policies.rollout.thresholds import thresholds
from policies.state import FederationState
from tasks.coordinator.party import Coordinator
from tasks.rollout.signatures import collected, statement_to_sign
from tasks.step import step

ARTIFACT = "wardround-phase"


def coordinator_standing(home: Path, state: FederationState) -> Standing:
    """With the signatures that the coordinator's home keeps."""
    statement = statement_to_sign(home, state)
    if statement is None:
        return standing(state)
    return standing(state, statement=statement, sign_offs=collected(home, statement.measured))


def rows(found: Standing) -> list[tuple[str, str, str]]:
    """(what is asked, what there is, ok | missing), in the order in which things happen."""
    if found.through:
        return [row for one in found.champions for row in _champion_rows(one)]
    if found.opened is None:
        return [("terms of the phase", "none are published", "missing")]
    told = [(one.asked, one.there, _word(one.met)) for one in found.conditions]
    measured = found.measured
    where = "none that stands" if measured is None else f"entry {measured.index}"
    told.append(("a measurement", where, _word(measured is not None)))
    told += [
        (f"{one.needed} signatures of the role {one.role}", str(one.signed), _word(one.signed >= one.needed))
        for one in found.signatures
    ]
    return told


def _champion_rows(champion: ChampionStanding) -> list[tuple[str, str, str]]:
    """What it was held to: its terms stand on the ledger, and the officers' evidence shows that it met them."""
    promoted = f"met when entry {champion.index} promoted it"
    return [
        (f"a champion of {champion.study}", f"model {champion.model_digest}", "ok"),
        *((asked, promoted, "ok") for asked in thresholds(champion.terms).values()),
        (f"evidence {champion.evidence_digest[:16]}", f"signed by {', '.join(champion.signed_by)}", "ok"),
    ]


@step
async def show_standing(coordinator: Coordinator) -> None:
    """As a Prefect artifact, of a flow that runs."""
    if FlowRunContext.get() is None:
        return
    found = coordinator_standing(coordinator.home.root, coordinator.state)
    table = [{"asked": asked, "there": there, "standing": word} for asked, there, word in rows(found)]
    said = [f"{coordinator.federation.name}: phase {found.phase}"]
    said += [one.described() for one in found.champions]
    await acreate_table_artifact(key=ARTIFACT, table=table, description="; ".join(said))


def _word(met: bool) -> str:
    return "ok" if met else "missing"
