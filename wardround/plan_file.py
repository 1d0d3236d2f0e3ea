"""A plan that a command writes for people to adapt: a new file, never over an existing one."""

from __future__ import annotations

import os
from pathlib import Path

from ledger.errors import InputError


class PlanOptionError(InputError):
    code = "usage.option"


class PlanExistsError(InputError):
    code = "plan.exists"


def write_new(out: Path, text: str) -> None:
    try:
        with out.open("x") as file:
            file.write(text)
    except FileExistsError:
        raise PlanExistsError(f"{out} exists and is left as it is", remedy="Choose another --out.") from None
    except OSError as error:
        raise PlanOptionError(
            f"cannot write {out}: {os.strerror(error.errno or 0)}", remedy="Choose another --out."
        ) from None
