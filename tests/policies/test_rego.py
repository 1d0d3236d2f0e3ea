"""The guards around the rules' engine, attacked: by whoever writes rules, and by whatever they are asked about."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from policies import rego
from policies.rego import BAD_FACTS, BUILT_INS, DECISIONS, INSTALLED, UNDECIDED, Rules, compiled_built_ins
from policies.rego_sources import LARGEST_FILE_BYTES, RulesInvalidError, read_sources

HOLDS = {"fine": True}
DEFAULT = "default ok := false\n"


def sources(concept: str = "ok if input.fine == true\n", decisions: str = "", **more: str) -> dict[str, str]:
    """A folder whose every decision refuses with `test.refused` unless `data.wardround.c.ok` holds."""
    listed = "".join(f'{decision} contains "test.refused" if not c.ok\n' for decision in DECISIONS)
    return {
        "c.rego": f"package wardround.c\nimport rego.v1\n{DEFAULT}{concept}",
        "decisions.rego": f"package wardround.decision\nimport data.wardround.c\nimport rego.v1\n{listed}{decisions}",
        **more,
    }


def written(folder: Path, **more: str) -> Path:
    for name, text in sources(**more).items():
        (folder / name).write_text(text)
    return folder


def refusal(found: dict[str, str]) -> tuple[str, str]:
    with pytest.raises(RulesInvalidError) as refused:
        Rules(found)
    return refused.value.code, refused.value.public_message


# -- deciding ----------------------------------------------------------------------------------------------


def test_what_holds_is_admitted_and_what_does_not_is_refused_by_its_code() -> None:
    rules = Rules(sources())
    assert rules.decide("plan", HOLDS) == ()
    assert rules.decide("plan", {"fine": False}) == ("test.refused",)
    assert rules.decide("plan", {}) == ("test.refused",)


@pytest.mark.parametrize("decision", ["", "plans", "plan/../site", "../c/ok", "wardround", "plan\0", "PLAN"])
def test_an_unknown_decision_is_refused(decision: str) -> None:
    assert Rules(sources()).decide(decision, HOLDS) == (UNDECIDED,)


def deep(levels: int) -> object:
    return True if levels == 0 else {"x": deep(levels - 1)}


@pytest.mark.parametrize(
    "value",
    [
        0.5, 1.0, float("nan"), float("inf"), 2**53, -(2**53), 10**400, None, b"x", {1}, (1,), object, "x" * 4097,
        {1: 2}, {"x" * 4097: 1}, deep(6), [[[[[[1]]]]]], [1, 0.5], {"x": [None]},
        "fine\0", "a\nb", "a\tb", 'a"b', "a\\u0041", "\x7f", {"x\0": 1},
    ],
    ids=lambda value: repr(value)[:24],
)  # fmt: skip
def test_facts_that_are_no_whole_numbers_short_texts_yes_or_no_are_refused(value: object) -> None:
    assert Rules(sources()).decide("plan", {**HOLDS, "x": value}) == (BAD_FACTS,)  # type: ignore[dict-item]


@pytest.mark.parametrize("value", [2**53 - 1, -(2**53 - 1), 0, "x" * 4096, "ü", "", deep(5), [], {}, False])
def test_facts_at_the_very_limits_are_taken(value: object) -> None:
    assert Rules(sources()).decide("plan", {**HOLDS, "x": value}) == ()  # type: ignore[dict-item]


def test_facts_that_are_no_object_are_refused() -> None:
    for facts in ([], "fine", 1, True, None):
        assert Rules(sources()).decide("plan", facts) == (BAD_FACTS,)  # type: ignore[arg-type]


def test_a_text_is_compared_to_its_end() -> None:
    """The engine reads up to a NUL: `research` and `research<NUL>, marketing` would be one purpose to it."""
    rules = Rules(sources('ok if input.purpose == "research"\n'))
    assert rules.decide("plan", {"purpose": "research"}) == ()
    assert rules.decide("plan", {"purpose": "research\0, marketing"}) == (BAD_FACTS,)


def test_sums_and_products_of_the_largest_numbers_are_exact() -> None:
    rules = Rules(
        sources(
            "ok if {\n\tinput.a + input.b == 9007199254740991 + 9007199254740991\n"
            "\t(10 * input.a) * input.b > 1\n}\n"
        )
    )
    assert rules.decide("plan", {"a": 2**53 - 1, "b": 2**53 - 1}) == ()
    assert rules.decide("plan", {"a": 2**53 - 1, "b": 2**53 - 2}) == ("test.refused",)


@pytest.mark.parametrize(
    "concept",
    [
        "ok if limit == 1\nlimit := 1\nlimit := 2\n",  # two values for one name
        "ok if count(1, 2) == 3\n",  # the engine answers with no JSON at all
    ],
    ids=["conflict", "arity"],
)
def test_what_the_engine_does_not_decide_is_refused_and_the_next_question_is_answered(concept: str) -> None:
    rules = Rules(sources(concept))
    assert rules.decide("plan", HOLDS) == (UNDECIDED,)
    assert rules.decide("plan", HOLDS) == (UNDECIDED,)


class Broken:
    """An engine that answers with whatever it is told to."""

    def __init__(self, answer: object) -> None:
        self.answer = answer

    def set_input(self, facts: object) -> None:
        if isinstance(self.answer, BaseException):
            raise self.answer

    def query_bundle_entrypoint(self, bundle: object, entry: str) -> object:
        expressions = self.answer if isinstance(self.answer, tuple) else [self.answer]
        result = type("Result", (), {"expressions": expressions})
        return type("Output", (), {"results": [result] if self.answer != () else []})


@pytest.mark.parametrize(
    "answer",
    [
        RuntimeError("engine"), ValueError(), MemoryError(), KeyError("x"),
        (), ([], []), None, {}, {"a": 1}, "", "abc", True, False, 0, [1], [None], [[]], ["NOT A CODE"], ["a", "B"],
        ["x" * 65], ["a\n"],
    ],
    ids=repr,
)  # fmt: skip
def test_any_failure_and_any_other_answer_than_a_set_of_codes_is_a_refusal(answer: object) -> None:
    rules = Rules(sources())
    rules._engine = Broken(answer)
    assert rules.decide("plan", HOLDS) == (UNDECIDED,)


def test_threads_get_the_answers_to_their_own_questions() -> None:
    rules = Rules(sources())

    def ask(number: int) -> bool:
        facts = {"fine": number % 3 != 0, "padding": ["x" * (number % 50)] * (number % 20)}
        return (rules.decide("plan", facts) == ()) == (number % 3 != 0)

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(ask, range(2000)))


def test_the_digest_names_every_rule_and_no_test(tmp_path: Path) -> None:
    before = Rules.load(written(tmp_path)).digest
    (tmp_path / "c_test.rego").write_text("package wardround.c_test\nnot even Rego\n")
    (tmp_path / "notes.txt").write_text("not a rule")
    assert Rules.load(tmp_path).digest == before
    (tmp_path / "c.rego").write_text(sources()["c.rego"] + "# another comment\n")
    assert Rules.load(tmp_path).digest != before


# -- reading -----------------------------------------------------------------------------------------------


def test_a_folder_without_rules_is_refused(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "none"):
        with pytest.raises(RulesInvalidError) as refused:
            Rules.load(folder)
        assert refused.value.code == "rules.none"


def _symlink(path: Path) -> None:
    path.rename(path.with_suffix(".elsewhere"))
    path.symlink_to(path.with_suffix(".elsewhere"))


def _rewrite(change: bytes, instead: bytes) -> object:
    return lambda path: path.write_bytes(path.read_bytes().replace(change, instead, 1))


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (_symlink, "not a plain file"),
        (lambda path: (path.unlink(), path.mkdir()), "not a plain file"),
        (lambda path: (path.unlink(), os.mkfifo(path)), "not a plain file"),
        (lambda path: path.write_bytes(path.read_bytes() + b"#" * LARGEST_FILE_BYTES), "larger than"),
        (_rewrite(b"package", b"# \xff\npackage"), "not UTF-8"),
        (_rewrite(b"package", b"\xef\xbb\xbfpackage"), "line 1: the character U+FEFF"),
        (_rewrite(b"\n", b"\r\n"), "line 1: the character U+000D"),
        (_rewrite(b"ok if", b"# a comment, for us\rok := true\nok if"), "line 4: the character U+000D"),
        (_rewrite(b"ok if", b"\0ok if"), "U+0000"),
        (_rewrite(b"ok if", "# \u202e a line turned around\nok if".encode()), "U+202E"),
        (_rewrite(b"ok if", "# \u2028ok := true\nok if".encode()), "U+2028"),
    ],
    ids=["symlink", "folder", "pipe", "large", "latin", "bom", "crlf", "cr", "nul", "bidi", "separator"],
)
def test_a_file_that_is_not_plain_small_and_legible_is_refused(
    tmp_path: Path, spoil: object, says: str
) -> None:
    Rules.load(written(tmp_path))
    spoil(tmp_path / "c.rego")  # type: ignore[operator]
    with pytest.raises(RulesInvalidError) as refused:
        Rules.load(tmp_path)
    assert "c.rego" in refused.value.public_message and says in refused.value.public_message


@pytest.mark.parametrize(
    ("concept", "line"),
    [
        ("ok if {\n\tinput.fine ==\n}\n", 5),
        ("ok if { input.fine input.fine }\n", 4),
        ("ok if input.fine == true 3\n", 4),
        ("\n\nok if (input.fine\n", 6),
        ("ok if input.fine)\n", 4),
        ('ok if input.fine == "unclosed\n', 4),
    ],
)
def test_a_syntax_error_is_named_with_file_and_line(concept: str, line: int) -> None:
    code, message = refusal(sources(concept))
    assert code == "rules.syntax"
    assert f"c.rego, line {line}" in message


def test_nothing_of_the_engine_reaches_the_terminal() -> None:
    """At the level of file descriptors, in pipes, up to the end of the process: C++ keeps what it prints."""
    program = """
        import sys
        from policies.rego import Rules
        from policies.rego_sources import RulesInvalidError
        from tests.policies.test_rego import sources
        for concept in ("ok if {\\n input.x ==\\n}\\n", "default ok := false\\nok if input.x\\n", "ok if 3[1]\\n"):
            try:
                Rules(sources(concept))
            except RulesInvalidError as error:
                assert error.code == "rules.syntax", error
            else:
                raise AssertionError(concept)
        rules = Rules(sources("ok if count(1, 2) == 3\\n"))
        assert rules.decide("plan", {}) == ("rules.undecided",)
        print("said by us")
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, check=True
    )
    assert (done.stdout, done.stderr) == ("said by us\n", "")


