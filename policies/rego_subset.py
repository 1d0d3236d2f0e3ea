"""The part of Rego that rules are written in: in it, what is undefined can only refuse.

Rego takes a name that is defined nowhere, or a fact that is missing, for undefined, so that `violation if
input.misspelt > 3` never refuses anything. Two halves rule that out when the rules are loaded:

    a concept     (any package but the decisions) says what holds: `default ok := false` and `ok if { ... }`. No
                  negation in any guise: no `not`, `else`, comprehension, partial set, `default` of anything but
                  false, and no rule that rests on another's default. Whatever is undefined makes it not hold.
    the decisions say which concepts are asked and under which code each refuses, and nothing else:
                  `plan contains "code" if not concept.rule`, where rules that were refused before may stand in front
                  of the `not`. So a decision admits only if every rule that it names holds.

And every name is looked up: a rule or function of the folder, an allowed built-in, or what the rule itself brings in.
No name is taken twice. What the subset cannot find out is in docs/rules.md. Compiling and asking: `policies.rego`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from policies.rego_tokens import Token, refused, statements

ROOT: Final = "wardround"
DECISION_PACKAGE: Final = f"{ROOT}.decision"
DECISIONS_FILE: Final = "decisions.rego"
CODE: Final = re.compile(r"[a-z][a-z0-9.-]{0,63}", re.ASCII)
_BODY_WORDS: Final = frozenset(("every", "false", "if", "in", "input", "null", "some", "true"))
_KEYWORDS: Final = _BODY_WORDS | frozenset(
    ("as", "contains", "data", "default", "else", "import", "not", "package", "rego", "with")
)
Rule = tuple[str, str]
"""Package and name."""


@dataclass(slots=True)
class _File:
    name: str
    package: str
    imported: dict[str, str] = field(default_factory=dict)
    """Last part of an imported package → the package."""
    defaults: set[str] = field(default_factory=set)
    rules: list[list[Token]] = field(default_factory=list)

    def refuse(self, token: Token, what: str, code: str = "rules.syntax") -> Exception:
        return refused(self.name, token.line, what, code)


@dataclass(slots=True)
class _Folder:
    built_ins: frozenset[str]
    files: list[_File]
    defined: dict[str, dict[str, int]] = field(default_factory=dict)
    """Package → its rules and functions → how many arguments they take; 0 is a rule."""
    defaults: set[Rule] = field(default_factory=set)
    calls: dict[Rule, set[Rule]] = field(default_factory=dict)
    """Rule → the rules that it rests on."""

    def __post_init__(self) -> None:
        for file in self.files:
            names = self.defined.setdefault(file.package, {})
            for rule in file.rules:
                takes = _arguments(rule, 1) if len(rule) > 1 and rule[1].text == "(" else 0
                if names.setdefault(rule[0].text, takes) != takes:
                    raise file.refuse(rule[0], f"{rule[0].text} takes another number of arguments elsewhere")
            self.defaults |= {(file.package, name) for name in file.defaults}

    def rule_of(self, file: _File, token: Token) -> Rule | None:
        """The rule or function that a path names, if it names one."""
        head, _, rest = token.text.partition(".")
        if head == "data":
            package, _, name = token.text.removeprefix("data.").rpartition(".")
        elif head in file.imported:
            package, name = file.imported[head], rest.partition(".")[0]
        else:
            package, name = file.package, head
        return (package, name) if name in self.defined.get(package, ()) else None


def check_rules(sources: Mapping[str, str], built_ins: frozenset[str], decisions: Sequence[str]) -> None:
    """Raise RulesInvalidError, naming file and line, for the first thing that is outside of the subset."""
    folder = _Folder(built_ins, [_file(name, text) for name, text in sorted(sources.items())])
    for file in folder.files:
        _check_names_are_new(folder, file)
    for file in folder.files:
        if file.package != DECISION_PACKAGE:
            for rule in file.rules:
                _check_concept(folder, file, rule)
    _check_no_circle(folder)
    asked = _check_decisions(folder, decisions)
    for file in folder.files:
        for name in sorted(file.defaults):
            if file.package != DECISION_PACKAGE and (file.package, name) not in asked:
                raise refused(file.name, 1, f"no decision asks for the rule {name}", "rules.not-asked")


def refusals(sources: Mapping[str, str]) -> list[tuple[str, str, str, str]]:
    """(decision, code, rule that must hold, file that says when) of rules that `check_rules` let pass, in order."""
    folder = _Folder(frozenset(), [_file(name, text) for name, text in sorted(sources.items())])
    (file,) = (file for file in folder.files if file.name == DECISIONS_FILE)
    found: list[tuple[str, str, str, str]] = []
    for rule in file.rules:
        if rule[1].text == "contains":
            negated = next(rule[number + 1] for number, token in enumerate(rule) if token.text == "not")
            named = folder.rule_of(file, negated)
            written = {
                each.name: None
                for each in folder.files
                for one in each.rules
                if (each.package, one[0].text) == named
            }
            found.append((rule[0].text, rule[2].text[1:-1], negated.text, ", ".join(written)))
    return found


def functions_and_rules(sources: Mapping[str, str]) -> dict[str, int]:
    """Path of every rule and function outside of the decisions → how many arguments it takes."""
    folder = _Folder(frozenset(), [_file(name, text) for name, text in sorted(sources.items())])
    return {
        f"{package}.{name}": takes
        for package, names in folder.defined.items()
        for name, takes in names.items()
        if package != DECISION_PACKAGE
    }


def _file(name: str, text: str) -> _File:
    listed = statements(name, text)
    first = [token.text for token in listed[0]] if listed else []
    if len(first) != 2 or first[0] != "package" or not first[1].startswith(f"{ROOT}."):
        raise refused(name, 1, f"a rules file begins with `package {ROOT}.<name>`", "rules.syntax")
    file = _File(name, first[1])
    for words in listed[1:]:
        texts = [token.text for token in words]
        if texts[0] == "import":
            if len(texts) != 2:
                raise file.refuse(words[0], "an import names a package, under no other name")
            if texts[1] != "rego.v1":
                file.imported[texts[1].rpartition(".")[2]] = texts[1].removeprefix("data.")
        elif texts[0] == "default":
            if texts[2:] != [":=", "false"]:
                raise file.refuse(words[0], "a default is false: `default <name> := false`")
            file.defaults.add(texts[1])
        else:
            file.rules.append(words)
    for rule in file.rules:
        if "." in rule[0].text or rule[0].text in _KEYWORDS:
            raise file.refuse(rule[0], f"a rule cannot begin with {rule[0].text}")
    return file


def _check_names_are_new(folder: _Folder, file: _File) -> None:
    for short, package in file.imported.items():
        if package not in folder.defined:
            raise refused(file.name, 1, f"{package} is no package of these rules", "rules.undefined")
        if short in folder.defined[file.package] or short in _KEYWORDS:
            raise refused(file.name, 1, f"the name {short} means two things here", "rules.shadowed")
    for rule in file.rules:
        if rule[0].text in folder.built_ins:
            raise file.refuse(rule[0], f"{rule[0].text} is a built-in function", "rules.shadowed")
    for name in file.defaults - {rule[0].text for rule in file.rules}:
        raise refused(file.name, 1, f"the rule {name} has a default and nothing else", "rules.undefined")


# -- concepts ----------------------------------------------------------------------------------------------


def _check_concept(folder: _Folder, file: _File, rule: list[Token]) -> None:
    after = rule[1].text if len(rule) > 1 else ""
    if after not in ("if", ":=", "("):
        raise file.refuse(rule[0], f"a rule reads `{rule[0].text} if {{ ... }}`, a constant `... := ...`")
    brought = _brought(file, rule)
    for number, token in enumerate(brought):
        if rule[1].text == "(" and token.text in {earlier.text for earlier in brought[:number]}:
            raise file.refuse(token, f"the name {token.text} means two things here", "rules.shadowed")
        taken = token.text in _KEYWORDS or token.text in folder.built_ins or token.text in file.imported
        if taken or "." in token.text or token.text in folder.defined[file.package]:
            raise file.refuse(token, f"the name {token.text} means two things here", "rules.shadowed")
    known = {token.text for token in brought}
    for number, token in enumerate(rule[1:], 1):
        if token.kind != "path":
            continue
        called = _opens_call(rule, number + 1)
        head, named = token.text.partition(".")[0], folder.rule_of(file, token)
        if token.text in _KEYWORDS - _BODY_WORDS:
            raise file.refuse(
                token, f"`{token.text}` has no place in a rule that says what holds", "rules.form"
            )
        if rule[number - 1].text == "." or head in known or head in _BODY_WORDS:
            if called and head not in _BODY_WORDS - {"input", "null", "true", "false"}:
                raise file.refuse(token, f"{token.text} is no function", "rules.undefined")
            continue
        if named in folder.defaults:
            raise file.refuse(token, f"{token.text} has a default: only decisions ask for it", "rules.form")
        if named is None and not (token.text in folder.built_ins and called):
            kind = "rules.built-in" if called else "rules.undefined"
            raise file.refuse(token, f"{token.text} is not defined here", kind)
        if named is not None:
            takes = folder.defined[named[0]][named[1]]
            exact = token.text.rpartition(".")[2] == named[1]
            # The engine would end the whole process on such a call, not refuse it.
            if (_arguments(rule, number + 1) if called else 0) != takes or (takes and not exact):
                raise file.refuse(token, f"{token.text} takes {takes} arguments", "rules.undefined")
            folder.calls.setdefault((file.package, rule[0].text), set()).add(named)
    for number, before in enumerate(rule):
        if _opens_call(rule, number + 1) and (before.text in "])}" or before.kind in ("text", "number")):
            raise file.refuse(before, "only a name can be called")


def _opens_call(rule: list[Token], number: int) -> bool:
    """Whether arguments begin there; a parenthesis on a new line begins another condition."""
    return number < len(rule) and rule[number].text == "(" and not rule[number].first_on_line


def _arguments(rule: list[Token], opening: int) -> int:
    """How many arguments stand in the parentheses that open there; -1 if they are empty."""
    depth, commas = 0, 0
    for number, token in enumerate(rule[opening:], opening):
        depth += (token.text in "([{") - (token.text in ")]}") if token.kind == "mark" else 0
        commas += depth == 1 and token.text == "," and token.kind == "mark"
        if depth == 0:
            return -1 if number == opening + 1 else commas + 1
    return -1


def _check_no_circle(folder: _Folder) -> None:
    """The engine decides nothing when a rule rests on itself."""
    done: set[Rule] = set()

    def follow(rule: Rule, above: tuple[Rule, ...]) -> None:
        if rule in above:
            where = next(file.name for file in folder.files if file.package == rule[0])
            raise refused(where, 1, f"the rule {rule[1]} rests on itself", "rules.form")
        if rule not in done:
            for below in sorted(folder.calls.get(rule, ())):
                follow(below, (*above, rule))
            done.add(rule)

    for rule in sorted(folder.calls):
        follow(rule, ())


def _brought(file: _File, rule: list[Token]) -> list[Token]:
    """What a rule brings in: parameters, `some`, `every` and what is assigned with `:=`."""
    found: list[Token] = []
    if rule[1].text == "(":
        found += _listed(file, rule, 2, ")")
    for number, token in enumerate(rule):
        if token.text in ("some", "every"):
            found += _listed(file, rule, number + 1, "in")
        elif token.text == ":=" and number > 1 and rule[number - 1].text != ")":
            found.append(rule[number - 1])
    return found


def _listed(file: _File, rule: list[Token], start: int, end: str) -> Iterator[Token]:
    """The names from `start` up to `end`, with commas between them."""
    for number, token in enumerate(rule[start:]):
        if number % 2 == 0 and token.kind == "path" and token.text != end:
            yield token
        elif number % 2 and token.text == end:
            return
        elif not (number % 2 and token.text == ","):
            break
    raise file.refuse(rule[start - 1], f"names are expected here, up to `{end}`")


# -- decisions ---------------------------------------------------------------------------------------------


def _check_decisions(folder: _Folder, decisions: Sequence[str]) -> set[Rule]:
    """The rules that the decisions ask for."""
    found = [file for file in folder.files if file.package == DECISION_PACKAGE]
    if [file.name for file in found] != [DECISIONS_FILE]:
        what = f"the package {DECISION_PACKAGE} is written here and nowhere else"
        raise refused(DECISIONS_FILE, 1, what, "rules.decision-missing")
    (file,) = found
    helpers: dict[Rule, set[Rule]] = {}
    held: dict[str, set[Rule]] = {decision: set() for decision in decisions}
    asked: set[Rule] = set()
    for rule in file.rules:
        name = rule[0]
        words = [token.text for token in rule]
        if words[1:2] == ["if"]:
            must, negated = _conditions(folder, file, helpers, rule[2:])
            key = (file.package, name.text)
            if negated or key in helpers or key not in folder.defaults or name.text in held:
                raise file.refuse(
                    name, f"{name.text} joins rules: one body, a default, no `not`", "rules.form"
                )
            helpers[key] = must
            asked |= must
            continue
        if words[1:2] != ["contains"] or words[3:4] != ["if"] or rule[2].kind != "text":
            raise file.refuse(name, f'a decision reads `{name.text} contains "code" if ...`', "rules.form")
        if name.text not in held:
            raise file.refuse(name, f"nobody asks for a decision {name.text}", "rules.undefined")
        if not CODE.fullmatch(rule[2].text[1:-1]):
            raise file.refuse(rule[2], f"{rule[2].text} is no code, as in budget.pool-cap", "rules.form")
        must, negated = _conditions(folder, file, helpers, rule[4:])
        if len(negated) != 1:
            raise file.refuse(name, "a code stands for one rule that does not hold: one `not`", "rules.form")
        if must - held[name.text]:
            missing = sorted(name for _, name in must - held[name.text])
            raise file.refuse(name, f"nothing above refuses when {missing[0]} does not hold", "rules.form")
        held[name.text] |= set().union(*negated)
        asked |= held[name.text]
    for decision, rules in held.items():
        if not rules:
            raise refused(file.name, 1, f"the decision {decision} has no rules", "rules.decision-missing")
    return asked


def _conditions(
    folder: _Folder, file: _File, helpers: Mapping[Rule, set[Rule]], body: list[Token]
) -> tuple[set[Rule], list[set[Rule]]]:
    """The rules that must hold for a body to hold, and those of which one must not, for each `not`."""
    must: set[Rule] = set()
    negated: list[set[Rule]] = []
    for number, token in enumerate(body):
        if token.text in ("{", "}", "not", ";"):
            continue
        named = folder.rule_of(file, token) if token.kind == "path" else None
        if named is None and token.kind == "path" and token.text.partition(".")[0] != "input":
            raise file.refuse(token, f"{token.text} is not defined here", "rules.undefined")
        exact = named is not None and token.text.rpartition(".")[2] == named[1]
        if named is None or named not in folder.defaults or not exact:
            raise file.refuse(
                token, f"a decision names rules that have a default, not {token.text}", "rules.form"
            )
        if named[0] == file.package and named not in helpers:
            raise file.refuse(token, f"{token.text} is used before it is said", "rules.form")
        meant = helpers.get(named, {named})
        if number and body[number - 1].text == "not":
            negated.append(meant)
        else:
            must |= meant
    return must, negated
