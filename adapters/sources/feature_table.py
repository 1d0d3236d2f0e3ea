"""A site's table of features as a cohort: one row a patient or a visit, under the plan's `data.table`.

    patient_id,age,sex,chest-pain,disease
    INVENTED-0001,63,male,asymptomatic,1
    INVENTED-0002,,female,typical-angina,0

What a row becomes, each value by itself, with nothing learned from the other rows:

    number    clipped to the plan's [lower, upper] and scaled to [-1, 1]; a missing one is 0.0, the middle
    word      one value a category of the plan, 1.0 at the one that is there; of a missing one all are 0.0
    label     one of the plan's two, as a whole number; a missing one is refused

Columns are found as `table_rows` says; what a field says may stand for another word (`FeatureLayout.words`), and
words are compared as plans write them, in lower case with hyphens. A word that the plan does not list is refused
rather than taken for a missing one. A patient may have several rows, whose labels may differ. Columns that the plan
does not name are not looked at, but for sex, age and race, of the subgroups. Every finding is collected before the
table is refused.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from adapters.home import FeatureLayout
from adapters.sources.assembly import assemble
from adapters.sources.cohort import Cohort
from adapters.sources.findings import DataRefusedError, Findings, UnusableError
from adapters.sources.table_rows import find_columns, is_number, patient_rows, plain, table_rows
from policies.data_contract import DataContract, Feature, FeatureTable, NumberFeature
from privacy.histogram import KINDS, Kind

_WHOLE: Final = re.compile(r"(-?[0-9]{1,3})(\.0*)?")


class FeatureTableSource:
    """The CSV or Parquet file at `path`, for site `site`; `secret` keys its patients (16 bytes or more)."""

    def __init__(self, path: Path, *, site: str, secret: bytes, layout: FeatureLayout | None = None) -> None:
        self._path, self._site, self._secret = path, site, secret
        self._layout = FeatureLayout() if layout is None else layout

    def load(self, contract: DataContract) -> Cohort:
        """Read every row.

        Raises DataRefusedError: data.kind (a plan that learns from images), data.missing,
        data.table-unreadable, data.table-columns, data.empty, data.secret, or every fault of the rows
        (data.table-row, -patient, -number, -word, -label) by its code; rows are named at the site alone.
        """
        if contract.table is None:
            raise DataRefusedError(
                f"site {self._site}: the plan learns from images, and the site's source is a table.",
                code="data.kind",
                remedy="Name a source of images, or use a plan with data.table.",
            )
        header, *rows = self._rows() or [[]]
        places = self._places(contract.table, header)
        told_at = {kind: self._told_at(header, kind) for kind in KINDS}
        findings = Findings(self._site)
        inputs: list[NDArray[np.float32]] = []
        labels: list[int] = []
        identifiers: list[str] = []
        said: dict[Kind, list[str]] = {kind: [] for kind in KINDS}
        named = patient_rows(
            rows, width=len(header), patient_at=places[0], path=self._path, findings=findings
        )
        for where, identifier, fields in named:
            identifiers.append(identifier)
            texts = [fields[place] for place in places[1:-1]]
            inputs.append(self._values(contract.table.features, texts, where=where, findings=findings))
            labels.append(self._label(contract, fields[places[-1]], where=where, findings=findings))
            for kind, place in told_at.items():
                said[kind].append("" if place is None else meant(self._layout, kind, fields[place]))
        findings.refuse()
        return assemble(
            contract,
            site=self._site,
            secret=self._secret,
            inputs=np.stack(inputs) if inputs else np.zeros((0, *contract.shape), np.float32),
            labels=labels,
            identifiers=identifiers,
            sexes=said["sex"],
            ages=said["age"],
            races=said["race"],
        )

    def _rows(self) -> list[list[str]]:
        try:
            return table_rows(self._path)
        except UnusableError as unusable:
            code, detail = unusable.code, unusable.detail
        raise DataRefusedError(
            f"site {self._site}: the table {detail}.",
            code=code,
            remedy="Name a CSV file in UTF-8, or a Parquet file, under source.path in institution.yaml.",
            diagnostics=str(self._path),
        )

    def _places(self, table: FeatureTable, header: Sequence[str]) -> list[int]:
        """Of the patient, of each feature, of the label; refuses naming every column that is not there once."""
        names = [*(feature.name for feature in table.features), table.label]
        places, lacking = find_columns(self._layout, header, names)
        if lacking:
            raise DataRefusedError(
                f"site {self._site}: the table has not exactly one column for {', '.join(lacking)}.",
                code="data.table-columns",
                remedy="Write them, or name their headers under source.table.columns in institution.yaml.",
                diagnostics=str(self._path),
            )
        return places

    def _told_at(self, header: Sequence[str], kind: Kind) -> int | None:
        """Where the sex, age or race stands, if it does; nobody must record one."""
        layout = self._layout
        given = {"sex": layout.sex_column, "age": layout.age_column, "race": layout.race_column}[kind]
        wanted = layout.columns.get(kind) if given is None else given
        named = [place for place, text in enumerate(header) if text.strip() == wanted]
        called = [place for place, text in enumerate(header) if plain(text) == kind]
        found = called if wanted is None else named
        return found[0] if len(found) == 1 else None

    def _values(
        self, features: Sequence[Feature], texts: Sequence[str], *, where: str, findings: Findings
    ) -> NDArray[np.float32]:
        """One row as the network sees it, (values,); faulty fields are 0.0 and among the findings."""
        values, faults = feature_values(self._layout, features, texts)
        for code, column in faults:
            findings.add(code, f"{where}, column {column}")
        return values

    def _label(self, contract: DataContract, text: str, *, where: str, findings: Findings) -> int:
        name = "label" if contract.table is None else contract.table.label
        whole = _WHOLE.fullmatch(meant(self._layout, name, text))
        label = None if whole is None else int(whole[1])
        if label is None or label not in contract.labels:
            findings.add("data.table-label", where)
            return contract.labels[0]
        return label


def feature_values(
    layout: FeatureLayout, features: Sequence[Feature], texts: Sequence[str]
) -> tuple[NDArray[np.float32], list[tuple[str, str]]]:
    """One row as the network sees it, (values,), and code and column of each faulty field; its values are 0.0."""
    values: list[float] = []
    faults: list[tuple[str, str]] = []
    for feature, text in zip(features, texts, strict=True):
        known = meant(layout, feature.name, text)
        if isinstance(feature, NumberFeature):
            usable = not known or is_number(known)
            values.append(_scaled(feature, float(known)) if known and usable else 0.0)
        else:
            word = plain(known)
            usable = not word or word in feature.categories
            values += [float(word == category) for category in feature.categories]
        if not usable:
            code = "data.table-number" if isinstance(feature, NumberFeature) else "data.table-word"
            faults.append((code, feature.name))
    return np.array(values, np.float32), faults


def meant(layout: FeatureLayout, column: str, text: str) -> str:
    """What a field stands for; an empty text for a missing value."""
    stripped = text.strip()
    if not stripped or stripped in layout.missing:
        return ""
    return layout.words.get(column, {}).get(stripped, stripped)


def _scaled(feature: NumberFeature, number: float) -> float:
    """To [-1, 1] by the plan's bounds, to which the number is clipped."""
    scaled = 2.0 * (number - feature.lower) / (feature.upper - feature.lower) - 1.0
    return min(max(scaled, -1.0), 1.0)
