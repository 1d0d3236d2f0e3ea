"""The words of a rules file, with the lines they stand on, and the rules that they make up.

Narrower than Rego, so that nothing is read here otherwise than by the engine: no backquoted strings, no escapes, no
fractions, and every rule begins at the beginning of a line. What the words may say is `policies.rego_subset`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from policies.rego_sources import RulesInvalidError

LARGEST_NUMBER: Final = 2**53 - 1
_TOKEN: Final = re.compile(
    r'(?P<comment>#[^\n]*)|(?P<space>[ \t\n]+)|(?P<text>"[^"\\\n]*")|(?P<number>[0-9]+)'
    r"|(?P<path>[A-Za-z_]\w*(?:[ \t\n]*\.[ \t\n]*[A-Za-z_]\w*)*)|(?P<mark>:=|==|!=|<=|>=|[{}\[\](),:;=<>+*.-])",
    re.ASCII,
)
_OPENING, _CLOSING = "{[(", "}])"


@dataclass(frozen=True, slots=True)
class Token:
    kind: str
    """text, number, path or mark."""
    text: str
    line: int
    column: int
    first_on_line: bool


def refused(name: str, line: int, what: str, code: str) -> RulesInvalidError:
    return RulesInvalidError(f"{name}, line {line}: {what}", remedy="Correct the rule.", code=code)


def statements(name: str, text: str, *, largest: int = LARGEST_NUMBER) -> list[list[Token]]:
    """The package clause, imports, defaults and rules of a file, each as its words. Tests name larger numbers."""
    found: list[list[Token]] = []
    depth = 0
    for token in _tokens(name, text, largest):
        if depth == 0 and token.first_on_line and token.text not in _CLOSING:
            if token.column or token.kind != "path":
                raise refused(name, token.line, "a rule begins at the beginning of its line", "rules.syntax")
            found.append([])
        if depth == 0 and token.text == ";":
            raise refused(name, token.line, "one rule a line", "rules.syntax")
        found[-1].append(token)
        if token.kind == "mark":
            depth += (token.text in _OPENING) - (token.text in _CLOSING)
        if depth < 0:
            raise refused(name, token.line, f"{token.text} closes nothing", "rules.syntax")
    if depth:
        raise refused(name, found[-1][0].line, "a bracket of this rule is not closed", "rules.syntax")
    return found


def _tokens(name: str, text: str, largest: int) -> list[Token]:
    found: list[Token] = []
    position, line, begins = 0, 1, 0
    previous_line = 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise refused(name, line, f"{text[position]!r} is not read here", "rules.syntax")
        kind, word = str(match.lastgroup), match.group()
        if kind not in ("comment", "space"):
            said = re.sub(r"\s", "", word) if kind == "path" else word
            token = Token(kind, said, line, position - begins, line != previous_line)
            _check(name, token, found, largest)
            found.append(token)
            previous_line = line + word.count("\n")
        line += word.count("\n")
        if "\n" in word:
            begins = position + word.rindex("\n") + 1
        position = match.end()
    return found


def _check(name: str, token: Token, before: list[Token], largest: int) -> None:
    if token.kind == "number" and (int(token.text[:20]) > largest or token.text != str(int(token.text[:20]))):
        raise refused(name, token.line, f"{token.text[:20]} is no number from 0 to 2^53-1", "rules.syntax")
    if token.text == "." and (not before or before[-1].text not in ("]", ")")):
        raise refused(name, token.line, "there are whole numbers only", "rules.syntax")
