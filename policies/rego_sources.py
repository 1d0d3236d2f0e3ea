"""The files of a rules folder, read with every doubt: plain, small, UTF-8 and printable, or not at all.

What may stand in them is `policies.rego_subset`; compiling and asking, `policies.rego`.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from ledger.errors import InputError

LARGEST_FILE_BYTES: Final = 256 * 1024
TEST_SUFFIX: Final = "_test.rego"
_UNPRINTABLE: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff]")
"""Also carriage returns, which would end a comment for the engine alone, and marks that turn a line around."""


class RulesInvalidError(InputError):
    """Rules that are not loaded: nothing is judged by them."""

    code = "rules.invalid"


def read_sources(folder: Path) -> dict[str, str]:
    """File name → text of every rule in the folder, `*_test.rego` left out."""
    found = {
        path.name: _text(path)
        for path in sorted(folder.glob("*.rego"))
        if not path.name.endswith(TEST_SUFFIX)
    }
    if not found:
        raise RulesInvalidError(f"there are no rules in {folder}", code="rules.none")
    return found


def read_tests(folder: Path) -> dict[str, str]:
    """File name → text of every `*_test.rego`."""
    return {path.name: _text(path) for path in sorted(folder.glob(f"*{TEST_SUFFIX}"))}


def _text(path: Path) -> str:
    if path.is_symlink() or not path.is_file():
        raise RulesInvalidError(f"{path} is not a plain file")
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST_FILE_BYTES + 1)
    except OSError as error:
        raise RulesInvalidError(f"{path} cannot be read ({type(error).__name__})") from None
    if len(data) > LARGEST_FILE_BYTES:
        raise RulesInvalidError(f"{path} is larger than {LARGEST_FILE_BYTES} bytes")
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise RulesInvalidError(f"{path} is not UTF-8") from None
    if hidden := _UNPRINTABLE.search(text):
        line = text.count("\n", 0, hidden.start()) + 1
        raise RulesInvalidError(
            f"{path}, line {line}: the character U+{ord(hidden.group()):04X} has no place in a rule",
            remedy="Remove it. Lines end with a line feed alone.",
        )
    return text
