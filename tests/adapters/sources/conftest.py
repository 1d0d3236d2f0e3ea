"""A contract, small DICOM sites written without MONAI, and the search for planted patient markers."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from adapters.sources.dialects import SIZE_PX, Header, Template, Vendor, identifier
from policies.data_contract import DataContract, Image

SECRET = bytes(range(32))
MARKER = "ZZCANARY^MARKER"


@pytest.fixture
def contract() -> DataContract:
    return DataContract(
        image=Image(height_px=28, width_px=28, modalities=("CR", "DX")),
        labels=(0, 1),
        minimum_patients=3,
        held_out_fraction=0.2,
    )


WriteSite = Callable[..., Path]


@pytest.fixture
def write_site(tmp_path: Path) -> WriteSite:
    def write(*, site: str = "hospital-a", vendor: Vendor = "A", patients: int = 6, images: int = 2) -> Path:
        folder = tmp_path / site
        template, random = Template(site, vendor), np.random.default_rng(7)
        rows = ["patient_id,label"]
        for patient in range(patients):
            rows.append(f"{identifier(site, patient)},{patient % 2}")
            for image in range(images):
                path = folder / f"study-{patient}" / f"IM{image}"
                path.parent.mkdir(parents=True, exist_ok=True)
                header = Header(patient, image, f"{site} {patient}")
                path.write_bytes(template.file(header, random.random((SIZE_PX, SIZE_PX))))
        (folder / "labels.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
        return folder

    return write


def public_surface(error: BaseException) -> str:
    """Everything of an error that a log, an orchestrator or a terminal may come to hold."""
    texts: list[str] = []
    seen: BaseException | None = error
    while seen is not None:
        texts += [str(seen), repr(seen), repr(seen.args), getattr(seen, "remedy", "")]
        texts.append(getattr(seen, "public_message", ""))
        seen = seen.__cause__ or seen.__context__
    texts += traceback.format_exception(error)
    return "\n".join(texts)
