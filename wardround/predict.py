"""`wardround predict`: what an exported model says of a hospital's own files, offline.

Nothing is sent or kept but what --csv and --out write. The names of files may hold patients' names: what is printed
stays with whoever ran it. What is computed lives in `tasks.model.predicting`.
"""

from __future__ import annotations

import csv as csv_text
import json as json_text
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from rich.console import Console

from ledger.errors import InputError
from ledger.listing import plain

if TYPE_CHECKING:
    from adapters.home import FeatureLayout
    from adapters.sources.items import Unusable
    from tasks.model.exported import ExportedModel
    from tasks.model.predicting import Prediction
    from tasks.train.calibration import CalibrationHead

FAULTS = 1
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "'")
_COLUMNS = ("file", "probability", "mask_px", "volume_ml", "mask_file", "error")


class PredictOptionError(InputError):
    code = "usage.option"


def predict(
    model: Path,
    path: Path,
    /,
    *,
    home: Annotated[
        Path | None,
        Parameter(help="A site's home: the model must be final there, and its calibration head is applied."),
    ] = None,
    federation: Annotated[
        Path | None,
        Parameter(help="The founding document, a member's federation.json: the model must be final by it."),
    ] = None,
    json: Annotated[bool, Parameter(help="Print one JSON object an item.", negative="")] = False,
    csv: Annotated[Path | None, Parameter(help="Also write the table into this new file.")] = None,
    out: Annotated[Path | None, Parameter(help="Write masks into this folder.")] = None,
    device: Annotated[str, Parameter(help="auto, cpu or cuda.")] = "auto",
) -> int:
    """Print what the model says of every image, volume or row. Files that cannot be used are named with
    the reason; then exit 1.

    Research only: no exported model is a medical device.

    Parameters
    ----------
    model
        What `wardround model export` wrote.
    path
        A file or a folder: DICOM, .npz, PNG, JPEG, NIfTI; CSV or Parquet for a model of a table.
    """
    if csv is not None and csv.exists():
        raise PredictOptionError(f"{csv} exists and is left as it is", remedy="Choose another --csv.")
    if device not in ("auto", "cpu", "cuda"):
        raise PredictOptionError("--device must be auto, cpu or cuda")
    from adapters.sources.items import read_items
    from adapters.sources.unusable import PASSED_OVER
    from tasks.model.exported import ExportedModel
    from tasks.model.predicting import Predictor
    from tasks.train.device import device_of

    opened = ExportedModel.open(model)
    if out is not None and opened.about.data.target != "mask":
        raise PredictOptionError("--out is for models that predict masks")
    if out is not None and out.exists() and not out.is_dir():
        raise PredictOptionError(f"{out} is no folder", remedy="Choose another --out.")
    _require_standing(opened, home, federation)
    head = None if home is None else _head(home, opened)
    predictor = Predictor(opened, head=head, device=device_of(device))
    rows = _rows(
        predictor.predict(read_items(path, opened.about.data, _layout(home, opened.about.study))), out
    )
    faults, console = 0, Console(highlight=False)
    with ExitStack() as stack:
        table = None
        if csv is not None:
            written = csv.open("x", newline="", encoding="utf-8", errors="backslashreplace")
            table = csv_text.DictWriter(stack.enter_context(written), _COLUMNS)
            table.writeheader()
        for row in rows:
            if row["error"] == PASSED_OVER:  # no item, and no fault
                sys.stderr.write(f"passed over {_said(row)}\n")
                continue
            faults += row["error"] is not None
            if table is not None:
                table.writerow({name: _cell(value) for name, value in row.items()})
            if json:
                sys.stdout.write(f"{json_text.dumps(row)}\n")
            elif row["error"] is not None:
                sys.stderr.write(f"skipped {_said(row)}\n")
            else:
                console.print(_line(row), soft_wrap=True, markup=False)
    if faults:
        sys.stderr.write(f"{faults} could not be used\n")
    return FAULTS if faults else 0


def _rows(
    found: Iterator[Prediction | Unusable], out: Path | None
) -> Iterator[dict[str, str | float | int | None]]:
    from adapters.mask_files import MaskExistsError, MaskUnwritableError, write_mask
    from adapters.sources.items import Unusable

    for one in found:
        row: dict[str, str | float | int | None] = dict.fromkeys(_COLUMNS)
        row["file"] = one.name
        if isinstance(one, Unusable):
            row["error"] = one.code
        elif one.mask is None:
            row["probability"] = one.probability
        else:
            row["mask_px"], row["volume_ml"] = int(one.mask.sum()), one.volume_ml
            if out is not None:
                try:
                    row["mask_file"] = str(write_mask(out, one.name, one.mask, one.affine))
                except (MaskExistsError, MaskUnwritableError) as error:
                    row["error"] = error.code
        yield row


def _said(row: dict[str, str | float | int | None]) -> str:
    """Why a file gives no answer, in words and by code."""
    from adapters.sources.unusable import WORDS

    code = str(row["error"])
    return f"{plain(str(row['file']))}: {WORDS.get(code, 'cannot be used')} ({code})"


def _line(row: dict[str, str | float | int | None]) -> str:
    file = plain(str(row["file"]))
    if row["probability"] is not None:
        return f"{row['probability']:.4f}  {file}"
    volume = "" if row["volume_ml"] is None else f" ({row['volume_ml']:.2f} ml)"
    return f"{row['mask_px']} px{volume}  {file}"


def _cell(value: str | float | None) -> str | float | None:
    """A file's name is a formula to no spreadsheet that opens the table: in front of those an apostrophe."""
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def _require_standing(model: ExportedModel, home: Path | None, federation: Path | None) -> None:
    """Say once on which proof the model stands; an error if it is not final by the document that is given."""
    if home is None and federation is None:
        sys.stderr.write("model not verified: give --federation or --home, or see `wardround model verify`\n")
        return
    from adapters.home import Home
    from tasks.model import standing

    for document in (
        None if home is None else Home(home).federation,
        None if federation is None else standing.read_federation(federation),
    ):
        if document is not None:
            found = standing.by_federation(model, document)
            sys.stderr.write(
                f"model verified by {found.trusted}: entry {found.index}, cosigned by {found.quorum}\n"
            )


def _head(home: Path, model: ExportedModel) -> CalibrationHead | None:
    """The site's head if it is for this model; what is used is said either way."""
    from adapters.home import Home
    from tasks.site.calibration import read_head

    found = read_head(Home(home), model.about.model_digest)
    said = "is applied" if found is not None else "has no calibration head for this model: none is applied"
    where = "the site's calibration head" if found is not None else "this home"
    sys.stderr.write(f"{where} {said}\n")
    return found


def _layout(home: Path | None, study: str) -> FeatureLayout | None:
    """How the site's own tables of the study are written, if it has any."""
    from adapters.home import Home, SiteConfig

    config = None if home is None else Home(home).read(SiteConfig)
    source = None if config is None else config.sources.get(study, config.source)
    return None if source is None else source.table
