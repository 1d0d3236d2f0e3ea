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


def example_for(found: Discovery | None) -> Path:
    """The plan to begin with, for the data that were found; without any, for the synthetic studies of the demo."""
    return EXAMPLES / _BY_KIND["dicom" if found is None else found.source]
