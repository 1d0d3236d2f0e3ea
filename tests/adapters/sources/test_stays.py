"""Hospital stays as tables: who is where, what words stand for codes, and what is refused."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from adapters.sources.cohort import Cohort
from adapters.sources.feature_table import FeatureTableSource
from adapters.sources.findings import DataRefusedError
from adapters.sources.stays import write_stay_tables
from tasks.planning import read_plan
from tasks.validate import validate
from wardround.examples import EXAMPLES

from .conftest import SECRET

UCI = Path(__file__).resolve().parents[4] / "shared" / "data" / "diabetes130_5000.csv"
real = pytest.mark.skipif(not UCI.is_file(), reason="the UCI file is not here")
SITES = ("hospital-a", "hospital-b", "hospital-c", "hospital-d", "hospital-e")
HEADER = (
    "encounter_id,patient_nbr,race,gender,age,admission_type_id,discharge_disposition_id,time_in_hospital,"
    "num_lab_procedures,num_procedures,num_medications,number_outpatient,number_emergency,number_inpatient,"
    "number_diagnoses,A1Cresult,insulin,change,diabetesMed,readmitted"
)
STAYS = (
    "9001,77001,AfricanAmerican,Female,[70-80),1,6,3,59,0,18,0,0,1,9,>8,Up,Ch,Yes,<30",
    "9002,77001,AfricanAmerican,Female,[70-80),6,25,4,11,5,13,2,0,9,6,None,No,No,No,>30",
    "9003,77002,?,Male,[0-10),3,11,1,41,0,1,0,0,0,1,Norm,Steady,No,Yes,NO",
    "9004,77003,Asian,Male,[90-100),2,13,14,1,6,2,0,0,0,9,>7,Down,Ch,Yes,NO",
)


def uci(root: Path, *stays: str) -> Path:
    path = root / "diabetic_data.csv"
    path.write_text("\n".join((HEADER, *stays)) + "\n")
    return path


def rows_of(tables: dict[str, Path]) -> list[dict[str, str]]:
    return [row for path in tables.values() for row in csv.DictReader(path.read_text().splitlines())]


def load(path: Path, *, minimum: int = 1) -> Cohort:
    contract = read_plan(EXAMPLES / "readmission.yaml").data
    cohort = FeatureTableSource(path, site="x", secret=SECRET).load(contract)
    assert validate(cohort, contract.model_copy(update={"minimum_patients": minimum})).passed
    return cohort


@real
def test_every_stay_is_at_one_hospital_with_all_others_of_its_patient(tmp_path: Path) -> None:
    tables = write_stay_tables(UCI, tmp_path, sites=SITES, seed=0)
    cohorts = [load(path, minimum=200) for path in tables.values()]
    assert [cohort.patient_count for cohort in cohorts] == [852, 852, 852, 852, 851]
    assert sum(len(cohort.labels) for cohort in cohorts) == 4999
    assert sum(int(cohort.labels.sum()) for cohort in cohorts) == 554
    where = {(row["patient_id"], path) for path in tables for row in rows_of({path: tables[path]})}
    assert len(where) == 4259
    assert sum(row["discharge"] == "died" for row in rows_of(tables)) == 86


def test_words_stand_for_codes_and_nobody_is_named(tmp_path: Path) -> None:
    tables = write_stay_tables(uci(tmp_path, *STAYS), tmp_path / "out", sites=SITES[:3], seed=4)
    rows = rows_of(tables)
    assert {row.pop("patient_id") for row in rows} == {f"invented-{number:06d}" for number in range(3)}
    first = next(row for row in rows if row["days"] == "3")
    assert first == {
        "days": "3", "lab-procedures": "59", "procedures": "0", "medications": "18", "outpatient-visits": "0",
        "emergency-visits": "0", "inpatient-visits": "1", "diagnoses": "9", "age": "70", "sex": "female",
        "race": "african-american", "admission": "emergency", "discharge": "home-care", "insulin": "up",
        "medication-changed": "yes", "diabetes-medication": "yes", "a1c": "above-8", "readmitted": "1",
    }  # fmt: skip
    again, child, old = (next(row for row in rows if row["days"] == days) for days in ("4", "1", "14"))
    assert (again["readmitted"], again["admission"], again["discharge"]) == ("0", "", "")
    assert (child["age"], child["race"], child["discharge"]) == ("0", "", "died")
    assert (old["age"], old["discharge"]) == ("90", "hospice")
    written = "".join(path.read_text() for path in tables.values())
    assert not any(number in written for number in ("7700", "900"))
    assert sum(len(load(path).labels) for path in tables.values()) == 4


def test_the_seed_alone_deals_patients_out(tmp_path: Path) -> None:
    path = uci(tmp_path, *STAYS)
    texts = [
        [table.read_text() for table in write_stay_tables(path, tmp_path / name, sites=SITES[:2], seed=seed).values()]
        for name, seed in (("a", 1), ("b", 1), ("c", 2))
    ]  # fmt: skip
    assert texts[0] == texts[1] != texts[2]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("[70-80)", "75"), ("Female", "F"), ("<30", "?"), (",3,59", ",3.5,59"), (",6,3,59", ",99,3,59"),
        ("77001", "MRN-1"), (",Yes,<30", ",<30"), (",3,59", ",?,59"),
    ],
)  # fmt: skip
def test_a_row_that_is_not_ucis_is_refused_and_not_shown(tmp_path: Path, old: str, new: str) -> None:
    path = uci(tmp_path, STAYS[0].replace(old, new, 1), *STAYS[1:])
    with pytest.raises(DataRefusedError) as refused:
        write_stay_tables(path, tmp_path / "out", sites=SITES[:2], seed=0)
    assert refused.value.code == "data.stays-malformed" and "rows 2" in refused.value.diagnostics()
    assert "AfricanAmerican" not in str(refused.value) and not (tmp_path / "out").exists()


def test_a_missing_file_a_missing_column_too_few_patients_and_a_full_folder_are_refused(
    tmp_path: Path,
) -> None:
    def code(path: Path, out: Path) -> str:
        with pytest.raises(DataRefusedError) as refused:
            write_stay_tables(path, out, sites=SITES, seed=0)
        return refused.value.code

    assert code(tmp_path / "none.csv", tmp_path / "o") == "data.missing"
    path = uci(tmp_path, *STAYS)
    assert code(path, tmp_path / "o") == "data.stays-malformed"  # three patients for five hospitals
    (tmp_path / "o").mkdir()
    (tmp_path / "o" / "hospital-a.csv").write_text("mine")
    assert code(path, tmp_path / "o") == "data.exists"
    path.write_text(path.read_text().replace("insulin", "Insulin"))
    assert code(path, tmp_path / "p") == "data.stays-malformed"
