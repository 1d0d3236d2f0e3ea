"""The shape that every document crossing an institution shares: frozen, closed, canonical, digestible.

Lives here: the base model, reading YAML or JSON into one, and the report that names every wrong field at
once. The documents themselves live in `plan`, `federation`, `events` and `receipt`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Hashable
from typing import Annotated, Any, Final, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from yaml.constructor import ConstructorError

from ledger import canonical
from ledger.errors import InputError

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,62}$")]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Origin = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9./-]{0,199}$")]
"""The origin line of a log."""
Base64 = Annotated[str, Field(pattern=r"^[A-Za-z0-9+/]{1,4096}={0,2}$")]
ConsentVersion = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9.-]{0,63}$")]
PositiveFloat = Annotated[float, Field(gt=0, le=1e6)]
Fraction = Annotated[float, Field(gt=0, lt=1)]


_EXPONENT: Final = re.compile(r"([+-]?)([0-9]{1,9})(?:\.([0-9]{0,9}))?[eE]([+-]?)([0-9]{1,4})")


class MalformedDocumentError(InputError):
    code = "document.malformed"


class Document(BaseModel):
    """A frozen model whose canonical bytes (RFC 8785) name it by digest."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, validate_by_name=True
    )

    def to_json(self) -> dict[str, canonical.JsonValue]:
        value: dict[str, canonical.JsonValue] = self.model_dump(mode="json", by_alias=True)
        return value

    def canonical_bytes(self) -> bytes:
        return canonical.encode(self.to_json())

    def content_digest(self) -> str:
        """SHA-256 of the canonical bytes, lower-case hex."""
        return canonical.digest(self.canonical_bytes())

    def with_fields(self, fields: dict[str, canonical.JsonValue]) -> Self:
        """A copy with some fields replaced, validated like any other document."""
        return self.from_value({**self.to_json(), **fields}, what=type(self).__name__.lower())

    @classmethod
    def from_value(cls, value: object, *, what: str) -> Self:
        """Validate a parsed JSON or YAML value; every wrong field is named in one error."""
        try:
            # JSON mode: a list may stand for a tuple, as it must in YAML and JSON.
            # Not canonical form: a NaN or a YAML date must be named by its field, not refused as a whole.
            return cls.model_validate_json(json.dumps(value, default=str), strict=True)
        except ValidationError as error:
            raise MalformedDocumentError(
                f"{what}: {_fields(error)}", remedy="Correct these fields.", code=f"{_slug(what)}.malformed"
            ) from None

    @classmethod
    def from_canonical(cls, data: bytes, *, what: str) -> Self:
        """Validate received bytes, which must be canonical."""
        return cls.from_value(canonical.decode(data), what=what)

    @classmethod
    def from_yaml(cls, text: str, *, what: str) -> Self:
        return cls.from_value(mapping_of(text, what=what), what=what)


def mapping_of(text: str, *, what: str) -> dict[str, object]:
    """The fields of a document written as YAML, not validated yet.

    MalformedDocumentError: no YAML, no mapping, a key twice, or a value that holds itself.
    """
    code = f"{_slug(what)}.malformed"
    try:
        value = _Strict(text).get_single_data()
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}" if mark is not None else ""
        if isinstance(error, _KeyTwiceError):
            raise MalformedDocumentError(
                f"{what}: {error.problem}{where}", remedy="Leave one of them.", code=code
            ) from None
        raise MalformedDocumentError(
            f"{what}: not valid YAML{where}", remedy="Correct the syntax.", code=code
        ) from None
    except (RecursionError, ValueError):  # nested without end; a date or number that is none
        raise MalformedDocumentError(
            f"{what}: a value cannot be read", remedy="Correct the syntax.", code=code
        ) from None
    if not isinstance(value, dict):
        raise MalformedDocumentError(
            f"{what}: expected a mapping of fields", remedy="See `wardround plan new`.", code=code
        )
    return value


class _KeyTwiceError(ConstructorError):
    """A key that stands twice: YAML forbids it, and PyYAML takes the last."""


class _Strict(yaml.SafeLoader):
    """What a document may hold: every key once, and nothing that holds itself."""

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self.deep_construct = True  # whole values at once: one that holds itself is refused, with its line

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set[str]()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise ConstructorError(None, None, "a key that is no word", key.start_mark)
            if key.value in seen:
                said = f"the key {key.value[:64]!a} stands twice"
                raise _KeyTwiceError(None, None, said, key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep=deep)


def _slug(what: str) -> str:
    return what.split()[0].lower()


def _fields(error: ValidationError) -> str:
    """Every wrong field with what is wrong with it; the values themselves are not repeated, but for a number that
    was read as text."""
    lines = []
    for item in error.errors(include_url=False, include_context=False):
        where = ".".join(str(part) for part in item["loc"]) or "document"
        number = _meant(item["input"]) if item["type"] in ("float_type", "int_type") else None
        instead = "" if number is None else f", and YAML reads this one as text: write {number}"
        lines.append(f"{where}: {item['msg'].removeprefix('Value error, ')}{instead}")
    return "; ".join(lines)


def _meant(value: object) -> str | None:
    """A number with an exponent as YAML 1.1 reads one, with a point and a sign; None of anything else."""
    found = _EXPONENT.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        return None
    sign, whole, fraction, direction, exponent = found.groups()
    return f"{sign}{whole}.{fraction or '0'}e{direction or '+'}{exponent}"
