"""The step `validate`: the plan's data contract as a Great Expectations suite; only booleans come out.

The suite is a function of the contract (`policies.contract`). Results are asked for as BOOLEAN_ONLY, as every other
format carries failing values. Great Expectations is imported on use (seconds), in memory only, with analytics,
progress bars and its log lines off. Drift against a reference profile comes later. No data is read here.
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from adapters.sources.cohort import Cohort
from ledger.errors import PolicyViolation, Violation
from policies.contract import Check, suite, suite_digest
from policies.data_contract import DataContract

if TYPE_CHECKING:
    import pandas as pd

_OURS = "What reads the data and the plan do not agree: tell whoever runs wardround"
_MESSAGES = {
    "columns": ("What was read of the items has other columns than the contract", _OURS),
    "complete": ("What was read of the items has missing entries", _OURS),
    "modality": (
        "There are images of a modality that the plan does not list",
        "Move them out, or use a plan whose data.image.modalities has theirs",
    ),
    "labels": (
        "There are labels that the plan does not list",
        "Write labels of the plan's data.labels alone",
    ),
    "depth": ("There are volumes of another depth than the plan's", _OURS),
    "height": ("There are images of another height than the plan's", _OURS),
    "width": ("There are images of another width than the plan's", _OURS),
    "bits": (
        "There are images of fewer than {low} or more than {high} bits",
        "Store them as numbers of {low} to {high} bits",
    ),
    "lowest-value": ("There are image values below 0", _OURS),
    "highest-value": ("There are image values above 1", _OURS),
    "mask-shape": (
        "There are masks of another shape than their images'",
        "Export masks on the grid of their image",
    ),
    "mask-values": (
        "There are mask values that the plan does not list as labels",
        "Keep the plan's data.labels alone in a mask",
    ),
    "values": ("There are rows with another number of values than the plan's", _OURS),
    "bounds": ("There are values of a table outside their bounds", _OURS),
    "finite": ("There are values that are not numbers", "Replace them, or leave those items out"),
    "minimum-patients": (
        "The site has fewer patients than the {patients} that the plan requires",
        "It can take part when it has more, or under a plan with a smaller data.minimum_patients",
    ),
}
"""What is wrong, and what to do."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What may leave the site: yes or no, in all and by check, and which suite was asked."""

    passed: bool
    checks: tuple[tuple[str, bool], ...]
    suite_digest: str

    @property
    def failed(self) -> tuple[str, ...]:
        return tuple(name for name, passed in self.checks if not passed)


def validate(cohort: Cohort, contract: DataContract) -> Verdict:
    """Run the contract's suite over the cohort's facts. Takes seconds once (import), then about a second."""
    checks = suite(contract)
    passed = _run(cohort.facts, checks)
    names = dict.fromkeys(check.name for check in checks)
    by_name = tuple(
        (name, all(ok for check, ok in zip(checks, passed, strict=True) if check.name == name))
        for name in names
    )
    return Verdict(all(ok for _, ok in by_name), by_name, suite_digest(contract))


def require(verdict: Verdict, contract: DataContract) -> None:
    """Raise PolicyViolation with one Violation per failed check, `contract.<check>`. Its figures are the plan's; none
    is of the data."""
    if not verdict.passed:
        raise PolicyViolation(
            [Violation(f"contract.{name}", _message(name, contract)) for name in verdict.failed]
        )


def _message(name: str, contract: DataContract) -> str:
    bits = next((check.arguments for check in suite(contract) if check.name == "bits"), {})
    wrong, remedy = _MESSAGES.get(name, ("A check failed", _OURS))
    return f"{wrong}. {remedy}".format(
        low=bits.get("min_value"), high=bits.get("max_value"), patients=contract.minimum_patients
    )


def _run(facts: pd.DataFrame, checks: tuple[Check, ...]) -> list[bool]:
    """Whether each check held, in their order; one that could not be evaluated did not."""
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    _silence()
    import great_expectations as gx
    from great_expectations.data_context.types.base import ProgressBarsConfig

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False, metric_calculations=False)
    definition = (
        context.data_sources.add_pandas("site")
        .add_dataframe_asset("items")
        .add_batch_definition_whole_dataframe("all")
    )
    batch = definition.get_batch(batch_parameters={"dataframe": facts})
    expectations = [
        # The number ties each result to its check, in whatever order results come back.
        getattr(gx.expectations, check.expectation)(**check.arguments, meta={"number": number})
        for number, check in enumerate(checks)
    ]
    result = batch.validate(
        gx.ExpectationSuite(name="contract", expectations=expectations), result_format="BOOLEAN_ONLY"
    )
    outcomes = {item.expectation_config.meta["number"]: item.success is True for item in result.results}
    return [outcomes.get(number, False) for number in range(len(checks))]


def _silence() -> None:
    """Keep the library's log lines, which may repeat values, from every handler of this process."""
    logger = logging.getLogger("great_expectations")
    logger.propagate = False
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())
