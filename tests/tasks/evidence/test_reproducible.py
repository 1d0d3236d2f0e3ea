"""The same ledger gives the same payload, byte for byte, wherever it is built."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from ledger import canonical
from tests.tasks.evidence.witnessed import Witnessed, payload_of

_ROOT = Path(__file__).resolve().parents[3]
_BUILD = """
import os, sys, locale
os.umask(int(sys.argv[1], 8))
try:
    locale.setlocale(locale.LC_ALL, "")
except locale.Error:
    pass
from tests.tasks.evidence.test_reproducible import fingerprint
print(fingerprint())
"""


def fingerprint() -> str:
    """A digest over every payload file of one and the same story, told anew in this process."""
    made = Witnessed()
    made.reach("registered")
    payload = payload_of(made.build())
    return canonical.digest(repr(sorted(payload.items())).encode())


def test_no_machine_no_locale_and_no_time_zone_shows_in_a_payload(tmp_path: Path) -> None:
    surroundings = (
        {"PYTHONHASHSEED": "1", "TZ": "Pacific/Kiritimati", "LC_ALL": "C", "LANG": "C"},
        {"PYTHONHASHSEED": "4242", "TZ": "America/Anchorage", "LC_ALL": "C.UTF-8", "PYTHONUTF8": "0"},
    )
    running = [
        subprocess.Popen(
            [sys.executable, "-c", _BUILD, umask],
            stdout=subprocess.PIPE,
            text=True,
            cwd=_ROOT,
            env={**os.environ, **changed, "HOME": str(tmp_path)},
        )
        for umask, changed in zip(("077", "000"), surroundings, strict=True)
    ]
    said = [process.communicate(timeout=60)[0].strip() for process in running]
    assert said == [fingerprint()] * 2
