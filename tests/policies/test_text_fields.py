"""No event has a field that could hold free text from a hospital: docs/ledger-privacy.md rests on this."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Any

import pytest
from pydantic import Field

from policies.admission import violations_of
from policies.document import Document
from policies.events import TYPES
from policies.opening import Opening

BODIES = [body for bodies in TYPES.values() for body in bodies]
PROSE = ("Jane Doe", "born 1970-01-01, ward 3", "MRN:12345", "Ärztin", "line\nbreak", "a_b", "x@y")


def nodes(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every node of a JSON schema that describes a value, with where it is."""
    definitions = schema.get("$defs", {})

    def walk(node: dict[str, Any], where: str, seen: tuple[str, ...]) -> Iterator[tuple[str, dict[str, Any]]]:
        if "$ref" in node:
            name = node["$ref"].rpartition("/")[2]
            if name not in seen:
                yield from walk(definitions[name], where, (*seen, name))
            return
        yield where, node
        for key, child in node.get("properties", {}).items():
            yield from walk(child, f"{where}.{key}", seen)
        for child in (*node.get("prefixItems", ()), *node.get("anyOf", ()), *node.get("oneOf", ())):
            yield from walk(child, where, seen)
        for key in ("propertyNames", "additionalProperties"):
            if isinstance(node.get(key), dict):
                yield from walk(node[key], f"{where}.{key}", seen)
        if isinstance(node.get("items"), dict):
            yield from walk(node["items"], f"{where}[]", seen)

    yield from walk(schema, path, ())


def open_fields(model: type[Document]) -> list[str]:
    """Where a document could hold what nobody listed or bounded."""
    found = []
    for where, node in nodes(model.model_json_schema(), model.__name__):
        kind = node.get("type")
        named = "propertyNames" in node  # whose own node is looked at too
        if kind == "object" and not named and node.get("additionalProperties") is not False:
            found.append(f"{where}: takes other fields")
        if kind == "string" and not closed(node):
            found.append(f"{where}: a string without a closed pattern")
        if kind is None and not node.keys() & {"anyOf", "oneOf", "const", "enum"}:
            found.append(f"{where}: of any type")
    return found


def closed(node: dict[str, Any]) -> bool:
    """A constant, one of a list, or a bounded pattern without room for prose."""
    if "const" in node or "enum" in node:
        return True
    pattern = node.get("pattern", "")
    whole = pattern.startswith("^") and pattern.endswith("$")
    unbounded = re.search(r"[*+](?![^\[]*\])|\{\d+,\}", re.sub(r"\\.", "", pattern))
    return whole and not unbounded and not any(re.search(pattern, text) for text in PROSE)


@pytest.mark.parametrize("body", BODIES, ids=lambda body: body.__name__)
def test_no_event_has_room_for_free_text(body: type[Document]) -> None:
    assert open_fields(body) == []


def test_nor_has_what_the_key_holders_sign() -> None:
    assert open_fields(Opening) == []


def test_the_search_finds_what_it_is_for() -> None:
    class Loose(Document):
        note: str
        comment: Annotated[str, Field(pattern=r"^[a-z ]+$")]
        title: Annotated[str, Field(max_length=40)]
        name: Annotated[str, Field(pattern=r"^[a-z]{1,8}$")]
        extra: dict[str, str]

    assert [line.partition(":")[0] for line in open_fields(Loose)] == [
        "Loose.note",
        "Loose.comment",
        "Loose.title",
        "Loose.extra",
        "Loose.extra.additionalProperties",
    ]


def test_every_body_that_is_known_is_admitted_by_name() -> None:
    """A body without a case in admission would pass unread."""
    names = {body.__name__ for body in BODIES}
    assert names <= set(violations_of.__code__.co_names), "admission has no case for it"
