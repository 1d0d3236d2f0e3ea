"""The example plans that come along, and which of them fits a path of data."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from adapters.sources.discovery import Discovery, SourceKind

EXAMPLES: Final = Path(__file__).resolve().parent.parent / "deployments" / "examples"
_BY_KIND: Final[dict[SourceKind, str]] = {
    "dicom": "phantom.yaml",
    "npz": "chest-xray.yaml",
    "nifti": "phantom-volumes.yaml",
    "table": "heart-disease.yaml",
}
_TABLES: Final = ("heart-disease.yaml", "readmission.yaml")


def example_for(found: Discovery | None) -> Path:
    """The plan to begin with, for the data that were found; without any, for the synthetic studies of the demo.

    Of tables, the plan whose columns are in the header of the first one.
    """
    example = _BY_KIND["dicom" if found is None else found.source]
    if found is not None and found.source == "table":
        fitting = (
            name for name in _TABLES if _has_columns(next(iter(found.sites.values())), EXAMPLES / name)
        )
        example = next(fitting, example)
    return EXAMPLES / example


def _has_columns(path: Path, plan: Path) -> bool:
    from adapters.home import FeatureLayout
    from adapters.sources.findings import UnusableError
    from adapters.sources.table_rows import find_columns, table_rows
    from tasks.planning import read_plan

    table = read_plan(plan).data.table
    try:
        header = (table_rows(path) or [[]])[0]
    except UnusableError:
        return False  # whoever reads the table says so
    names = [] if table is None else [*(feature.name for feature in table.features), table.label]
    return not find_columns(FeatureLayout(), header, names)[1]
