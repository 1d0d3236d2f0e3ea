"""The sources of a rules folder: read, and held against what a rule may name.

Rego takes a name that is defined nowhere for undefined, so that `violation if misspelt > 3` would never refuse
anything. Here every name of a rule is looked up: a keyword, a rule or function of the folder, an allowed built-in,
or something that the rule itself brings in. Compiling and asking lives in `policies.rego`. Only the subset of Rego
that these rules need is read: no `with` (tests mock with it, and tests are not rules), no backquoted strings, no
`data` of others.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ledger.errors import InputError

LARGEST_FILE_BYTES: Final = 256 * 1024
TEST_SUFFIX: Final = "_test.rego"
ROOT: Final = "wardround"
_KEYWORDS: Final = frozenset(
    ("as", "contains", "default", "else", "every", "false", "if", "import", "in", "input", "not", "null", "package",
     "some", "true")
)  # fmt: skip
_TOKEN: Final = re.compile(
    r'(?P<comment>#[^\n]*)|(?P<text>"(?:[^"\\\n]|\\.)*")|(?P<raw>`)|(?P<assign>:=)'
    r"|(?P<path>[A-Za-z_]\w*(?:\s*\.\s*[A-Za-z_]\w*)*)|(?P<other>.|\n)",
    re.ASCII,
)


class RulesInvalidError(InputError):
    """Rules that are not loaded: nothing is judged by them."""

    code = "rules.invalid"


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    line: int
    at_line_start: bool


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
    data = path.read_bytes()
    if len(data) > LARGEST_FILE_BYTES:
        raise RulesInvalidError(f"{path} is larger than {LARGEST_FILE_BYTES} bytes")
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise RulesInvalidError(f"{path} is not UTF-8") from None


def check_names(sources: Mapping[str, str], built_ins: frozenset[str]) -> None:
    """Raise RulesInvalidError, naming file and line, for the first name that is defined nowhere or not allowed."""
    tokens = {name: _tokens(name, text) for name, text in sources.items()}
    packages: dict[str, set[str]] = {}
    for name, listed in tokens.items():
        packages.setdefault(_package(name, listed), set()).update(_defined(listed))
    for name, listed in tokens.items():
        _check_file(name, listed, packages, built_ins)


def _tokens(name: str, text: str) -> list[_Token]:
    found, line, fresh = [], 1, True
    for match in _TOKEN.finditer(text):
        kind, token = str(match.lastgroup), match.group()
        if kind == "raw":
            raise _refused(name, line, "backquoted strings are not read here", "rules.syntax")
        if kind == "path":
            token = re.sub(r"\s", "", token)
        if kind in ("path", "assign", "text") or (kind == "other" and not token.isspace()):
            found.append(_Token(kind, token, line, fresh))
        line += match.group().count("\n")
        fresh = match.group().endswith("\n")
    return found


def _package(name: str, tokens: list[_Token]) -> str:
    if len(tokens) < 2 or tokens[0].text != "package" or not tokens[1].text.startswith(f"{ROOT}."):
        raise _refused(name, 1, f"a rules file begins with `package {ROOT}.<name>`", "rules.syntax")
    return tokens[1].text


def _defined(tokens: list[_Token]) -> set[str]:
    """Names of the rules and functions of a file: what stands at the beginning of a line outside of any braces."""
    names, depth = set(), 0
    for number, token in enumerate(tokens):
        depth += (token.text in "{[(") - (token.text in "}])") if token.kind == "other" else 0
        if depth or not token.at_line_start or token.kind != "path":
            continue
        subject = tokens[number + 1] if token.text == "default" and number + 1 < len(tokens) else token
        if subject.text not in _KEYWORDS:
            names.add(subject.text)
    return names


def _check_file(
    name: str, tokens: list[_Token], packages: Mapping[str, set[str]], built_ins: frozenset[str]
) -> None:
    package = _package(name, tokens)
    imported: dict[str, str] = {}
    local: set[str] = set()
    skip = 2
    for number, token in enumerate(tokens):
        before = tokens[number - 1].text if number else ""
        after = tokens[number + 1] if number + 1 < len(tokens) else None
        if token.at_line_start and token.kind == "path":
            local = _brought(tokens, number)
        if number < skip or token.kind != "path":
            continue
        if token.text == "import":
            skip = number + 2
            target = tokens[number + 1].text if after else ""
            if target != "rego.v1":
                if target.removeprefix("data.") not in packages:
                    raise _refused(
                        name, token.line, f"{target} is no package of these rules", "rules.undefined"
                    )
                imported[target.rpartition(".")[2]] = target.removeprefix("data.")
            continue
        if token.text == "with":
            raise _refused(name, token.line, "only tests replace what a rule is told", "rules.built-in")
        head, _, rest = token.text.partition(".")
        called = after is not None and after.text == "("
        if head == "data":
            owner, _, rule = token.text.removeprefix("data.").rpartition(".")
            known = rule in packages.get(owner, set())
        elif head in imported and rest:
            known = rest.partition(".")[0] in packages[imported[head]]
        elif token.text in built_ins and called:
            known = True
        else:
            known = head in _KEYWORDS or head in local or head in packages[package]
        # A key of an object literal, `{"a": 1}`, is a text; a bare word before a colon would be a variable.
        if not known and before != ".":
            kind = "rules.built-in" if called else "rules.undefined"
            raise _refused(name, token.line, f"{token.text} is not defined here", kind)


def _brought(tokens: list[_Token], start: int) -> set[str]:
    """What the rule that begins at `start` brings in: parameters, `some`, `every` and what is assigned with `:=`."""
    names: set[str] = set()
    end = next(
        (
            number
            for number in range(start + 1, len(tokens))
            if tokens[number].at_line_start and tokens[number].kind == "path"
        ),
        len(tokens),
    )
    rule = tokens[start:end]
    if len(rule) > 1 and rule[1].text == "(":
        closing = next((number for number, token in enumerate(rule) if token.text == ")"), len(rule))
        names |= {token.text for token in rule[2:closing] if token.kind == "path"}
    for number, token in enumerate(rule):
        if token.text in ("some", "every"):
            for following in rule[number + 1 :]:
                if following.text == "in" or following.kind == "assign":
                    break
                if following.kind == "path":
                    names.add(following.text)
        elif token.kind == "assign":
            names.add(rule[number - 1].text)
    return names


def _refused(name: str, line: int, what: str, code: str) -> RulesInvalidError:
    return RulesInvalidError(f"{name}, line {line}: {what}", remedy="Correct the rule.", code=code)
