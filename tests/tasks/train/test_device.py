"""Which precision a site may train in."""

from __future__ import annotations

from pathlib import Path

import pytest

from adapters.home import CONFIG, ConsentConfig
from tasks.train.device import PrecisionError, device_of, precision_of
from tests.institution import configure
from tests.tasks.worker.hospital import Hospital


def test_half_precision_is_for_a_gpu() -> None:
    assert precision_of("bfloat16", "cuda:1") == "bfloat16"
    assert precision_of("float32", "cpu") == "float32"
    with pytest.raises(PrecisionError) as caught:
        precision_of("bfloat16", device_of("cpu"))
    assert caught.value.code == "device.precision"


def test_a_site_without_a_gpu_that_asks_for_it_is_told_before_any_round(tmp_path: Path) -> None:
    hospital = Hospital(tmp_path, ConsentConfig(basis="waiver"))
    config = hospital.home.root / CONFIG
    configure(config, device="cpu", precision="bfloat16")
    with pytest.raises(PrecisionError):
        hospital.open()
