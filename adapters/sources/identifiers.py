"""Direct identifiers in a site's own source, found by explicit lists: header fields, columns, file names.

The lists follow the HIPAA safe harbour (45 CFR 164.514(b)(2)) and, for DICOM, the patient and personnel attributes of
the Basic Application Level Confidentiality Profile (PS3.15, table E.1-1). A list finds what is named as such; a name
that somebody wrote into a description it does not find. What is found is told by number alone: names of files and
columns are for the site's own people.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from adapters.home import SourceConfig, TableLayout
from adapters.sources.dicom import silent_pydicom
from adapters.sources.findings import UnusableError
from adapters.sources.labels import FILE_NAME as LABELS
from adapters.sources.table_rows import table_rows
from adapters.sources.volumes import FILE_NAME as PATIENTS

DICOM_FIELDS: Final = (
    "PatientName", "PatientBirthDate", "PatientBirthTime", "PatientBirthName", "PatientMotherBirthName",
    "OtherPatientIDs", "OtherPatientNames", "PatientAddress", "PatientTelephoneNumbers",
    "PatientTelecomInformation", "MedicalRecordLocator", "MilitaryRank", "BranchOfService",
    "PatientReligiousPreference", "CountryOfResidence", "RegionOfResidence", "ResponsiblePerson",
    "ResponsibleOrganization", "PatientComments", "AdditionalPatientHistory", "IssuerOfPatientID",
    "ReferringPhysicianName", "ReferringPhysicianAddress", "ReferringPhysicianTelephoneNumbers",
    "PerformingPhysicianName", "NameOfPhysiciansReadingStudy", "OperatorsName", "PhysiciansOfRecord",
    "RequestingPhysician", "PersonName", "PersonAddress", "PersonTelephoneNumbers",
)  # fmt: skip
COLUMNS: Final = frozenset(
    (
        "name", "patient_name", "first_name", "last_name", "given_name", "middle_name", "family_name", "surname",
        "maiden_name", "full_name", "birth_date", "birthdate", "date_of_birth", "dob", "address", "street", "city",
        "zip", "zip_code", "postcode", "postal_code", "phone", "phone_number", "telephone", "mobile", "fax", "email",
        "e_mail", "ssn", "social_security_number", "mrn", "medical_record_number", "health_plan_number",
        "insurance_number", "account_number", "license_number", "passport", "passport_number", "ip_address", "url",
        "photo",
    )
)  # fmt: skip
FILE_WORDS: Final = frozenset(("mrn", "ssn", "dob", "patientname", "passport"))
_REMOVED: Final = frozenset(("", "ANONYMOUS", "ANONYMIZED", "ANONYMISED", "DEIDENTIFIED", "REMOVED"))
_DATE: Final = re.compile(
    r"(?<!\d)(19|20)\d\d[-_.]?(0[1-9]|1[0-2])[-_.]?(0[1-9]|[12]\d|3[01])(?!\d)", re.ASCII
)
_NO_WORD: Final = re.compile(r"[^a-z0-9]+", re.ASCII)


def in_headers(config: SourceConfig, source: Path) -> int:
    """How many DICOM files name a person, beside the identifier that stands for the patient; 0 of other sources."""
    if config.kind != "dicom":
        return 0
    with silent_pydicom():
        return sum(_names_somebody(path) for path in _files(source))


def in_columns(config: SourceConfig, source: Path, statistics: tuple[Path, TableLayout] | None) -> int:
    """How many columns of the source's tables and lists, and of the table for `statistics`, are named like direct
    identifiers."""
    tables = list[tuple[Path, str]]()
    if statistics is not None:
        tables.append((statistics[0], statistics[1].patient_column))
    if config.kind == "table":
        layout = config.table
        tables.append((source, "patient_id" if layout is None else layout.patient_column))
    tables += [(source / name, "patient_id") for name in (LABELS, PATIENTS) if source.is_dir()]
    return sum(_columns(path, patient) for path, patient in tables if path.is_file())


def in_names(source: Path) -> int:
    """How many files or folders below the source have a date, or a word for an identifier, in their name."""
    if source.is_file():
        return int(_telling(source.name))
    return sum(any(_telling(part) for part in path.relative_to(source).parts) for path in _files(source))


def _names_somebody(path: Path) -> bool:
    from pydicom import dcmread

    try:
        data = dcmread(path, specific_tags=[*DICOM_FIELDS, "PatientID"], stop_before_pixels=True)
        allowed = _REMOVED | {str(data.get("PatientID", "")).strip().upper()}
        # Also within sequences: a referring physician's name may stand in one.
        return any(
            str(element.value).strip().upper() not in allowed
            for element in data.iterall()
            if element.keyword in DICOM_FIELDS
        )
    except Exception:  # what cannot be read is the adapter's finding, not ours
        return False


def _columns(path: Path, patient_column: str) -> int:
    try:
        header: Sequence[str] = (table_rows(path) or [[]])[0]
    except UnusableError:
        return 0  # the adapter's finding
    return sum(
        text.strip() != patient_column and _NO_WORD.sub("_", text.strip().lower()).strip("_") in COLUMNS
        for text in header
    )


def _telling(name: str) -> bool:
    words = set(_NO_WORD.sub(" ", name.lower()).split())
    return bool(words & FILE_WORDS) or _DATE.search(name) is not None


def _files(folder: Path) -> Iterator[Path]:
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if not name.startswith("."):
                yield Path(parent, name)
