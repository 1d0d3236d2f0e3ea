"""A site's process answering joint statistics: what it reads, whom it counts, and that it draws its noise once."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import cast

import pytest
import yaml

from adapters.home import SourceConfig
from ledger.errors import CodedError
from policies.federation import Pool
from policies.inquiry import Inquiry
from privacy.packing import Lanes
from privacy.protected_sum import Report
from tasks.found import FoundingSite, found
from tasks.summing import SumTerms
from tasks.worker.sum_session import SealedKey
from tasks.worker.table_session import TableSession
from tests.consents import WAIVER
from tests.inquiries import heart_inquiry

TERMS = cast(SumTerms, None)
COUNT = [{"kind": "count", "name": "patients", "noise_multiplier": 10.0}]


class Open(TableSession):
    """Reports its noised lanes as they are."""

    def _report(self, plan: Inquiry, terms: SumTerms, lanes: Lanes, sealed: SealedKey | None) -> Report:
        return Report(update=lanes.tobytes())


@pytest.fixture
def home(tmp_path: Path) -> Path:
    sites = tuple(
        FoundingSite(name, SourceConfig(kind="npz", path="none.npz"), WAIVER) for name in ("a", "b", "c")
    )
    pool = Pool.of(epsilon_cap_micro=8_000_000, delta=1e-5)
    home = found(tmp_path, sites, name="test", pool=pool).sites["a"]
    with (home / "table.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["patient_id", "risk"])
        rows.writerows([f"P{number}", number / 100] for number in range(100))
    path = home / "institution.yaml"
    value = yaml.safe_load(path.read_text())
    value["statistics"] = {"path": "table.csv"}
    path.write_text(yaml.safe_dump(value))
    return home


def counting(**fields: object) -> Inquiry:
    return heart_inquiry(**{"queries": COUNT, "table": {"minimum_patients": 20}, **fields})


def test_a_table_that_was_read_is_answered_from_once(home: Path) -> None:
    """Of two draws over the same patients the mean has half the noise's variance, and was paid for once."""
    session, inquiry = Open(home), counting()
    session.prepare_table(inquiry)
    assert session.table_size() == (100, 100)
    first = session.protect_figures(inquiry, TERMS, sealed=None)
    with pytest.raises(CodedError) as again:
        session.protect_figures(inquiry, TERMS, sealed=None)
    assert again.value.code == "session.no-table"
    session.prepare_table(inquiry)
    second = session.protect_figures(inquiry, TERMS, sealed=None)
    assert first.dataset_commitment != second.dataset_commitment, "unchanged data look changed outside"


def test_a_table_with_more_patients_than_the_lanes_hold_is_refused_before_anything_is_reserved(
    home: Path,
) -> None:
    """And without saying how many there are."""
    session = Open(home)
    narrow = counting(lane_bits=11, maximum_sites=6)  # room for 94
    with pytest.raises(CodedError) as refused:
        session.prepare_table(narrow)
    assert refused.value.code == "privacy.statistics-capacity" and "100" not in str(refused.value)


def test_a_column_that_the_table_has_not_is_named(home: Path) -> None:
    with pytest.raises(CodedError) as refused:
        Open(home).prepare_table(heart_inquiry())
    assert refused.value.code == "data.table-columns" and "age-years, disease, sex" in str(refused.value)


def test_nothing_is_answered_from_a_table_that_was_not_read(home: Path) -> None:
    for asked in (
        lambda: Open(home).table_size(),
        lambda: Open(home).protect_figures(counting(), TERMS, sealed=None),
    ):
        with pytest.raises(CodedError) as refused:
            asked()
        assert refused.value.code == "session.no-table"
