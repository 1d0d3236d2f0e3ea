"""The step `select`: those of the register who consent, or everybody under a waiver."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from adapters.sources.assembly import MemorySource
from adapters.sources.cohort import Cohort, patient_key
from adapters.sources.dicom import DicomSource
from adapters.sources.findings import DataRefusedError
from ledger.errors import PolicyViolation
from policies.data_contract import DataContract, Image
from tasks.select import ReadOnce, select

CONTRACT = DataContract(
    image=Image(height_px=8, width_px=8, modalities=("CR",)),
    labels=(0, 1),
    minimum_patients=1,
    held_out_fraction=0.2,
)


def source_of(*identifiers: str) -> MemorySource:
    images = np.zeros((len(identifiers), 1, 8, 8), np.float32)
    return MemorySource(images, [0] * len(identifiers), identifiers, site="s", secret=bytes(32))


def key(identifier: str) -> bytes:
    return patient_key(identifier, site="s", secret=bytes(32))


def test_only_who_consents() -> None:
    cohort = select(source_of("p", "q", "p", "r"), CONTRACT, frozenset({key("p"), key("r")}))
    assert set(cohort.keys) == {key("p"), key("r")} and len(cohort.inputs) == 3


def test_nobody_consenting_is_no_permission_for_all() -> None:
    with pytest.raises(PolicyViolation) as refused:
        select(source_of("p", "q"), CONTRACT, frozenset())
    assert refused.value.code == "consent.nobody"


def test_everybody_under_a_waiver() -> None:
    assert select(source_of("p", "q"), CONTRACT, None).patient_count == 2


def test_a_register_is_read_once_a_contract(monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[DataContract] = []
    load = MemorySource.load

    def counted(self: MemorySource, contract: DataContract) -> Cohort:
        reads.append(contract)
        return load(self, contract)

    monkeypatch.setattr(MemorySource, "load", counted)
    source = ReadOnce(source_of("p", "q"))
    for consenting in (None, frozenset({key("p")}), frozenset({key("q")})):
        select(source, CONTRACT, consenting)
    other = CONTRACT.model_copy(update={"labels": (0, 2)})
    select(source, other, None)
    assert reads == [CONTRACT, other]


def test_a_refusal_passes_through(tmp_path: Path) -> None:
    with pytest.raises(DataRefusedError) as refused:
        select(DicomSource(tmp_path / "nowhere", site="s", secret=bytes(32)), CONTRACT, None)
    assert refused.value.code == "data.missing"
