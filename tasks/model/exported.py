"""An exported model: the folder, or the one zip of it, in which a registered model leaves its federation for use.

    model.safetensors       the weights; their SHA-256 is the model's digest
    plan.json               the plan, canonical; its SHA-256 is the plan's digest
    network.json            `NetworkFile`: the network line and the data contract of that plan, both digests and the
                            card's
    preprocessing.json      what is done to a file before the network sees it, derived from the data contract
    card.md, card.json      the model card as of the export
    registered.entry        the ledger's entry by which the model was registered: it names both digests
    registered.tlog-proof   the proof that this entry is on the ledger
    ledger.vkey             the log's verifier key, which a stranger gets from the federation rather than from here

Lives here: the format, and that its files belong together; no pickle is in it or is ever read. That the registration
is on a ledger, final, and the card what the ledger says is `standing`'s. How an export is made lives in `exporting`,
and what is done with one in `predicting`.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from ledger import canonical
from ledger.canonical import JsonValue
from ledger.errors import CodedError, InputError, VerificationError
from ledger.event import parse_entry
from ledger.evidence_zip import PackedFiles, pack
from policies.data_contract import DataContract
from policies.document import Digest, Document, Name
from policies.events import ModelRegistered
from policies.plan import Plan
from policies.training import Network
from tasks.train import weights

MODEL, PLAN, NETWORK = "model.safetensors", "plan.json", "network.json"
PREPROCESSING, CARD, CARD_JSON = "preprocessing.json", "card.md", "card.json"
ENTRY, PROOF, VKEY = "registered.entry", "registered.tlog-proof", "ledger.vkey"
FILES = (MODEL, PLAN, NETWORK, PREPROCESSING, CARD, CARD_JSON, ENTRY, PROOF, VKEY)
_MOST_BYTES = 4 << 30


class NoExportError(InputError):
    code = "model.not-exported"


class ExportExistsError(InputError):
    code = "model.exists"


class ExportContradictsError(VerificationError):
    """A file of the export is not the one that another names."""

    code = "model.digest"


class NetworkFile(Document):
    schema_version: Literal[2]
    study: Name
    round: Annotated[int, Field(ge=1, le=1000)]
    plan_digest: Digest
    model_digest: Digest
    network: Network
    data: DataContract
    card_digest: Digest
    """Of card.json."""
    card_text_digest: Digest
    """Of card.md."""


@dataclass(frozen=True, slots=True)
class ExportedModel:
    """An export whose files agree with each other; that it is on a ledger says `standing`."""

    about: NetworkFile
    plan: Plan
    weights: bytes
    files: Mapping[str, bytes]

    @classmethod
    def open(cls, path: Path) -> ExportedModel:
        """Raises NoExportError for anything else and ExportContradictsError for files that do not belong together."""
        files = _read(path)
        about = NetworkFile.from_canonical(files[NETWORK], what=NETWORK)
        # 1. The weights are the ones that network.json names.
        _require(weights.digest(files[MODEL]) == about.model_digest, MODEL, NETWORK)
        # 2. So is the plan, and network.json says what the plan says.
        plan = Plan.from_canonical(files[PLAN], what=PLAN)
        _require(plan.content_digest() == about.plan_digest, PLAN, NETWORK)
        _require(
            (plan.network, plan.data, plan.study) == (about.network, about.data, about.study), NETWORK, PLAN
        )
        # 3. Both digests are those of the registration.
        said = _registration(files[ENTRY])
        named = (about.plan_digest, about.round, about.model_digest)
        _require((said.plan_digest, said.round, said.model_digest) == named, NETWORK, ENTRY)
        # 4. What is said of the preprocessing is what is done.
        _require(files[PREPROCESSING] == canonical.encode(preprocessing(plan.data)), PREPROCESSING, PLAN)
        # 5. The cards are the ones that network.json names. Nothing signed names them.
        for name, digest in ((CARD_JSON, about.card_digest), (CARD, about.card_text_digest)):
            _require(canonical.digest(files[name]) == digest, name, NETWORK)
        return cls(about, plan, files[MODEL], files)


def preprocessing(data: DataContract) -> dict[str, JsonValue]:
    """For programs and people: from a file to what the network takes, with shapes and ranges."""
    shape: list[JsonValue] = [*data.shape]
    taken: dict[str, JsonValue] = {"schema_version": 1, "input": "float32", "shape": shape}
    if data.table is not None:
        features: list[JsonValue] = [feature.to_json() for feature in data.table.features]
        return {
            **taken,
            "kind": "table",
            "features": features,
            "numbers": "clipped to lower and upper, scaled linearly to -1 and 1; missing: 0",
            "words": "one value a category, 1 where it is the word; missing: all 0",
        }
    return {
        **taken,
        "kind": "image" if data.imaged().depth_px is None else "volume",
        "modalities": [*data.imaged().modalities],
        "intensities": _INTENSITIES[data.imaged().intensities],
        "size": "stretched to the shape, each pixel the mean of the area that it covers",
        "network": "what else the network does to its input is part of it",
    }


_INTENSITIES = {
    "by-source": "DICOM, NIfTI and 16-bit images: own lowest to 0, own highest to 1; 8-bit images: divided by 255; "
    "MONOCHROME1 inverted",
    "own-range": "every image: own lowest to 0, own highest to 1; MONOCHROME1 inverted",
}


def write(files: Mapping[str, bytes], target: Path) -> None:
    """A new folder, or a new zip if the name ends in .zip; whole or not at all. ExportExistsError."""
    if target.exists() or target.is_symlink():
        raise ExportExistsError(f"{target} exists and is left as it is", remedy="Choose another --out.")
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.suffix == ".zip":
        handle, beside = tempfile.mkstemp(dir=target.parent, prefix=".")
        with os.fdopen(handle, "wb") as file:
            os.fchmod(file.fileno(), 0o644)
            file.write(pack(files))
        Path(beside).replace(target)
        return
    folder = Path(tempfile.mkdtemp(dir=target.parent, prefix="."))
    try:
        for name, data in files.items():
            (folder / name).write_bytes(data)
        folder.chmod(0o755)
        folder.rename(target)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _read(path: Path) -> dict[str, bytes]:
    try:
        if path.is_file():
            with PackedFiles(path) as packed:
                return {name: packed.read(name) for name in FILES if _there(name, name in packed.names)}
        return {name: (path / name).read_bytes() for name in FILES if _there(name, _fits(path / name))}
    except NoExportError:
        raise
    except (OSError, CodedError):
        raise NoExportError(
            f"{path} is no exported model", remedy="Give what `wardround model export` wrote."
        ) from None


def _fits(path: Path) -> bool:
    return path.is_file() and path.stat().st_size <= _MOST_BYTES


def _there(name: str, there: bool) -> bool:
    if not there:
        raise NoExportError(
            f"this is no exported model: it lacks {name}", remedy="Give what `wardround model export` wrote."
        )
    return there


def _registration(entry: bytes) -> ModelRegistered:
    event = parse_entry(entry).event
    _require(event.type == "model.registered", ENTRY, NETWORK)
    return ModelRegistered.from_value(event.body, what=ENTRY)


def _require(holds: bool, name: str, other: str) -> None:
    if not holds:
        raise ExportContradictsError(
            f"{name} of the exported model is not the one that {other} names",
            remedy="Export the model again; do not use this one.",
        )