def test_rules_that_crash_the_engine_do_not_crash_who_loads_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call of something that is no function ends the engine's process. It is refused beforehand; and if the
    check overlooked one, a process of its own would have ended."""
    folder = written(tmp_path, concept="number := 3\nok if number(3)\n")
    assert refusal(read_sources(folder))[0] == "rules.undefined"
    monkeypatch.setattr(rego, "check_rules", lambda *_: None)
    with pytest.raises(RulesInvalidError, match="the engine itself ends"):
        Rules.load(folder)


# -- what a rule may not do --------------------------------------------------------------------------------

OUTSIDE = {
    "a clock": "ok if time.now_ns() > 0\n",
    "the environment": 'ok if opa.runtime().env.HOME != "x"\n',
    "chance": 'ok if rand.intn("x", 2) == 0\n',
    "the network": 'ok if http.send({"method": "get", "url": "x"}).status_code == 200\n',
    "a resolver": 'ok if net.lookup_ip_addr("x") != 1\n',
    "an identifier": 'ok if uuid.rfc4122("x") != "y"\n',
    "a digest": 'ok if crypto.sha256("x") != "y"\n',
    "a parser": 'ok if json.unmarshal("1") == 1\n',
    "a text function": 'ok if sprintf("%d", [1]) == "1"\n',
    "a trace": 'ok if trace("x")\n',
    "printing": 'ok if print("x")\n',
    "over two lines": "ok if time.\n\tnow_ns() > 0\n",
    "with spaces": "ok if time . now_ns () > 0\n",
    "behind a comment": "ok if time. # now\n\tnow_ns() > 0\n",
    "in a helper": "ok if late(1)\nlate(x) if time.now_ns() > x\n",
    "in a head": "late := time.now_ns()\nok if late > 0\n",
    "in brackets": "ok if [time.now_ns()][0] > 0\n",
    "behind an index": "ok if input[0].time.now_ns() > 0\n",
    "as a value": "ok if {\n\tclock := time.now_ns\n\tclock() > 0\n}\n",
    "in another's data": "ok if data.secrets.x == 1\n",
    "all data": "ok if data == data\n",
    "data by a text": 'ok if data["wardround"]["c"]["ok"]\n',
    "a division": "ok if 1 / 2 < 1\n",
    "a remainder": "ok if 3 % 2 == 1\n",
}


@pytest.mark.parametrize("concept", OUTSIDE.values(), ids=OUTSIDE)
def test_a_rule_sees_the_facts_and_nothing_else(concept: str) -> None:
    code, message = refusal(sources(concept))
    assert code in ("rules.built-in", "rules.undefined", "rules.syntax", "rules.form")
    assert "c.rego, line " in message


@pytest.mark.parametrize(
    "package", ["data.secrets", "data", "input", "input.plan", "future.keywords", "data.wardround"]
)
def test_only_packages_of_the_folder_are_imported(package: str) -> None:
    found = sources()
    found["c.rego"] = found["c.rego"].replace("import rego.v1", f"import rego.v1\nimport {package}")
    assert refusal(found)[0] == "rules.undefined"


def test_the_engine_calls_nothing_but_the_allowed_built_ins_in_the_installed_rules() -> None:
    assert compiled_built_ins(read_sources(INSTALLED)) <= BUILT_INS


@pytest.mark.parametrize("name", sorted(name for name in BUILT_INS if "." not in name))
def test_every_allowed_built_in_is_pure(name: str) -> None:
    assert name.split("_")[0] in {
        "abs", "count", "max", "min", "sum", "plus", "minus", "mul", "equal", "neq", "gt", "gte", "lt", "lte", "eq",
        "is",
    }  # fmt: skip


# -- what would never refuse -------------------------------------------------------------------------------

SILENT = {
    "a misspelt rule": ("ok if fien\n", "rules.undefined"),
    "a misspelt function": ("ok if natrual(1)\n", "rules.built-in"),
    "a misspelt variable": ("ok if {\n\tsome x in [1]\n\ty == 1\n}\n", "rules.undefined"),
    "a wildcard": ("ok if input.xs[_] == 1\n", "rules.undefined"),
    "an exponent": ("ok if 1e5 > 1\n", "rules.undefined"),
    "a fraction": ("ok if 0.5 < 1\n", "rules.syntax"),
    "a large number": ("ok if 9007199254740992 > 1\n", "rules.syntax"),
    "a backquoted string": ("ok if input.x == `y`\n", "rules.syntax"),
    "an escape": ('ok if input.x == "\\u0041"\n', "rules.syntax"),
    "a template": ('ok if input.x == $"{input.y}"\n', "rules.syntax"),
    "not": ("ok if not input.typo\n", "rules.form"),
    "not, over two lines": ("ok if {\n\tnot\n\tinput.typo\n}\n", "rules.form"),
    "else": ("ok := false if {\n\tinput.typo\n} else := true\n", "rules.shadowed"),
    "else, on a line of its own": ("ok if {\n\tinput.typo\n} else if {\n\tinput.fine\n}\n", "rules.form"),
    "a default that admits": ("default fine := true\nok if fine\nfine := false if input.typo\n", "rules.syntax"),
    "another's default": (
        "default bad := false\nbad if input.typo > 3\nok if bad == false\n",
        "rules.form",
    ),
    "another's default, by its path": (
        "default bad := false\nbad if input.typo > 3\nok if data.wardround.c.bad == false\n",
        "rules.form",
    ),
    "a list made up": ("ok if count([x | some x in input.typo]) == 0\n", "rules.syntax"),
    "a set made up": ("ok if count({x | some x in input.typo}) == 0\n", "rules.syntax"),
    "a partial set": ("bad contains x if some x in input.typo\nok if count(bad) == 0\n", "rules.syntax"),
    "an old partial set": ("bad[x] if some x in input.typo\nok if count(bad) == 0\n", "rules.syntax"),
    "a partial object": ("bad.x := 1 if input.typo\nok if count(bad) == 0\n", "rules.syntax"),
    "with": ("ok if input.fine with input as {}\n", "rules.form"),
    "a rule that rests on itself": ("ok if one\none if two\ntwo if one\n", "rules.form"),
    "a call of what is no function": ("one := 1\nok if one(1)\n", "rules.undefined"),
    "a call of a fact": ("ok if input.x(1)\n", "rules.undefined"),
    "a function that is not called": ("f(x) if x == 1\nok if f\n", "rules.undefined"),
    "too few arguments": ("f(x, y) if x == y\nok if f(1)\n", "rules.undefined"),
    "a name of two kinds": ("f(x) if x == 1\nf(x, y) if x == y\nok if f(1)\n", "rules.syntax"),
    "a built-in redefined": ("is_number(x) if x == x\nok if is_number(1)\n", "rules.shadowed"),
    "the facts redefined": ("ok if {\n\tinput := {}\n\tinput == {}\n}\n", "rules.shadowed"),
    "the facts as a parameter": ("f(input) if input == 1\nok if f(1)\n", "rules.shadowed"),
    "the facts as an element": ("ok if {\n\tsome input in [1]\n\tinput == 1\n}\n", "rules.shadowed"),
    "a rule's name as a variable": ("one := 1\nok if {\n\tone := 2\n\tone == 2\n}\n", "rules.shadowed"),
    "two parameters of one name": ("f(x, x) if x == 1\nok if f(1, 2)\n", "rules.shadowed"),
    "some without in": ("ok if {\n\tsome x\n\tmisspelt > 3\n\tx in [1]\n}\n", "rules.syntax"),
    "a keyword as a rule": ("data := 1\nok if data == 1\n", "rules.syntax"),
    "two rules on one line": ("ok if input.fine; one := 1\n", "rules.syntax"),
    "an indented rule": ("ok if input.fine\n  ok := true\n", "rules.syntax"),
    "a comment that is none": ('ok if input.x == "#"; ok := true\n', "rules.syntax"),
    "a rule that nobody asks": ("default other := false\nother if input.x\nok if input.fine\n", "rules.not-asked"),
    "a default without a rule": ("default ok2 := false\nok if input.fine\n", "rules.undefined"),
}  # fmt: skip


@pytest.mark.parametrize(("concept", "code"), SILENT.values(), ids=SILENT)
def test_a_rule_that_would_silently_never_refuse_is_not_loaded(concept: str, code: str) -> None:
    found, message = refusal(sources(concept))
    assert (found, "c.rego, line " in message) == (code, True), message


FINE = {
    "chained": "ok if one\none if two\ntwo := input.fine\n",
    "of one's own package by its path": "one := input.fine\nok if data.wardround.c.one == true\n",
    "object keys": 'limit := {"not": 1, "time.now_ns": 2}\nok if {\n\tlimit["not"] == 1\n\tinput.fine\n}\n',
    "quotes and comments": 'ok if {\n\t"# \' not" != "x" # not `this`, time.now_ns()\n\tinput.fine\n}\n',
    "a path over lines": "ok if input\n\t.fine == true\n",
    "two bodies": "ok if { input.fine == 1 }\nok if { input.fine == true }\n",
    "every": "ok if {\n\tevery i, x in [1, 2] {\n\t\tx > i\n\t}\n\tinput.fine\n}\n",
    "some": "ok if {\n\tsome i, x in [1, 2]\n\tx > i + 0\n\tinput.fine\n}\n",
    "a variable": "ok if {\n\tf := input.fine\n\tf == true\n}\n",
    "functions": "same(x, y) if x == y\nok if same([input.fine, 1], [true, 1])\n",
}


@pytest.mark.parametrize("concept", FINE.values(), ids=FINE)
def test_what_rules_need_is_read(concept: str) -> None:
    rules = Rules(sources(concept))
    assert (rules.decide("plan", HOLDS), rules.decide("plan", {})) == ((), ("test.refused",))


UNDEFINED = (
    "input.typo != 1", "input.typo.deeper == input.fine", "count([input.typo]) == 1", 'count({"a": input.typo}) == 1',
    "f(input.typo)", "limit[input.typo] != 2", "limit.typo != 1", "limit.a.typo != 1", "max([]) != 1",
    "[1, 2][7] != 1", "sum(input.typo) == 0", 'abs("x") != 1', "input.fine.typo != 1", "input[input.typo] != 1",
)  # fmt: skip


@pytest.mark.parametrize("body", UNDEFINED)
def test_whatever_is_undefined_in_a_rule_refuses(body: str) -> None:
    """A misspelt fact passes the check of names: nothing says what facts there are. So it must refuse."""
    rules = Rules(sources(f'limit := {{"a": 1}}\nf(x) := true\nok if {body}\n'))
    assert rules.decide("plan", HOLDS) == ("test.refused",)


def test_every_element_of_nothing_at_all_refuses() -> None:
    rules = Rules(sources("ok if {\n\tevery x in input.xs { x == 1 }\n}\n"))
    for xs in (3, "abc", True, {"a": 2}, [1, 2]):
        assert rules.decide("plan", {"xs": xs}) == ("test.refused",)
    assert rules.decide("plan", {}) == ("test.refused",)
    assert (
        rules.decide("plan", {"xs": []}) == ()
    )  # docs/rules.md: ask for `count(...) > 0` where that matters


# -- decisions ---------------------------------------------------------------------------------------------

SECOND = "package wardround.d\nimport rego.v1\ndefault ok := false\nok if input.second == true\n"
DECISION_FORMS = {
    "a fact in a decision": ('plan contains "a" if input.typo > 3\n', "rules.form"),
    "no condition": ('plan contains "a"\n', "rules.form"),
    "a value": ("plan := {}\n", "rules.form"),
    "an empty list": ("plan := []\n", "rules.form"),
    "positive only": ('plan contains "a" if c.ok\n', "rules.form"),
    "two nots": ('plan contains "a" if {\n\tnot c.ok\n\tnot c.ok\n}\n', "rules.form"),
    "a stage that nothing refuses": ('plan contains "a" if {\n\td.ok\n\tnot c.ok\n}\n', "rules.form"),
    "a circle of stages": (
        'site contains "a" if {\n\td.ok\n\tnot c.ok\n}\nsite contains "b" if {\n\tc.ok\n\tnot d.ok\n}\n',
        "rules.form",
    ),
    "a code that is none": ('plan contains "Not a code" if not c.ok\n', "rules.form"),
    "a code that is computed": ("plan contains c.ok if not c.ok\n", "rules.form"),
    "a rule without a default": ('plan contains "a" if not c.helper\n', "rules.form"),
    "part of a rule": ('plan contains "a" if not c.ok.x\n', "rules.form"),
    "a misspelt rule": ('plan contains "a" if not c.oK\n', "rules.undefined"),
    "a misspelt decision": ('plans contains "a" if not c.ok\n', "rules.undefined"),
    "a helper with a not": ("default all := false\nall if not c.ok\n", "rules.form"),
    "a helper without a default": ("all if c.ok\n", "rules.form"),
    "a helper with two bodies": ("default all := false\nall if c.ok\nall if d.ok\n", "rules.form"),
    "a helper that admits": ("default all := true\nall if c.ok\n", "rules.syntax"),
    "a helper used too early": (
        'plan contains "a" if not all\ndefault all := false\nall if c.ok\n',
        "rules.form",
    ),
}


@pytest.mark.parametrize(("statement", "code"), DECISION_FORMS.values(), ids=DECISION_FORMS)
def test_decisions_ask_for_rules_and_do_nothing_else(statement: str, code: str) -> None:
    found = sources("ok if helper\nhelper if input.fine == true\n", statement, **{"d.rego": SECOND})
    found["decisions.rego"] = found["decisions.rego"].replace(
        "import rego.v1", "import data.wardround.d\nimport rego.v1"
    )
    got, message = refusal(found)
    assert (got, "decisions.rego, line " in message) == (code, True), message


def test_a_later_stage_is_asked_when_the_earlier_one_holds() -> None:
    stages = (
        "default both := false\nboth if {\n\tc.ok\n}\n"
        'plan contains "test.second" if {\n\tboth\n\tnot d.ok\n}\n'
    )
    found = sources(decisions=stages, **{"d.rego": SECOND})
    found["decisions.rego"] = found["decisions.rego"].replace(
        "import rego.v1", "import data.wardround.d\nimport rego.v1"
    )
    rules = Rules(found)
    assert rules.decide("plan", {}) == ("test.refused",)
    assert rules.decide("plan", {"fine": True}) == ("test.second",)
    assert rules.decide("plan", {"fine": True, "second": True}) == ()


@pytest.mark.parametrize("decision", DECISIONS)
def test_a_decision_without_rules_is_refused(decision: str) -> None:
    found = sources()
    lines = found["decisions.rego"].splitlines(keepends=True)
    found["decisions.rego"] = "".join(line for line in lines if not line.startswith(f"{decision} "))
    code, message = refusal(found)
    assert code == "rules.decision-missing" and decision in message


def test_decisions_are_written_in_one_place() -> None:
    more = "package wardround.decision\nimport rego.v1\n"
    assert refusal(sources(**{"e.rego": more}))[0] == "rules.decision-missing"
    moved = {("decide.rego" if name == "decisions.rego" else name): text for name, text in sources().items()}
    assert refusal(moved)[0] == "rules.decision-missing"
    assert refusal({"c.rego": sources()["c.rego"]})[0] == "rules.decision-missing"


@pytest.mark.parametrize(
    "text",
    ["", "# nothing\n", "import rego.v1\n", "package other\n", "package wardround\n", "package wardround.x y\n",
     "  package wardround.x\n", "package data.wardround.x\n"],
)  # fmt: skip
def test_every_file_begins_with_its_package(text: str) -> None:
    code, message = refusal(sources(**{"e.rego": text}))
    assert code == "rules.syntax" and message.startswith("e.rego, line ")
