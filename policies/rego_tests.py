"""Tests of the rules, written in Rego beside them (`<concept>_test.rego`) as OPA's own test runner reads them too.

The engine here forgets, within one question, that a `with input as` replaced the facts, and ends its process on
others (regopy 1.5.2). So it is never asked a test: a test is read here, and each of its conditions is one question to
the rules, with the facts that it names. That is read which a test needs:

    test_... if { ... }                      fails if one of its conditions does not hold
    name(a, b) if { ... }                    a name for several conditions
    [not] concept.rule with input as {...}   asks a rule, or a function: typed.natural(3)
    every x in [...] { ... }                 all of it for every element
    facts := {...}                           a name for a value
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ledger.canonical import JsonValue
from policies.rego import INSTALLED, Rules, compiled
from policies.rego_sources import RulesInvalidError, read_sources, read_tests
from policies.rego_subset import functions_and_rules
from policies.rego_tokens import Token, refused, statements

if TYPE_CHECKING:
    from regopy import Bundle, Interpreter

_LARGEST: Final = 2**60
_WORDS: Final[Mapping[str, JsonValue]] = {"true": True, "false": False, "null": None}
Names = Mapping[str, JsonValue]


@dataclass(frozen=True, slots=True)
class TestResult:
    file: str
    name: str
    passed: bool

    __test__ = False
    """Not for pytest to collect."""


def run_tests(folder: Path | None = None) -> tuple[TestResult, ...]:
    """Run every `*_test.rego` of a folder, by default the installed one, in the order in which they are written.

    Raises RulesInvalidError when the rules or the tests cannot be read, and when there are no tests at all.
    """
    folder = INSTALLED if folder is None else folder
    Rules.load(folder)
    tests = read_tests(folder)
    if not tests:
        raise RulesInvalidError(f"there are no tests of rules in {folder}", code="rules.no-tests")
    asked = _Asked(read_sources(folder))
    return tuple(result for name, text in tests.items() for result in _File(name, text, asked).results())


class _Asked:
    """The rules and functions of a folder, each of which can be asked by itself."""

    def __init__(self, sources: Mapping[str, str]) -> None:
        self.arguments = functions_and_rules(sources)
        probes = ["package wardround.probe", "import rego.v1"]
        self._entries: dict[str, str] = {}
        for number, (path, takes) in enumerate(self.arguments.items()):
            told = ", ".join(f"input.told[{index}]" for index in range(takes))
            # A function cannot be asked from outside.
            probes += [f"probe_{number} := data.{path}({told})"] if takes else []
            self._entries[path] = f"wardround/probe/probe_{number}" if takes else path.replace(".", "/")
        self._engine: Interpreter
        self._bundle: Bundle
        modules = {**sources, "probe.rego": "\n".join(probes) + "\n"}
        self._engine, self._bundle = compiled(modules, list(self._entries.values()))

    def holds(self, path: str, told: JsonValue) -> bool:
        """Whether the rule is defined and not false."""
        self._engine.set_input(told)
        (result,) = self._engine.query_bundle_entrypoint(self._bundle, self._entries[path]).results
        return result.expressions not in ([], [False])


@dataclass(slots=True)
class _File:
    """One file of tests."""

    name: str
    text: str
    asked: _Asked
    imported: dict[str, str] = field(default_factory=dict)
    values: dict[str, JsonValue] = field(default_factory=dict)
    rules: dict[str, list[Token]] = field(default_factory=dict)

    def results(self) -> list[TestResult]:
        for words in statements(self.name, self.text, largest=_LARGEST):
            self._take(words)
        tests = [name for name in self.rules if name.startswith("test_")]
        if not tests:
            raise RulesInvalidError(f"{self.name}: there is no test in it", code="rules.no-tests")
        return [TestResult(self.name, test, _Reading(self, self.rules[test]).rule(())) for test in tests]

    def _take(self, words: list[Token]) -> None:
        first, second = words[0], words[1] if len(words) > 1 else words[0]
        if first.text == "package" and second.text.endswith("_test"):
            return
        if first.text == "import":
            self.imported[second.text.rpartition(".")[2]] = second.text.removeprefix("data.")
        elif second.text == ":=":
            self.values[first.text] = _Reading(self, words, 2).value({})
        elif second.text in ("if", "(") and first.text not in self.rules:
            # Rego would take two tests of one name for one, which holds if either does.
            self.rules[first.text] = words
        else:
            raise refused(self.name, first.line, f"{first.text} is not read here", "rules.test-invalid")


class _Reading:
    """Goes through the words of one rule, and finds whether it holds."""

    def __init__(self, file: _File, words: list[Token], at: int = 0) -> None:
        self.file, self.words, self.at = file, words, at

    def rule(self, arguments: tuple[JsonValue, ...]) -> bool:
        """Whether the rule holds for these arguments."""
        self.at = 1
        names: list[str] = []
        if self._next_is("("):
            self.at += 1
            while not self._next_is(")"):
                names.append(self._word().text)
                self.at += self._next_is(",")
            self.at += 1
        if len(names) != len(arguments):
            raise self._wrong(f"takes {len(names)} arguments")
        self._expect("if")
        known = dict(zip(names, arguments, strict=True))
        held = self._block(known) if self._next_is("{") else self._condition(known)
        if self.at != len(self.words):
            raise self._wrong("is not read here")
        return held

    def _block(self, names: Names) -> bool:
        """All conditions are read, whether an earlier one holds or not."""
        self._expect("{")
        held = True
        while not self._next_is("}"):
            held &= self._condition(names)
            self.at += self._next_is(";")
        self.at += 1
        return held

    def _condition(self, names: Names) -> bool:
        if self._next_is("every"):
            return self._every(names)
        negated = self._next_is("not")
        self.at += negated
        token = self._word()
        arguments = tuple(self._list(names, "(", ")")) if self._next_is("(") else None
        if token.text in self.file.rules:
            if self._next_is("with"):
                raise self._wrong("stands behind a rule of the tests: say there what is told")
            called = _Reading(self.file, self.file.rules[token.text])
            return called.rule(arguments or ()) != negated
        head, _, rest = token.text.partition(".")
        path = f"{self.file.imported.get(head, head)}.{rest}".removeprefix("data.")
        takes = self.file.asked.arguments.get(path)
        if takes is None or (len(arguments or ()) != takes):
            raise refused(
                self.file.name, token.line, f"there is no such rule: {token.text}", "rules.test-invalid"
            )
        told: JsonValue = {"told": list(arguments or ())}
        if not takes:
            for word in ("with", "input", "as"):
                self._expect(word)
            told = self.value(names)
        return self.file.asked.holds(path, told) != negated

    def _every(self, names: Names) -> bool:
        self.at += 1
        variable = self._word().text
        self._expect("in")
        elements, start, held = self.value(names), self.at, True
        if not isinstance(elements, list) or not elements:
            raise self._wrong("follows no list of at least one element")
        for element in elements:
            self.at = start
            held &= self._block({**names, variable: element})
        return held

    # -- values --------------------------------------------------------------------------------------------

    def value(self, names: Names) -> JsonValue:
        if self._next_is("["):
            return self._list(names, "[", "]")
        if self._next_is("{"):
            self.at += 1
            found: dict[str, JsonValue] = {}
            while not self._next_is("}"):
                key = self._word("text").text[1:-1]
                self._expect(":")
                found[key] = self.value(names)
                self.at += self._next_is(",")
            self.at += 1
            return found
        sign = -1 if self._next_is("-") else 1
        self.at += sign < 0
        token = self._take()
        if token.kind == "number":
            return sign * int(token.text)
        if token.kind == "text":
            return token.text[1:-1]
        for known in (_WORDS, names, self.file.values):
            if token.text in known and sign > 0:
                return known[token.text]
        raise refused(self.file.name, token.line, f"{token.text} is no value", "rules.test-invalid")

    def _list(self, names: Names, opening: str, closing: str) -> list[JsonValue]:
        self._expect(opening)
        found: list[JsonValue] = []
        while not self._next_is(closing):
            found.append(self.value(names))
            self.at += self._next_is(",")
        self.at += 1
        return found

    # -- words ---------------------------------------------------------------------------------------------

    def _next_is(self, text: str) -> bool:
        return self.at < len(self.words) and self.words[self.at].text == text

    def _take(self) -> Token:
        if self.at >= len(self.words):
            raise refused(
                self.file.name, self.words[-1].line, "something is missing here", "rules.test-invalid"
            )
        self.at += 1
        return self.words[self.at - 1]

    def _word(self, kind: str = "path") -> Token:
        token = self._take()
        if token.kind != kind:
            self.at -= 1
            raise self._wrong("is not read here")
        return token

    def _expect(self, text: str) -> None:
        if self._take().text != text:
            self.at -= 1
            raise self._wrong(f"stands where `{text}` is expected")

    def _wrong(self, what: str) -> RulesInvalidError:
        token = self.words[min(self.at, len(self.words) - 1)]
        return refused(self.file.name, token.line, f"{token.text} {what}", "rules.test-invalid")
