"""The heart tables: the rows that FLamby keeps, words for codes, and what is refused."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from adapters.sources.cohort import Cohort
from adapters.sources.feature_table import FeatureTableSource
from adapters.sources.findings import DataRefusedError
from adapters.sources.heart import HOSPITALS, write_heart_tables
from tasks.planning import read_plan
from tasks.validate import validate
from wardround.examples import EXAMPLES

from .conftest import SECRET

UCI = Path(__file__).resolve().parents[4] / "shared" / "data" / "heart"
real = pytest.mark.skipif(not UCI.is_dir(), reason="the UCI files are not here")
ROWS = "63.0,1.0,1.0,145.0,233.0,1.0,2.0,150.0,0.0,2.3,3.0,0.0,6.0,0\n54,0,4,?,195,0,1,142,1,.5,?,?,?,3\n\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in HOSPITALS:
        (tmp_path / f"processed.{name}.data").write_text(ROWS)
    return tmp_path


def load(path: Path) -> Cohort:
    contract = read_plan(EXAMPLES / "heart-disease.yaml").data
    cohort = FeatureTableSource(path, site="x", secret=SECRET).load(contract)
    assert validate(cohort, contract.model_copy(update={"minimum_patients": 1})).passed
    return cohort


@real
def test_flambys_rows_stay(tmp_path: Path) -> None:
    tables = write_heart_tables(UCI, tmp_path / "out")
    cohorts = {name: load(path) for name, path in tables.items()}
    assert {name: cohort.patient_count for name, cohort in cohorts.items()} == {
        "cleveland": 303, "hungarian": 261, "switzerland": 46, "va": 130,
    }  # fmt: skip
    ill = {name: round(float((cohort.labels == 1).mean()), 2) for name, cohort in cohorts.items()}
    assert ill == {"cleveland": 0.46, "hungarian": 0.38, "switzerland": 0.98, "va": 0.78}
    everybody = write_heart_tables(UCI, tmp_path / "all", keep_incomplete=True)
    assert [load(everybody[name]).patient_count for name in HOSPITALS] == [303, 294, 123, 200]


def test_codes_become_words_and_incomplete_rows_go(folder: Path, tmp_path: Path) -> None:
    tables = write_heart_tables(folder, tmp_path / "out")
    rows = list(csv.DictReader(tables["va"].read_text().splitlines()))
    assert rows == [
        {
            "patient_id": "invented-va-0001", "age": "63", "sex": "male", "chest-pain": "typical-angina",
            "blood-pressure": "145", "cholesterol": "233", "fasting-sugar": "high", "resting-ecg": "hypertrophy",
            "heart-rate": "150", "exercise-angina": "no", "st-depression": "2.3", "disease": "0",
        }
    ]  # fmt: skip
    kept = write_heart_tables(folder, tmp_path / "all", keep_incomplete=True)["va"]
    cohort = load(kept)
    assert cohort.patient_count == 2 and sorted(cohort.labels) == [0, 1] and np.isfinite(cohort.inputs).all()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1,2,3\n",
        ROWS.replace("63.0", "old"),
        ROWS.replace("63.0,1.0", "63.0,2.0"),
        ROWS.replace(",3\n", ",?\n"),
    ],
)
def test_what_is_not_ucis_is_refused_and_nothing_is_written(folder: Path, tmp_path: Path, text: str) -> None:
    (folder / "processed.va.data").write_text(text)
    with pytest.raises(DataRefusedError) as refused:
        write_heart_tables(folder, tmp_path / "out")
    assert refused.value.code == "data.heart-malformed" and not (tmp_path / "out").exists()
    (folder / "processed.va.data").unlink()
    with pytest.raises(DataRefusedError) as refused:
        write_heart_tables(folder, tmp_path / "out")
    assert refused.value.code == "data.missing"


def test_nothing_is_written_over(folder: Path, tmp_path: Path) -> None:
    write_heart_tables(folder, tmp_path / "out")
    with pytest.raises(DataRefusedError) as refused:
        write_heart_tables(folder, tmp_path / "out")
    assert refused.value.code == "data.exists"
