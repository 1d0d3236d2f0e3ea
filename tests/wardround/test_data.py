"""`wardround data check`: all sites' faults at once, by name, and nothing that names a patient or a file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from adapters.sources.phantoms import write_phantoms
from tests.adapters.sources.test_stays import HEADER, STAYS
from tests.consortium import tiny_plan
from tests.wardround.conftest import Command

SITES = ("hospital-a", "hospital-b", "hospital-c")


def plan_file(folder: Path, *, minimum_patients: int = 5, modalities: tuple[str, ...] = ("CR", "DX")) -> Path:
    image = {"height_px": 16, "width_px": 16, "modalities": list(modalities)}
    data = {"image": image, "labels": [0, 1], "minimum_patients": minimum_patients, "held_out_fraction": 0.5}
    path = folder / f"plan-{minimum_patients}-{len(modalities)}.yaml"
    path.write_text(yaml.safe_dump(tiny_plan(data=data).to_json()))
    return path


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("studies")
    write_phantoms(folder, sites=SITES, seed=0, patients_per_site=12, public_test_patients=4)
    return folder


def medmnist(path: Path, *, count: int = 1000) -> Path:
    random = np.random.default_rng(0)
    arrays = {}
    for split, size in (("train", count), ("val", 60), ("test", 40)):
        arrays[f"{split}_images"] = random.integers(0, 256, (size, 28, 28)).astype(np.uint8)
        arrays[f"{split}_labels"] = (np.arange(size) % 2).astype(np.uint8)[:, None]
    np.savez(path, **arrays)
    return path


def test_good_folders_pass_with_bucketed_sizes(wardround: Command, studies: Path, tmp_path: Path) -> None:
    done = wardround("data", "check", studies, "--plan", plan_file(tmp_path), "--json")
    assert done.code == 0, done.err
    value = json.loads(done.out)
    assert value["ok"] and set(value["sites"]) == {*SITES, "public-test"}
    site = value["sites"]["hospital-a"]
    assert site["readable"] and all(site["checks"].values()) and "minimum-patients" in site["checks"]
    assert site["patients"] == "< 20" and "minimum-patients" not in value["sites"]["public-test"]["checks"]
    assert "hospital-b" in done.err and "validate" in done.err  # progress
    shown = wardround("data", "check", studies, "--plan", plan_file(tmp_path))
    assert shown.code == 0 and "11 of 11" in shown.out


def test_a_broken_contract_exits_3_with_every_site(wardround: Command, studies: Path, tmp_path: Path) -> None:
    done = wardround("data", "check", studies, "--plan", plan_file(tmp_path, minimum_patients=500))
    assert done.code == 3
    for site in SITES:
        assert f"{site}: The site has fewer patients" in done.error
    assert "public-test" not in done.error and done.out.count("contract.minimum-patients") == len(SITES)


def test_unreadable_data_exit_2_with_every_site_and_no_file_name(
    wardround: Command, studies: Path, tmp_path: Path
) -> None:
    import shutil

    folder = tmp_path / "data"
    shutil.copytree(studies, folder)
    for site in SITES[:2]:
        (folder / site / "MARKER^PATIENT.dcm").write_bytes(b"not an image")
    details = tmp_path / "details.txt"
    done = wardround("data", "check", folder, "--plan", plan_file(tmp_path), "--details", details)
    assert done.code == 2 and done.error.startswith("[data.dicom-unreadable]")
    assert "hospital-a" in done.error and "hospital-b" in done.error and "hospital-c" not in done.error
    assert "MARKER" not in done.out + done.err
    assert "MARKER^PATIENT.dcm" in details.read_text() and details.stat().st_mode & 0o077 == 0
    refused = wardround("data", "check", folder, "--details", details)
    assert refused.code == 2 and "exists" in refused.error


def test_every_finding_has_its_own_remedy_behind_it(
    wardround: Command, studies: Path, tmp_path: Path
) -> None:
    """A site with two faults, one with another, and one that is only too small."""
    import shutil

    folder = tmp_path / "data"
    shutil.copytree(studies, folder)
    (folder / SITES[0] / "broken.dcm").write_bytes(b"not an image")
    for site, old, new in ((SITES[0], ",1\n", ",7\n"), (SITES[1], ",1\n", ",\n")):
        labels = folder / site / "labels.csv"
        labels.write_text(labels.read_text().replace(old, new))
    error = wardround("data", "check", folder, "--plan", plan_file(tmp_path, minimum_patients=500)).error
    first, second, third = (error.index(f"{site}: ") for site in SITES)
    assert "(data.dicom-unreadable). Export them again" in error[first:second]
    assert "(data.labels-value). Labels are whole numbers" in error[first:second]
    assert error[second:third].count("(data.labels") == 1 and "Export them again" not in error[second:]
    assert "fewer patients than the 500 that the plan requires. It can take part when" in error[third:]
    assert error.endswith("With --details FILE, the files at fault are listed there.")


def test_a_modality_that_the_plan_does_not_list(wardround: Command, studies: Path, tmp_path: Path) -> None:
    done = wardround("data", "check", studies, "--plan", plan_file(tmp_path, modalities=("MR",)), "--json")
    assert done.code == 2 and done.error.startswith("[data.modality]")
    assert json.loads(done.out)["sites"]["hospital-a"]["codes"] == ["data.modality"]


def test_an_npz_is_split_as_the_demo_does(wardround: Command, tmp_path: Path) -> None:
    done = wardround("data", "check", medmnist(tmp_path / "x.npz"), "--sites", "3", "--json")
    assert done.code == 0 and set(json.loads(done.out)["sites"]) == {*SITES, "public-test"}
    refused = wardround("data", "check", medmnist(tmp_path / "small.npz", count=100))
    assert refused.code == 2 and refused.error.startswith("[data.too-few-images]")


def test_paths_that_hold_no_data(wardround: Command, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    (tmp_path / "x.txt").write_text("x")
    (tmp_path / "broken.npz").write_bytes(b"PK\x03\x04 cut")
    np.savez(tmp_path / "other.npz", images=np.zeros(3))
    loose = tmp_path / "loose"
    (loose / "SMITH^JOHN").mkdir(parents=True)
    for path, code in (
        (tmp_path / "nothing", "data.missing"),
        (empty, "data.empty"),
        (tmp_path / "x.txt", "data.kind"),
        (tmp_path / "broken.npz", "data.npz-unreadable"),
        (tmp_path / "other.npz", "data.npz-arrays"),
        (loose, "data.layout"),
    ):
        done = wardround("data", "check", path)
        assert done.code == 2 and done.error.startswith(f"[{code}]"), (path, done.err)
        assert "SMITH" not in done.err
    assert wardround("data", "check", empty, "--sites", "2").code == 2
    assert wardround("data", "check", empty, "--seed", "-1").code == 2
    assert wardround("data", "check", tmp_path / "broken.npz", "--plan", tmp_path / "no.yaml").code == 2


def test_synthetic_volumes_and_the_heart_tables_are_made(wardround: Command, tmp_path: Path) -> None:
    out = tmp_path / "volumes"
    done = wardround("data", "volumes", out, "--sites", "3", "--patients", "4", "--seed", "1")
    assert done.code == 0 and "wardround data check" in done.out, done.err
    assert sorted(path.name for path in out.iterdir()) == [*SITES, "public-test"]
    assert wardround("data", "volumes", out, "--sites", "3").error.startswith("[data.exists]")
    wrong = wardround("data", "volumes", tmp_path / "x", "--sites", "2", "--patients", "1", "--seed", "-1")
    assert wrong.code == 2 and all(name in wrong.error for name in ("--sites", "--patients", "--seed"))
    for name in ("cleveland", "hungarian", "switzerland", "va"):
        (tmp_path / f"processed.{name}.data").write_text("63,1,1,145,233,1,2,150,0,2.3,3,0,6,0\n")
    done = wardround("data", "heart", tmp_path, "--out", tmp_path / "heart")
    assert done.code == 0 and len(list((tmp_path / "heart").iterdir())) == 4
    refused = wardround("data", "heart", out, "--out", tmp_path / "none")
    assert refused.code == 2 and refused.error.startswith("[data.missing]")


def test_tables_of_stays_are_made_and_fit_their_example(wardround: Command, tmp_path: Path) -> None:
    stays = tmp_path / "diabetic_data.csv"
    rows = (STAYS[0].replace("77001", str(number)) for number in range(30))
    stays.write_text("\n".join((HEADER, *rows)) + "\n")
    out = tmp_path / "stays"
    done = wardround("data", "readmission", stays, "--out", out, "--sites", "3", "--seed", "1")
    assert done.code == 0 and "readmission" in done.out, done.err
    assert sorted(path.name for path in out.iterdir()) == [f"{site}.csv" for site in SITES]
    assert wardround("data", "readmission", stays, "--out", out, "--sites", "3").error.startswith(
        "[data.exists]"
    )
    wrong = wardround("data", "readmission", stays, "--out", out, "--sites", "2", "--seed", "-1")
    assert wrong.code == 2 and all(name in wrong.error for name in ("--sites", "--seed"))
    for file in (stays, stays / "tables" / "here"):
        onto = wardround("data", "readmission", stays, "--out", file, "--sites", "3")
        assert onto.code == 2 and onto.error.startswith("[usage.option]") and "is not a folder" in onto.error
    # The plan that fits the columns is found by itself; ten patients a hospital are too few for it.
    checked = wardround("data", "check", out, "--json")
    assert checked.code == 3 and json.loads(checked.out)["plan"] == "readmission"


def test_tables_are_checked_under_their_plan(wardround: Command, tmp_path: Path) -> None:
    table = {"features": [{"kind": "number", "name": "age", "lower": 0, "upper": 100}], "label": "ill"}
    data = {"table": table, "labels": [0, 1], "minimum_patients": 5, "held_out_fraction": 0.5}
    plan = tmp_path / "plan.yaml"
    plan.write_text(yaml.safe_dump(tiny_plan(data=data).to_json()))
    folder = tmp_path / "tables"
    folder.mkdir()
    for site in SITES:
        rows = [f"P{number},{number},{number % 2}" for number in range(3 if site == SITES[0] else 30)]
        (folder / f"{site}.csv").write_text("\n".join(["patient_id,age,ill", *rows]) + "\n")
    done = wardround("data", "check", folder, "--plan", plan, "--json")
    assert done.code == 3 and done.out.count("contract.minimum-patients") == 1
    assert "hospital-a: The site has fewer patients" in done.error
    (folder / f"{SITES[1]}.csv").write_text("patient_id,age,ill\nSMITH,old,1\n")
    done = wardround("data", "check", folder, "--plan", plan)
    assert (
        done.code == 2 and done.error.startswith("[data.table-number]") and "SMITH" not in done.out + done.err
    )
