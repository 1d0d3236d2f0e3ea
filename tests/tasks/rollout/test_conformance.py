"""What a hospital finds out about its own source: what it may go on record with, and what it may not."""

from __future__ import annotations

import logging
import sys
import tempfile
from pathlib import Path

import pydicom
import pytest

import tasks.rollout.canaries
from adapters.home import Home, NoSourceError, SiteConfig, SourceConfig
from adapters.sources import npz
from adapters.sources.cohort import Cohort, CohortSource
from adapters.sources.discovery import SourceKind, open_source
from adapters.sources.phantoms import write_phantoms
from adapters.sources.volume_phantoms import write_volume_phantoms
from policies.data_contract import DataContract
from policies.federation import Pool
from policies.plan import Plan
from tasks.found import FoundingSite, found
from tasks.rollout.conformance import NoRegisterError, conform
from tests.consents import RECORDS, WAIVER
from tests.consortium import SITES, write_shard
from tests.plans import tiny_plan
from tests.policies.rollout.phases import phantoms

SITE = SITES[0]


def home(root: Path, source: SourceConfig, *, waiver: bool = True) -> tuple[Home, SiteConfig]:
    consent = WAIVER if waiver else RECORDS
    sites = tuple(FoundingSite(site, source, consent) for site in SITES)
    pool = Pool.of(epsilon_cap_micro=1_000_000, delta=1e-5)
    opened = Home(found(root / "f", sites, name="test", pool=pool).sites[SITE])
    return opened, opened.read(SiteConfig)


def failed(root: Path, source: SourceConfig, plan: Plan, *, waiver: bool = True) -> dict[str, str]:
    checks = conform(*home(root, source, waiver=waiver), plan)
    return {check.name: check.found for check in checks if not check.passed}


def shard(root: Path, *, patients: int = 200) -> SourceConfig:
    write_shard(root / "shard.npz", patients=patients)
    return SourceConfig(kind="npz", path=str(root / "shard.npz"))


def table(root: Path, header: str = "patient_id,age,sick", *, name: str = "table.csv") -> SourceConfig:
    fill = ",x" * (header.count(",") - 2)
    rows = "\n".join(f"P{number},{20 + number % 60},{number % 2}{fill}" for number in range(200))
    (root / name).write_text(f"{header}\n{rows}\n")
    return SourceConfig(kind="table", path=str(root / name))


def plan_of(data: dict[str, object], network: dict[str, object] | None = None) -> Plan:
    contract = {"labels": [0, 1], "minimum_patients": 20, "held_out_fraction": 0.5, **data}
    chosen: dict[str, object] = {} if network is None else {"network": network}
    return tiny_plan(data=contract, **chosen)


TABLE_PLAN = plan_of(
    {"table": {"features": [{"kind": "number", "name": "age", "lower": 0, "upper": 100}], "label": "sick"}},
    {"name": "LogisticRegression"},
)


def dicom(root: Path, *, cleaned: bool) -> tuple[SourceConfig, Plan]:
    write_phantoms(root / "dicom", sites=[SITE], seed=0, patients_per_site=30, public_test_patients=4)
    folder = root / "dicom" / SITE
    for path in folder.rglob("*.dcm") if cleaned else ():
        data = pydicom.dcmread(path)
        data.PatientName, data.PatientBirthDate = data.PatientID, ""
        data.save_as(path)
    image = {"height_px": 8, "width_px": 8, "modalities": ["CR", "DX"]}
    return SourceConfig(kind="dicom", path=str(folder)), plan_of({"image": image})


def test_a_sound_source_passes_every_check(tmp_path: Path) -> None:
    checks = conform(*home(tmp_path, shard(tmp_path)), tiny_plan())
    assert [check for check in checks if not check.passed] == []
    names = {check.name for check in checks}
    assert {"opens", "contract: labels", "cohort", "canaries", "no identifiers in headers"} <= names


def test_marked_copies_lie_in_the_home_alone_and_go_also_after_a_check_that_was_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened, config = home(tmp_path, shard(tmp_path))
    copies, temporary = opened.root / tasks.rollout.canaries.FOLDER, tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))

    def cut(*_: object, **named: object) -> CohortSource:
        (copy,) = copies.iterdir()
        assert copies.stat().st_mode & 0o777 == 0o700 and copy.stat().st_size
        assert list(temporary.iterdir()) == []
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(tasks.rollout.canaries, "open_source", cut)
        with pytest.raises(KeyboardInterrupt):
            conform(opened, config, tiny_plan())
    assert not copies.exists()

    def killed() -> None:
        (copies / "canary0123").mkdir(parents=True)
        (copies / "canary0123" / "image.dcm").write_bytes(b"a patient's")

    killed()
    assert all(check.passed for check in conform(opened, config, tiny_plan()))
    assert not copies.exists() and list(temporary.iterdir()) == []
    killed()  # a source that does not open is not copied, and what is left goes all the same
    Path(config.source_of("tiny-study").path).unlink()
    assert not all(check.passed for check in conform(opened, config, tiny_plan()))
    assert not copies.exists()


