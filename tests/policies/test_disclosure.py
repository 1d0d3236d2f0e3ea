"""Nothing that depends on patients leaves a site without a declared mechanism: every field has a known origin."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from typing import Any, get_args

import pytest

from policies import admission
from policies.answer import SumAnswer
from policies.cost import mechanisms_of
from policies.disclosure import DISCLOSURES, WITHHELD, Origin, public_code
from policies.document import Document
from policies.opening import Opening
from privacy.protected_sum import Answer
from tasks.site.release import Release
from tasks.worker.site_session import Protected
from tests.policies.assembly import plan

SAID = (*get_args(admission._SITES_SAY), *get_args(admission._ANYBODY_SAYS))
LEAVES_WHOLE = {"BudgetReserved.mechanisms", "TrainingReceipt.statement.predicate.mechanisms"}
"""Lists of mechanisms are one statement: the plan's."""


def leaves(model: type[Document]) -> Iterator[str]:
    """The path of every field that holds a value, `[]` for the items of a list."""
    schema = model.model_json_schema()
    definitions = schema.get("$defs", {})

    def walk(node: dict[str, Any], path: str) -> Iterator[str]:
        if path in LEAVES_WHOLE:
            yield path
            return
        if "$ref" in node:
            node = definitions[node["$ref"].rpartition("/")[2]]
        nested = [child for child in node.get("anyOf", ()) if "$ref" in child]
        if "properties" in node:
            for name, child in node["properties"].items():
                yield from walk(child, f"{path}.{name}")
        elif isinstance(node.get("items"), dict) and "$ref" in node["items"]:
            yield from walk(node["items"], f"{path}[]")
        elif nested:
            yield from walk(nested[0], path)
        else:
            yield path

    yield from walk(schema, model.__name__)


def outgoing() -> set[str]:
    """Every field of every object that leaves a site: what it says on the ledger, what it puts beside it, and what
    it answers once a set is closed."""
    found = {path for model in (*SAID, SumAnswer, Opening) for path in leaves(model)}
    for kind in (Release, Protected, Answer):
        found |= {f"{kind.__name__}.{each.name}" for each in fields(kind)}
    return found


def test_every_field_that_leaves_a_site_has_a_declared_origin() -> None:
    undeclared = outgoing() - DISCLOSURES.keys()
    assert not undeclared, "say where these come from, and charge them if they depend on patients"
    assert not DISCLOSURES.keys() - outgoing(), "these leave no site any more"


def test_a_field_that_somebody_adds_is_found() -> None:
    class Chatty(Document):
        patients: int
        names: tuple[str, ...]

    assert set(leaves(Chatty)) == {"Chatty.patients", "Chatty.names"}
    assert not set(leaves(Chatty)) & DISCLOSURES.keys()


def test_whatever_is_declared_is_drawn_on_the_pool() -> None:
    declared = {path for path, origin in DISCLOSURES.items() if origin is Origin.DECLARED}
    assert declared == {
        "TrainingReceipt.statement.subject[].digest.sha256",
        "Release.update",
        "Protected.update",
    }
    for step in ("training", "evaluation"):  # the two things that an update can be
        assert mechanisms_of(plan(), step, round_number=1)


@pytest.mark.parametrize(
    "code",
    ["data.labels-contradict", "cohort.too-small", "contract.finite", "train.diverged", "site.cohort",
     "site.delta", "consent.nobody", "fault.unexpected", "", "privacy.value-out-of-range"],
)  # fmt: skip
def test_a_code_that_could_tell_of_patients_does_not_leave(code: str) -> None:
    assert public_code(code) == WITHHELD


def test_what_a_site_sends_of_a_sum_is_declared_random_or_of_several_sites() -> None:
    """Under every scheme: what depends on patients at all is an update that was paid for, or a sum of those."""
    about_patients = {Origin.DECLARED, Origin.KEYED, Origin.YES, Origin.SUMMED}
    found = {path for path, origin in DISCLOSURES.items() if origin in about_patients}
    assert {path for path in found if path.startswith(("Answer", "SumAnswer", "Opening"))} == {
        "Answer.part",
        "SumAnswer.part_digest",
        "Opening.sum_digest",
        "Opening.outcome_digest",
    }
    assert DISCLOSURES["PlanApproved.masking_key"] is DISCLOSURES["Release.shares"] is Origin.RANDOM
    assert not any(name in path for path in found for name in ("masking_key", "sum_key", "norm_bound"))


@pytest.mark.parametrize(
    "code",
    [
        "plan.code", "plan.masking-key", "budget.pool-cap", "budget.register-cap", "policy.not-adopted",
        "roster.absent", "robust.isolated", "aggregate.clusters",
    ],
)  # fmt: skip
def test_a_code_that_follows_from_plan_and_ledger_leaves(code: str) -> None:
    assert public_code(code) == code
