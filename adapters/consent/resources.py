"""A FHIR file as JSON: which resources it holds, where each stands, and how to look into one.

    one resource | a Bundle, its entries | one resource or Bundle a line (NDJSON)

Strict JSON: a name that is there twice, NaN and Infinity are refused. What a resource says is the business of
`adapters.consent.fhir`; no error repeats anything of the content.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from adapters.consent.reading import ConsentFileError
from ledger.canonical import JsonValue

Object = dict[str, JsonValue]


@dataclass(frozen=True, slots=True)
class Resource:
    """`where`: its place in the file; `url`: its fullUrl in a Bundle, or empty."""

    where: str
    url: str
    value: Object


def resources_of(text: str) -> Iterator[Resource]:
    """Every resource of the file. Raises ConsentFileError."""
    whole, value = _parsed(text)
    if whole:
        yield from _unbundled("", value)
        return
    lines = [(number, line) for number, line in enumerate(text.split("\n"), start=1) if line.strip()]
    parsed = [(number, *_parsed(line)) for number, line in lines]
    broken = [f"line {number}" for number, sound, _ in parsed if not sound]
    if len(broken) == len(parsed) or len(parsed) == 1:
        raise ConsentFileError("the file is not JSON", remedy="Export it again as FHIR JSON or NDJSON.")
    if broken:
        more = f" and {len(broken) - 5} more" if len(broken) > 5 else ""
        raise ConsentFileError(
            f"not JSON: {', '.join(broken[:5])}{more}", remedy="Export it again; it may have been cut off."
        )
    for number, _, value in parsed:
        yield from _unbundled(f"line {number}", value)


def _unbundled(where: str, value: JsonValue) -> Iterator[Resource]:
    place = where or "the resource"
    if not isinstance(value, dict) or not isinstance(value.get("resourceType"), str):
        raise ConsentFileError(
            f"{where or 'the file'} is no FHIR resource", remedy="Export Consent resources as FHIR JSON."
        )
    if value["resourceType"] != "Bundle":
        yield Resource(place, "", value)
        return
    entries = value.get("entry", [])
    for number, entry in enumerate(entries if isinstance(entries, list) else [entries], start=1):
        inner = entry.get("resource") if isinstance(entry, dict) else None
        place = f"{where} entry {number}".strip()
        if not isinstance(entry, dict) or not isinstance(inner, dict):
            raise ConsentFileError(f"{place} has no resource", remedy="Export the Bundle with its resources.")
        yield Resource(place, text_of(entry, "fullUrl"), inner)


def patients_of(resources: Sequence[Resource]) -> dict[str, list[Object]]:
    """Identifiers of the file's Patient resources, by what a reference to one may say."""
    found: dict[str, list[Object]] = {}
    for resource in resources:
        value = resource.value
        if value.get("resourceType") == "Patient":
            for name in (resource.url, f"Patient/{text_of(value, 'id')}"):
                if name and name != "Patient/":
                    found.setdefault(name, []).extend(objects_of(value, "identifier"))
    return found


def _parsed(text: str) -> tuple[bool, JsonValue]:
    try:
        value: JsonValue = json.loads(text, object_pairs_hook=_distinct, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return False, None
    return True, value


def _distinct(pairs: list[tuple[str, JsonValue]]) -> Object:
    """A name that is there twice could say `active` to one reader and `rejected` to another."""
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a name is there twice")
    return value


def _no_constant(_: str) -> JsonValue:
    raise ValueError("NaN and Infinity are no JSON")


def text_of(value: Object, name: str) -> str:
    found = value.get(name)
    return found.strip() if isinstance(found, str) else ""


def object_of(value: Object, name: str) -> Object:
    found = value.get(name)
    return found if isinstance(found, dict) else {}


def objects_of(value: Object, name: str) -> list[Object]:
    found = value.get(name)
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def codes_of(concept: Object, system: str | None) -> list[str]:
    """Codes of a CodeableConcept, of one system or of all."""
    codings = [
        one for one in objects_of(concept, "coding") if system is None or text_of(one, "system") == system
    ]
    return [code for code in (text_of(coding, "code") for coding in codings) if code]
