"""What a record says of a patient → the groups that evaluations tell apart (`privacy.histogram.SUBGROUPS`).

Groups and their bounds come from knowledge, never from a site's data, and everybody is in exactly one of each kind:
whom a record does not place, or places elsewhere, is in `OTHER`. Which column of a table says what is the adapters'.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from adapters.sources.table_rows import is_number, plain
from privacy.histogram import KINDS, OTHER, SUBGROUPS, Kind

OLDER_YEARS: Final = 60
"""Whom the United Nations count as older persons."""
_SEXES: Final = {"f": "female", "female": "female", "m": "male", "male": "male"}
_RACES: Final = {
    "white": "white", "caucasian": "white",
    "black": "black", "african-american": "black", "black-or-african-american": "black",
}  # fmt: skip


def groups_of(said: Mapping[Kind, Sequence[str] | None], *, items: int) -> NDArray[np.int8]:
    """(items, kinds): by what the records say of each kind, one text an item; nothing is said of a kind that is None
    or not there."""
    groups = np.empty((items, len(KINDS)), np.int8)
    for column, kind in enumerate(KINDS):
        names, texts = SUBGROUPS[kind], said.get(kind)
        placed = [OTHER] * items if texts is None else [_PLACES[kind](text) for text in texts]
        groups[:, column] = [names.index(name) for name in placed]
    return groups


def _of_sex(text: str) -> str:
    return _SEXES.get(plain(text), OTHER)


def _of_age(text: str) -> str:
    """Of years, in decimals; what is no age is of nobody's band."""
    years = float(text) if is_number(text.strip()) else -1.0
    if not 0 <= years <= 150:
        return OTHER
    return "60-and-over" if years >= OLDER_YEARS else "under-60"


def _of_race(text: str) -> str:
    return _RACES.get(plain(text), OTHER)


_PLACES: Final[Mapping[Kind, Callable[[str], str]]] = {"sex": _of_sex, "age": _of_age, "race": _of_race}
