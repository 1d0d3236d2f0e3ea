"""What is not loaded as a rule: files that are not plain, words that look outside, names that would never refuse."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from policies import rego
from policies.rego import BUILT_INS, INSTALLED, Rules, compiled_built_ins
from policies.rego_sources import LARGEST_FILE_BYTES, RulesInvalidError, read_sources
from tests.policies.rego_folder import HOLDS, refusal, sources, written

# -- reading -------------------------------------------------------------------------------------------


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
    spoil(tmp_path / "c.rego")
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


# -- what a rule may not do ----------------------------------------------------------------------------


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


# -- what would never refuse ---------------------------------------------------------------------------


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
