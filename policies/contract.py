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
from policies.data_contract import DataContract, Image

FACTS: Final = ("patient", "modality", "rows", "columns", "bits", "label", "minimum", "maximum", "finite")
"""Columns of the table that is checked, one row an image (`adapters.sources.assembly`)."""
TABLE_FACTS: Final = ("patient", "values", "label", "minimum", "maximum", "finite")
"""The same, one row a row of a table of features."""
_VOLUME_FACTS: Final = (*FACTS, "depth")
_MASK_FACTS: Final = ("mask_shape", "mask_values")


def facts(contract: DataContract) -> tuple[str, ...]:
    """Columns of the table that is checked under this contract, one row an item."""
    if contract.image is None:
        return TABLE_FACTS
    return (
        *(FACTS if contract.image.depth_px is None else _VOLUME_FACTS),
        *(_MASK_FACTS if contract.target == "mask" else ()),
    )


@dataclass(frozen=True, slots=True)
class Check:
    """One named check: the Great Expectations class and its arguments."""

    name: str
    expectation: str
    arguments: dict[str, canonical.JsonValue]


def suite(contract: DataContract) -> tuple[Check, ...]:
    """The checks of a contract, in order. A check passes only if every expectation of its name does."""
    columns = facts(contract)
    return (
        Check("columns", "ExpectTableColumnsToMatchSet", {"column_set": list(columns), "exact_match": True}),
        # The others skip missing values, so that a table of nothing else would pass them.
        *(Check("complete", "ExpectColumnValuesToNotBeNull", {"column": column}) for column in columns),
        *(_table_checks(contract) if contract.image is None else _image_checks(contract, contract.image)),
        _among("finite", "finite", [True]),
        Check(
            "minimum-patients",
            "ExpectColumnUniqueValueCountToBeBetween",
            {"column": "patient", "min_value": contract.minimum_patients},
        ),
    )


def _image_checks(contract: DataContract, image: Image) -> tuple[Check, ...]:
    depth = () if image.depth_px is None else (_within("depth", "depth", image.depth_px, image.depth_px),)
    masks = (_among("mask-shape", "mask_shape", [True]), _among("mask-values", "mask_values", [True]))
    return (
        _among("modality", "modality", list(image.modalities)),
        _among("labels", "label", list(contract.labels)),
        *depth,
        _within("height", "rows", image.height_px, image.height_px),
        _within("width", "columns", image.width_px, image.width_px),
        _within("bits", "bits", 8, 16 if image.depth_px is None else 64),
        _within("lowest-value", "minimum", 0.0, 1.0),
        _within("highest-value", "maximum", 0.0, 1.0),
        *(masks if contract.target == "mask" else ()),
    )


def _table_checks(contract: DataContract) -> tuple[Check, ...]:
    values = contract.shape[0]
    return (
        _among("labels", "label", list(contract.labels)),
        _within("values", "values", values, values),
        _within("bounds", "minimum", -1.0, 1.0),
        _within("bounds", "maximum", -1.0, 1.0),
    )


def _within(name: str, column: str, low: float, high: float) -> Check:
    arguments: dict[str, canonical.JsonValue] = {"column": column, "min_value": low, "max_value": high}
    return Check(name, "ExpectColumnValuesToBeBetween", arguments)


def _among(name: str, column: str, values: list[canonical.JsonValue]) -> Check:
    return Check(name, "ExpectColumnValuesToBeInSet", {"column": column, "value_set": values})


@lru_cache(maxsize=64)
def suite_digest(contract: DataContract) -> str:
    """SHA-256 (hex) of the canonical JSON of the suite."""
    described: list[canonical.JsonValue] = [
        {"name": check.name, "expectation": check.expectation, "arguments": check.arguments}
        for check in suite(contract)
    ]
    return canonical.digest(canonical.encode(described))
