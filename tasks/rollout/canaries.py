"""Canaries: marked items of a site's own source go through its adapter, and none of what comes of it carries a mark.

Searched are the cohort that training would see, every text of an error that may leave, all that was printed and every
line of any log; for the mark itself, its base64, UTF-16 and hex, and the SHA-256 of each marked identifier.
"""

from __future__ import annotations

import base64
import fcntl
import hashlib
import io
import logging
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Final

from adapters.home import SourceConfig
from adapters.sources.cohort import Cohort
from adapters.sources.discovery import open_source
from adapters.sources.planting import ITEMS, plant, spoil
from ledger.errors import CodedError
from policies.data_contract import DataContract

FOLDER: Final = "canaries"


@contextmanager
def canary_folder(home: Path) -> Iterator[Path]:
    """Where marked copies of patients' items lie: in the site's home alone, for its owner, until the check ends.

    What a check that was killed left there is removed first, so one check at a time has the folder.
    """
    folder = home / FOLDER
    with (home / f"{FOLDER}.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _remove(folder)
        folder.mkdir(mode=0o700)
        try:
            yield folder
        finally:
            _remove(folder)


def leaking(
    config: SourceConfig, source: Path, contract: DataContract, *, site: str, secret: bytes, folder: Path
) -> tuple[str, ...]:
    """Where a mark was found, of: cohort, errors, output; "planting" where the marked copy was not even read.

    `folder` is an empty one of the caller's (`canary_folder`).
    """
    marker = f"canary{secrets.token_hex(6)}"
    planted = plant(config, source, folder, contract, marker=marker)
    reader = open_source(config.kind, planted, site=site, secret=secret, layout=config.table)
    read = _Overheard(lambda: reader.load(contract))
    spoil(config, planted, marker=marker)
    refused = _Overheard(lambda: reader.load(contract))
    if read.cohort is None or refused.cohort is not None:
        return ("planting",)
    surfaces = {
        "cohort": _bytes_of(read.cohort),
        "errors": (read.told + refused.told).encode(),
        "output": (read.printed + refused.printed).encode(),
    }
    return tuple(name for name, data in surfaces.items() if any(form in data for form in _forms(marker)))


def _remove(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)


class _Overheard:
    """One reading: what came of it, and everything that it said."""

    def __init__(self, load: Callable[[], Cohort]) -> None:
        self.cohort: Cohort | None = None
        self.told = ""
        output, lines = io.StringIO(), _Lines()
        root = logging.getLogger()
        root.addHandler(lines)
        try:
            with redirect_stdout(output), redirect_stderr(output):
                self.cohort = load()
        except CodedError as error:
            # Its diagnostics name files and stay at the site; these do not.
            self.told = f"{error.code} {error.public_message} {error.remedy} {error!r} {error}"
        finally:
            root.removeHandler(lines)
        self.printed = f"{output.getvalue()}\n{lines.text}"


class _Lines(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.text = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.text += f"{record.getMessage()}\n{record.exc_info}\n"


def _bytes_of(cohort: Cohort) -> bytes:
    parts = [
        cohort.inputs.tobytes(),
        cohort.labels.tobytes(),
        cohort.patients.tobytes(),
        cohort.groups.tobytes(),
    ]
    parts += [*cohort.keys, cohort.facts.to_csv().encode(), repr(cohort).encode()]
    parts += [] if cohort.masks is None else [cohort.masks.tobytes()]
    return b"\n".join(parts)


def _forms(marker: str) -> list[bytes]:
    raw = marker.encode()
    forms = [raw, marker.upper().encode(), marker.encode("utf-16-le"), raw.hex().encode()]
    # Whatever stands before it, base64 shows the same letters in one of three places.
    forms += [base64.b64encode(b"x" * shift + raw)[4:-4] for shift in range(3)]
    for number in range(ITEMS):
        digest = hashlib.sha256(f"{marker}-{number}".encode())
        forms += [digest.digest(), digest.hexdigest().encode()]
    return forms
