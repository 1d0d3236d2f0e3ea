"""The contract as a suite: what passes, what each check catches, and that nothing but booleans comes out."""

from __future__ import annotations

import dataclasses
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from adapters.sources.assembly import MemorySource
from adapters.sources.cohort import Cohort
from ledger.errors import PolicyViolation
from policies.contract import suite, suite_digest
from policies.data_contract import DataContract, FeatureTable, Image, NumberFeature
from tasks.validate import Verdict, require, validate

MARKER = "ZZCANARY^MARKER"
CONTRACT = DataContract(
    image=Image(height_px=8, width_px=9, modalities=("CR", "DX")),
    labels=(0, 1),
    minimum_patients=5,
    held_out_fraction=0.2,
)
MASKS = CONTRACT.model_copy(
    update={"image": Image(depth_px=8, height_px=8, width_px=9, modalities=("CR",)), "target": "mask"}
)
ROWS = DataContract(
    table=FeatureTable(
        features=tuple(
            NumberFeature(kind="number", name=name, lower=0, upper=1) for name in ("age", "weight")
        ),
        label="ill",
    ),
    labels=(0, 1),
    minimum_patients=5,
    held_out_fraction=0.2,
)
NAMES = (
    "columns", "complete", "modality", "labels", "height", "width", "bits", "lowest-value", "highest-value",
    "finite", "minimum-patients",
)  # fmt: skip


def cohort(
    patients: int = 5, *, height: int = 8, width: int = 9, modality: str = "CR", value: float = 0.5
) -> Cohort:
    images = np.full((2 * patients, 1, height, width), value, np.float32)
    identifiers = [f"p{number}" for number in range(patients)] * 2
    labels = [number % 2 for number in range(patients)] * 2
    return MemorySource(images, labels, identifiers, site="s", secret=bytes(32), modality=modality).load(
        CONTRACT
    )


def changed(column: str, value: object) -> Cohort:
    base = cohort()
    facts = base.facts.astype({column: object})
    facts.loc[3, column] = value  # type: ignore[call-overload]
    return dataclasses.replace(base, facts=facts)


def test_a_good_cohort_passes_every_check() -> None:
    verdict = validate(cohort(), CONTRACT)
    assert verdict == Verdict(True, tuple((name, True) for name in NAMES), suite_digest(CONTRACT))
    assert verdict.failed == ()
    require(verdict, CONTRACT)


@pytest.mark.parametrize(
    ("broken", "failed"),
    [
        (cohort(4), {"minimum-patients"}),
        (cohort(modality="MR"), {"modality"}),
        (cohort(height=7), {"height"}),
        (cohort(width=7), {"width"}),
        (cohort(value=-0.01), {"lowest-value", "highest-value"}),
        (cohort(value=1.01), {"lowest-value", "highest-value"}),
        (cohort(value=float("inf")), {"lowest-value", "highest-value", "finite"}),
        (cohort(value=float("nan")), {"complete", "finite"}),
        (changed("label", 7), {"labels"}),
        (changed("label", None), {"complete"}),
        (changed("modality", None), {"complete"}),
        (changed("modality", MARKER), {"modality"}),
        (changed("bits", 17), {"bits"}),
        (changed("finite", False), {"finite"}),
        (changed("finite", None), {"complete"}),
    ],
)
def test_each_check_catches_its_fault(broken: Cohort, failed: set[str]) -> None:
    verdict = validate(broken, CONTRACT)
    assert not verdict.passed and set(verdict.failed) == failed


def test_a_missing_or_additional_column_fails() -> None:
    base = cohort()
    missing = dataclasses.replace(base, facts=base.facts.drop(columns="label"))
    assert {"columns", "labels"} <= set(validate(missing, CONTRACT).failed)
    more = dataclasses.replace(base, facts=base.facts.assign(name="x"))
    assert validate(more, CONTRACT).failed == ("columns",)


def of_masks(
    *, shape: tuple[int, ...] = (8, 8, 9), mask_shape: tuple[int, ...] | None = None, value: int = 1
) -> Cohort:
    inputs = np.full((5, 1, *shape), 0.5, np.float32)
    masks = np.zeros((5, 1, *(mask_shape or shape)), np.uint8)
    masks[0, 0, 0, 0, 0] = value
    names = [f"p{number}" for number in range(5)]
    return MemorySource(inputs, [], names, site="s", secret=bytes(32), masks=masks).load(MASKS)


def of_rows(value: float = 0.5, *, values: int = 2, patients: int = 5) -> Cohort:
    names = [f"p{number}" for number in range(patients)]
    inputs = np.full((patients, values), 0.5, np.float32)
    inputs[2, 1] = value
    return MemorySource(inputs, [0] * patients, names, site="s", secret=bytes(32)).load(ROWS)


def test_good_volumes_masks_and_rows_pass_every_check_of_theirs() -> None:
    volumes, rows = validate(of_masks(), MASKS), validate(of_rows(), ROWS)
    assert volumes.passed and {"depth", "mask-shape", "mask-values"} == {
        name for name, _ in volumes.checks
    } - {*NAMES}
    assert rows.passed and {"values", "bounds"} == {name for name, _ in rows.checks} - {*NAMES}
    assert len({volumes.suite_digest, rows.suite_digest, suite_digest(CONTRACT)}) == 3


