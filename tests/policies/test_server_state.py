"""The state of a plan's server in `aggregate.released`: named where there is one, and as key holders found it."""

from __future__ import annotations

import pytest

from policies.opening import outcome_digest_of
from tests.policies.assembly import Assembly, at, plan
from tests.policies.founding import COORDINATOR, named

AVERAGE = plan()
TERMS = AVERAGE.update.model_dump(mode="json")
ADAM = plan(update={**TERMS, "server": {"optimizer": "adam"}})
OUTCOME = {"model_digest": "ab" * 32, "norm_l2_micro": 7, "cosines_micro": (1, -2), "outliers": (1,)}


def closed(adaptive: bool) -> Assembly:
    return at("closed", plan=ADAM if adaptive else AVERAGE)


@pytest.mark.parametrize("adaptive", [False, True])
def test_a_state_is_named_where_the_plans_server_keeps_one(adaptive: bool) -> None:
    assembly = closed(adaptive)
    other = None if adaptive else named("state 1")
    wrong = assembly.entry(COORDINATOR, assembly.release(server_state_digest=other))
    assert assembly.refusals(wrong) == {"aggregate.server-state"}
    assembly.say(COORDINATOR, assembly.release())


def test_a_state_that_no_key_holder_signed_is_refused() -> None:
    """The openings are of another state than the coordinator's entry names: the rest of the entry is as signed."""
    assembly = closed(adaptive=True)
    honest = assembly.release()
    other = assembly.release(server_state_digest=named("another state"), openings=honest.openings)
    assert assembly.refusals(assembly.entry(COORDINATOR, other)) == {"opening.not-agreed"}


def test_the_outcome_of_an_average_is_the_digest_that_it_was_before_there_were_states() -> None:
    assert outcome_digest_of(**OUTCOME, server_state_digest=None) == (  # type: ignore[arg-type]
        "2b8bcd7083a0f7e21e82fff9c5595a346777ba6672b0b9679ce2f92ce6bb7e77"
    )
