"""Tables of features: what a row becomes, what a hospital may call things, and what is refused without a value."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from adapters.home import FeatureLayout
from adapters.sources.cohort import Cohort, patient_key
from adapters.sources.feature_table import FeatureTableSource, _scaled
from adapters.sources.findings import DataRefusedError
from policies.data_contract import DataContract, FeatureTable, Image, NumberFeature, WordFeature
from privacy.histogram import SUBGROUPS
from tasks.validate import validate

from .conftest import MARKER, SECRET, public_surface

SITE = "hospital-a"
AGE = NumberFeature(kind="number", name="age", lower=20.0, upper=100.0)
CONTRACT = DataContract(
    table=FeatureTable(
        features=(
            AGE,
            WordFeature(kind="word", name="chest-pain", categories=("typical", "non-anginal", "none")),
        ),
        label="disease",
    ),
    labels=(0, 1),
    minimum_patients=2,
    held_out_fraction=0.3,
)
GOOD = (
    "patient_id,Age,chest_pain,disease,sex,unasked\nP1,60,typical,1,female,x\nP2,,Non Anginal,0,M,y\n"
    "P3,150,,1.0,,\n\n"
)


def load(tmp_path: Path, text: str | bytes, contract: DataContract = CONTRACT, **layout: object) -> Cohort:
    path = tmp_path / f"{MARKER}.csv"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return source(path, **layout).load(contract)


def source(path: Path, **layout: object) -> FeatureTableSource:
    return FeatureTableSource(
        path, site=SITE, secret=SECRET, layout=FeatureLayout.from_value(layout, what="table")
    )


def refused(tmp_path: Path, text: str | bytes, **layout: object) -> DataRefusedError:
    with pytest.raises(DataRefusedError) as caught:
        load(tmp_path, text, **layout)
    surface = public_surface(caught.value)
    assert MARKER not in surface and "P1" not in surface and caught.value.remedy
    return caught.value


def key_of(patient: str) -> bytes:
    return patient_key(patient, site=SITE, secret=SECRET)


def rows_of(cohort: Cohort, patient: str) -> list[list[float]]:
    number = cohort.keys.index(key_of(patient))
    values: list[list[float]] = cohort.inputs[cohort.patients == number].tolist()
    return values


def test_rows_become_values_by_themselves(tmp_path: Path) -> None:
    cohort = load(tmp_path, GOOD)
    assert cohort.inputs.shape == (3, 4) and validate(cohort, CONTRACT).passed
    assert rows_of(cohort, "P1") == [[0.0, 1.0, 0.0, 0.0]]
    assert rows_of(cohort, "P2") == [[0.0, 0.0, 1.0, 0.0]], "a missing number is the middle"
    assert rows_of(cohort, "P3") == [[1.0, 0.0, 0.0, 0.0]], "clipped; a missing word is none of them"
    assert sorted(cohort.labels) == [0, 1, 1] and sorted(cohort.told_apart("sex")) == [0, 1, 2]
    assert np.array_equal(load(tmp_path, "\ufeff" + GOOD).inputs, cohort.inputs)


@given(st.floats(allow_nan=False, allow_infinity=False, width=64))
def test_a_number_is_scaled_into_minus_one_to_one_and_keeps_its_order(number: float) -> None:
    scaled = _scaled(AGE, number)
    assert -1.0 <= scaled <= 1.0
    if AGE.lower <= number <= AGE.upper:
        assert scaled == pytest.approx((number - 60) / 40, abs=1e-12)
    assert _scaled(AGE, number + 1) >= scaled


def test_a_hospitals_own_words_and_headers(tmp_path: Path) -> None:
    text = "Fallnummer,Alter,chest-pain,Diagnose,Geschlecht\n1,60,1,ja,w\n2,?,2,nein,m\n2,-1,k.A.,ja,m\n"
    cohort = load(
        tmp_path, text, patient_column="Fallnummer", columns={"age": "Alter", "disease": "Diagnose"},
        missing=["?", "k.A."], sex_column="Geschlecht",
        words={"chest-pain": {"1": "typical", "2": "none"}, "disease": {"ja": "1", "nein": "0"}, "sex": {"w": "F"}},
    )  # fmt: skip
    assert rows_of(cohort, "1") == [[0.0, 1.0, 0.0, 0.0]]
    assert rows_of(cohort, "2") == [[0.0, 0.0, 0.0, 1.0], [-1.0, 0.0, 0.0, 0.0]]
    assert sorted(cohort.told_apart("sex")) == [0, 1]


def test_age_and_race_place_patients_whether_they_are_features_or_not(tmp_path: Path) -> None:
    text = (
        "patient_id,age,chest-pain,disease,Race\nP1,59,none,0,white\nP2,60,none,0,Black\nP3,,none,1,asian\n"
        "P4,59,none,0,white\nP4,60,none,0,white\n"
    )
    cohort = load(tmp_path, text)
    ages, races = (
        {SUBGROUPS[kind][group] for group in cohort.among(frozenset([key])).told_apart(kind)}
        for kind, key in (("age", key_of("P4")), ("race", key_of("P4")))
    )
    assert (ages, races) == ({"other"}, {"white"}), "who turned 60 between two visits is in neither band"
    assert np.bincount(cohort.told_apart("age"), minlength=3).tolist() == [1, 1, 2]
    assert np.bincount(cohort.told_apart("race"), minlength=3).tolist() == [2, 1, 1]
    renamed = text.replace("age", "Jahre").replace("Race", "Herkunft")
    again = load(tmp_path, renamed, columns={"age": "Jahre"}, race_column="Herkunft")
    assert np.array_equal(again.groups, cohort.groups)


def test_a_patient_may_have_several_rows_that_differ_in_their_label(tmp_path: Path) -> None:
    cohort = load(tmp_path, "patient_id,age,chest-pain,disease\nP1,60,none,0\nP1 ,61,none,1\nP2,62,none,0\n")
    assert cohort.patient_count == 2 and len(cohort.inputs) == 3
    assert cohort.targets(CONTRACT).tolist().count(1.0) == 1
    assert {len(part.inputs) for part in (cohort.among(frozenset([key])) for key in cohort.keys)} == {1, 2}


def test_parquet_gives_what_csv_gives(tmp_path: Path) -> None:
    path = tmp_path / "site.parquet"
    columns = {
        "patient_id": [1, 2, 3], "age": [60.0, None, 150.5], "chest_pain": ["typical", "non-anginal", None],
        "disease": [True, False, True], "sex": ["F", "M", None],
    }  # fmt: skip
    parquet.write_table(pa.table(columns), path)
    cohort = source(path).load(CONTRACT)
    assert rows_of(cohort, "1") == [[0.0, 1.0, 0.0, 0.0]] and rows_of(cohort, "2") == [[0.0, 0.0, 1.0, 0.0]]
    assert rows_of(cohort, "3") == [[1.0, 0.0, 0.0, 0.0]] and sorted(cohort.labels) == [0, 1, 1]


FAULTS = [
    ("P9,60,typical", "data.table-row"),
    (" ,60,typical,1,,", "data.table-patient"),
    ("P9,sixty,typical,1,,", "data.table-number"),
    ('P9,"60,5",typical,1,,', "data.table-number"),
    ("P9,nan,typical,1,,", "data.table-number"),
    ("P9,1e400,typical,1,,", "data.table-number"),
    (f"P9,60,{MARKER},1,,", "data.table-word"),
    ("P9,60,typical,,,", "data.table-label"),
    ("P9,60,typical,2,,", "data.table-label"),
    ("P9,60,typical,0.5,,", "data.table-label"),
    (f"P9,60,typical,{MARKER},,", "data.table-label"),
]


@pytest.mark.parametrize(("row", "code"), FAULTS)
def test_a_row_that_cannot_be_used_is_refused(tmp_path: Path, row: str, code: str) -> None:
    error = refused(tmp_path, GOOD + row + "\n")
    assert error.codes == (code,) and "row 6" in error.diagnostics()


def test_all_faults_come_at_once_and_columns_are_named_at_the_site_alone(tmp_path: Path) -> None:
    error = refused(tmp_path, GOOD + "\n".join(row for row, _ in FAULTS) + "\n")
    assert set(error.codes) == {code for _, code in FAULTS}
    assert "column age" in error.diagnostics() and "column chest-pain" in error.diagnostics()
    assert MARKER not in error.diagnostics().replace(str(tmp_path / f"{MARKER}.csv"), ""), "never a value"


def test_columns_that_are_not_there_once_are_named(tmp_path: Path) -> None:
    error = refused(tmp_path, "patient_id,age,AGE,chest-pain\nP1,60,61,none\n")
    assert error.code == "data.table-columns" and "age, disease" in error.public_message
    assert refused(tmp_path, GOOD, columns={"disease": "nowhere"}).code == "data.table-columns"
    assert "fall" in refused(tmp_path, GOOD, patient_column="fall").public_message


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (b"", "data.table-columns"),
        (GOOD.splitlines()[0], "data.empty"),
        (b"\xff\xfe" + GOOD.encode(), "data.table-unreadable"),
        (GOOD + '"open', "data.table-unreadable"),
    ],
)
def test_a_file_that_is_no_table_is_refused(tmp_path: Path, text: str | bytes, code: str) -> None:
    assert refused(tmp_path, text).code == code


def test_what_is_missing_damaged_or_too_large_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def code(path: Path) -> str:
        with pytest.raises(DataRefusedError) as caught:
            source(path).load(CONTRACT)
        assert MARKER not in public_surface(caught.value)
        return caught.value.code

    good = tmp_path / "good.parquet"
    parquet.write_table(pa.table({"patient_id": [MARKER] * 9, "age": [1] * 9}), good)
    assert code(tmp_path / "no.csv") == code(tmp_path / "no.parquet") == "data.missing"
    (tmp_path / "cut.parquet").write_bytes(good.read_bytes()[:-9])
    (tmp_path / "text.parquet").write_text(MARKER)
    parquet.write_table(pa.table({"patient_id": [[1], [2]]}), tmp_path / "nested.parquet")
    for name in ("cut", "text", "nested"):
        assert code(tmp_path / f"{name}.parquet") == "data.table-unreadable"
    monkeypatch.setattr("adapters.sources.table_rows.LARGEST_CELLS", 17)
    monkeypatch.setattr("adapters.sources.table_rows.LARGEST_BYTES", 100)
    assert code(good) == "data.table-unreadable"
    (tmp_path / "large.csv").write_text(GOOD * 2)
    assert code(tmp_path / "large.csv") == "data.table-unreadable"


def test_a_table_is_no_source_of_images(tmp_path: Path) -> None:
    images = CONTRACT.model_copy(
        update={"table": None, "image": Image(height_px=8, width_px=8, modalities=("CR",))}
    )
    with pytest.raises(DataRefusedError) as caught:
        load(tmp_path, GOOD, images)
    assert caught.value.code == "data.kind"