@pytest.mark.parametrize(
    ("broken", "contract", "failed"),
    [
        (of_masks(shape=(9, 8, 9)), MASKS, {"depth"}),
        (of_masks(mask_shape=(8, 8, 8)), MASKS, {"mask-shape"}),
        (of_masks(value=2), MASKS, {"mask-values"}),
        (of_rows(1.01), ROWS, {"bounds"}),
        (of_rows(-1.01), ROWS, {"bounds"}),
        (of_rows(float("nan")), ROWS, {"complete", "finite"}),
        (of_rows(values=3), ROWS, {"values"}),
        (of_rows(patients=3), ROWS, {"minimum-patients"}),
    ],
)  # fmt: skip
def test_each_check_of_volumes_masks_and_rows_catches_its_fault(
    broken: Cohort, contract: DataContract, failed: set[str]
) -> None:
    assert set(validate(broken, contract).failed) == failed


def test_items_of_another_kind_fail_the_contract() -> None:
    """Whatever a source hands out: rows under a contract of images, slices under one of volumes."""
    assert "columns" in validate(of_rows(), CONTRACT).failed
    assert "columns" in validate(cohort(), MASKS).failed
    assert "columns" in validate(of_masks(), ROWS).failed


def test_require_names_every_failed_check_and_what_to_do_without_a_count_of_the_data() -> None:
    verdict = validate(cohort(3, modality=MARKER), CONTRACT)
    with pytest.raises(PolicyViolation) as refused:
        require(verdict, CONTRACT)
    assert [violation.code for violation in refused.value.violations] == [
        "contract.modality",
        "contract.minimum-patients",
    ]
    text = str(refused.value) + repr(verdict).replace(verdict.suite_digest, "")
    assert (
        re.findall("[0-9]+", text) == ["5"] and "fewer patients than the 5 that" in text
    )  # the plan's minimum
    assert "data.image.modalities has theirs" in text and MARKER not in text


@pytest.mark.parametrize(("contract", "high"), [(CONTRACT, 16), (MASKS, 64)])
def test_bits_are_named_by_the_range_that_is_asked(contract: DataContract, high: int) -> None:
    failed = Verdict(False, (("bits", False),), suite_digest(contract))
    with pytest.raises(
        PolicyViolation, match=f"fewer than 8 or more than {high} bits. Store them as .* 8 to {high}"
    ):
        require(failed, contract)


def test_every_check_says_what_to_do() -> None:
    names = {check.name for contract in (CONTRACT, MASKS, ROWS) for check in suite(contract)}
    for name in names:
        with pytest.raises(PolicyViolation) as refused:
            require(Verdict(False, ((name, False),), suite_digest(MASKS)), MASKS)
        assert ". " in refused.value.violations[0].message and "A check failed" not in str(refused.value)


def test_the_suite_follows_the_contract() -> None:
    other = CONTRACT.model_copy(update={"minimum_patients": 6})
    assert suite_digest(CONTRACT) == suite_digest(CONTRACT.model_copy()) != suite_digest(other)
    assert tuple(dict.fromkeys(check.name for check in suite(CONTRACT))) == NAMES


_QUIET = """
import logging, sys
logging.basicConfig(level=logging.DEBUG, filename=sys.argv[1])
from tests_cohort import broken, CONTRACT
from tasks.validate import validate
verdict = validate(broken, CONTRACT)
assert not verdict.passed
"""

_COHORT = """
import dataclasses
import numpy as np
from adapters.sources.assembly import MemorySource
from policies.data_contract import DataContract, Image
CONTRACT = DataContract(
    image=Image(height_px=8, width_px=9, modalities=("CR",)), labels=(0, 1), minimum_patients=5,
    held_out_fraction=0.2,
)
images = np.full((4, 1, 8, 9), np.nan, np.float32)
source = MemorySource(images, [0, 1, 0, 1], list("abcd"), site="s", secret=bytes(32), modality="{marker}")
broken = source.load(CONTRACT)
broken = dataclasses.replace(broken, facts=broken.facts.drop(columns="label"))
"""


def test_validation_prints_logs_and_stores_nothing(tmp_path: Path) -> None:
    (tmp_path / "tests_cohort.py").write_text(_COHORT.replace("{marker}", MARKER))
    (tmp_path / "home").mkdir()
    root = Path(__file__).parents[2]
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path / "home"),
        "PYTHONPATH": f"{root}{os.pathsep}{tmp_path}",
    }
    done = subprocess.run(
        [sys.executable, "-c", _QUIET, str(tmp_path / "log")],
        cwd=tmp_path / "home", env=environment, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert MARKER not in (tmp_path / "log").read_text()
    assert "great_expectations" not in (tmp_path / "log").read_text()
    assert not [
        path for path in (tmp_path / "home").rglob("*") if path.is_file() and MARKER in path.read_text()
    ]
