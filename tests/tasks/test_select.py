"""The step `select` hands on what the adapter gives, and its refusal."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from adapters.sources.cohort import MemorySource
from adapters.sources.dicom import DicomSource
from adapters.sources.findings import DataRefusedError
from policies.plan import DataContract, Image
from tasks.select import select

CONTRACT = DataContract(
    image=Image(height_px=8, width_px=8, modalities=("CR",)),
    labels=(0, 1),
    minimum_patients=1,
    held_out_fraction=0.2,
)


def test_the_cohort_of_the_source() -> None:
    images = np.zeros((2, 1, 8, 8), np.float32)
    source = MemorySource(images, [0, 1], ["p", "q"], site="s", secret=bytes(32))
    assert select(source, CONTRACT).patient_count == 2


def test_a_refusal_passes_through(tmp_path: Path) -> None:
    with pytest.raises(DataRefusedError) as refused:
        select(DicomSource(tmp_path / "nowhere", site="s", secret=bytes(32)), CONTRACT)
    assert refused.value.code == "data.missing"
