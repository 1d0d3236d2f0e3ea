"""The data contract's checks as data: which expectations a plan's contract stands for, and the digest that names
them.

Two sites, a witness and an auditor must mean the same checks, so they follow from the plan alone. Running them over a
cohort lives in `tasks.validate`; the class names are those of Great Expectations.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from ledger import canonical
from policies.data_contract import DataContract

FACTS: Final = ("patient", "modality", "rows", "columns", "bits", "label", "minimum", "maximum", "finite")
"""Columns of the table that is checked, one row an image (`adapters.sources.cohort`)."""


@dataclass(frozen=True, slots=True)
class Check:
    """One named check: the Great Expectations class and its arguments."""

    name: str
    expectation: str
    arguments: dict[str, canonical.JsonValue]


def suite(contract: DataContract) -> tuple[Check, ...]:
    """The checks of a contract, in order. A check passes only if every expectation of its name does."""
    image = contract.imaged()

    def within(name: str, column: str, low: float, high: float) -> Check:
        arguments: dict[str, canonical.JsonValue] = {"column": column, "min_value": low, "max_value": high}
        return Check(name, "ExpectColumnValuesToBeBetween", arguments)

    def among(name: str, column: str, values: list[canonical.JsonValue]) -> Check:
        return Check(name, "ExpectColumnValuesToBeInSet", {"column": column, "value_set": values})

    return (
        Check("columns", "ExpectTableColumnsToMatchSet", {"column_set": list(FACTS), "exact_match": True}),
        # The others skip missing values, so that a table of nothing else would pass them.
        *(Check("complete", "ExpectColumnValuesToNotBeNull", {"column": column}) for column in FACTS),
        among("modality", "modality", list(image.modalities)),
        among("labels", "label", list(contract.labels)),
        within("height", "rows", image.height_px, image.height_px),
        within("width", "columns", image.width_px, image.width_px),
        within("bits", "bits", 8, 16),
        within("lowest-value", "minimum", 0.0, 1.0),
        within("highest-value", "maximum", 0.0, 1.0),
        among("finite", "finite", [True]),
        Check(
            "minimum-patients",
            "ExpectColumnUniqueValueCountToBeBetween",
            {"column": "patient", "min_value": contract.minimum_patients},
        ),
    )


@lru_cache(maxsize=64)
def suite_digest(contract: DataContract) -> str:
    """SHA-256 (hex) of the canonical JSON of the suite."""
    described: list[canonical.JsonValue] = [
        {"name": check.name, "expectation": check.expectation, "arguments": check.arguments}
        for check in suite(contract)
    ]
    return canonical.digest(canonical.encode(described))