def test_tables_volumes_and_cleaned_dicom_pass_too(tmp_path: Path) -> None:
    assert failed(tmp_path, table(tmp_path), TABLE_PLAN) == {}
    assert failed(tmp_path / "d", *dicom(tmp_path / "d", cleaned=True)) == {}
    write_volume_phantoms(tmp_path / "v", sites=[SITE], seed=0, patients_per_site=24)
    image = {"depth_px": 8, "height_px": 8, "width_px": 8, "modalities": ["MR", "CT"]}
    value = {**TABLE_PLAN.data.to_json(), "table": None, "image": image, "target": "mask"}
    volumes = DataContract.from_value(value, what="data")
    source = SourceConfig(kind="nifti", path=str(tmp_path / "v" / SITE))
    plan = TABLE_PLAN.model_copy(update={"data": volumes})
    assert failed(tmp_path / "v", source, plan) == {}


def test_names_in_dicom_headers_are_found(tmp_path: Path) -> None:
    there = failed(tmp_path, *dicom(tmp_path, cleaned=False))
    assert set(there) == {"no identifiers in headers"} and "found" in there["no identifiers in headers"]


@pytest.mark.parametrize("column", ["Date of Birth", "patient-name", "MRN", "e-mail", "zip"])
def test_a_column_that_is_named_like_an_identifier_is_found(tmp_path: Path, column: str) -> None:
    source = table(tmp_path, f"patient_id,age,sick,{column}")
    assert set(failed(tmp_path, source, TABLE_PLAN)) == {"no identifiers in columns"}


@pytest.mark.parametrize("name", ["ward-1970-03-17.csv", "19700317.csv", "mrn-12345.csv"])
def test_a_file_name_that_tells_is_found(tmp_path: Path, name: str) -> None:
    assert set(failed(tmp_path, table(tmp_path, name=name), TABLE_PLAN)) == {"no identifiers in file names"}


def test_too_few_patients_and_nobody_who_consents(tmp_path: Path) -> None:
    few = failed(tmp_path, shard(tmp_path, patients=12), tiny_plan())
    assert set(few) == {"contract: minimum-patients", "cohort"}
    (tmp_path / "n").mkdir()
    nobody = failed(tmp_path / "n", shard(tmp_path / "n"), tiny_plan(), waiver=False)
    assert nobody == {"cohort": "consent.nobody"}


def test_a_source_that_does_not_open_is_named_by_code(tmp_path: Path) -> None:
    source = SourceConfig(kind="npz", path=str(tmp_path / "none.npz"))
    assert failed(tmp_path, source, tiny_plan())["opens"] == "data.missing"


def test_the_source_of_the_plans_study_is_checked_and_no_other(tmp_path: Path) -> None:
    opened, config = home(tmp_path, SourceConfig(kind="npz", path=str(tmp_path / "none.npz")))
    config = config.model_copy(update={"sources": {"tiny-study": shard(tmp_path)}})
    assert all(check.passed for check in conform(opened, config, tiny_plan()))
    elsewhere = config.model_copy(update={"source": None})
    with pytest.raises(NoSourceError):
        conform(opened, elsewhere, tiny_plan(study="other-study"))


def test_a_plan_of_phantoms_says_nothing_of_a_source(tmp_path: Path) -> None:
    with pytest.raises(NoRegisterError):
        conform(*home(tmp_path, shard(tmp_path)), tiny_plan(data=phantoms()))


# -- adapters that leak ----------------------------------------------------------------------------------------


class Leaky:
    """An adapter as somebody may write it: it says whom it reads."""

    def __init__(self, source: CohortSource, path: Path, where: str) -> None:
        self._source, self._path, self._where = source, path, where

    def load(self, contract: DataContract) -> Cohort:
        name = self._path.name
        if self._where == "printed":
            sys.stdout.write(f"reading {name}\n")
        if self._where == "logged":
            logging.getLogger("some.library").error("reading %s", name)
        cohort = self._source.load(contract)
        if self._where == "cohort":
            cohort.facts["file"] = name
        return cohort


@pytest.mark.parametrize(
    ("where", "surface"), [("printed", "output"), ("logged", "output"), ("cohort", "cohort")]
)
def test_an_adapter_that_tells_of_its_patients_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, surface: str
) -> None:
    def leaky(
        kind: SourceKind, path: Path, *, site: str, secret: bytes, layout: object = None
    ) -> CohortSource:
        return Leaky(open_source(kind, path, site=site, secret=secret), path, where)

    monkeypatch.setattr(tasks.rollout.canaries, "open_source", leaky)
    assert failed(tmp_path, shard(tmp_path), tiny_plan()) == {"canaries": surface}


def test_an_error_that_tells_of_a_patient_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refusing = npz.DataRefusedError

    def telling(message: str, *, diagnostics: str = "", **rest: str) -> Exception:
        return refusing(f"{message} {diagnostics}", diagnostics=diagnostics, **rest)  # type: ignore[arg-type]

    monkeypatch.setattr(npz, "DataRefusedError", telling)
    assert failed(tmp_path, shard(tmp_path), tiny_plan()) == {"canaries": "errors"}
