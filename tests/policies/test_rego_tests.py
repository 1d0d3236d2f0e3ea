"""The runner of the rules' own tests: what it takes for failed, and that it cannot be fooled into passing."""

from __future__ import annotations

from pathlib import Path

import pytest

from policies.rego import INSTALLED
from policies.rego_sources import TEST_SUFFIX, RulesInvalidError
from policies.rego_tests import run_tests
from tests.policies.test_rego import written

HEAD = "package wardround.c_test\nimport data.wardround.c\nimport rego.v1\n"


def results(
    folder: Path, tests: str, *, head: str = HEAD, concept: str = "ok if input.x == 1\n"
) -> dict[str, bool]:
    written(folder, concept=concept)
    (folder / "c_test.rego").write_text(head + tests)
    return {result.name: result.passed for result in run_tests(folder)}


def test_every_installed_test_passes() -> None:
    ran = run_tests()
    assert len(ran) > 70
    assert [result for result in ran if not result.passed] == []


def test_every_concept_has_tests() -> None:
    concepts = {path.stem for path in INSTALLED.glob("*.rego") if not path.name.endswith(TEST_SUFFIX)}
    tested = {path.name.removesuffix(TEST_SUFFIX) for path in INSTALLED.glob(f"*{TEST_SUFFIX}")}
    assert tested == concepts - {"decisions"}


def test_a_test_passes_if_all_its_conditions_hold(tmp_path: Path) -> None:
    tests = """
facts := {"x": 1, "deep": [{"y": -1}, null, true]}
told(x) if { c.ok with input as {"x": x} }

test_holds if c.ok with input as {"x": 1}
test_named if { c.ok with input as facts }
test_not if { not c.ok with input as {"x": 2} }
test_nothing if { not c.ok with input as {} }
test_helper if { told(1); not told(2) }
test_again if {
	c.ok with input as {"x": 1}
	not c.ok with input as {"x": 2}
	c.ok with input as {"x": 1}
}
test_every if {
	every x in [2, "1", null, true, -1, [], {}, 9007199254740993] {
		not c.ok with input as {"x": x}
		not told(x)
	}
}
test_fails if c.ok with input as {"x": 2}
test_fails_by_not if { not c.ok with input as {"x": 1} }
test_fails_later if { c.ok with input as {"x": 1}; not told(1) }
test_fails_first if { not told(1); c.ok with input as {"x": 1} }
test_fails_for_one if {
	every x in [2, 1, 3] {
		not told(x)
	}
}
"""
    ran = results(tmp_path, tests)
    assert {name for name, passed in ran.items() if not passed} == {
        n for n in ran if n.startswith("test_fails")
    }
    assert len(ran) == 12


def test_functions_are_asked_too(tmp_path: Path) -> None:
    concept = "same(x, y) if x == y\nbelow(x) := x - 1\nok if same(below(input.x), 1)\n"
    tests = "test_yes if c.same(1, 1)\ntest_no if c.same(1, 2)\ntest_undefined if c.below([])\n"
    tests += "test_value if c.below(0)\n"
    ran = results(tmp_path, tests, concept=concept)
    assert ran == {"test_yes": True, "test_no": False, "test_undefined": False, "test_value": True}


@pytest.mark.parametrize(
    ("tests", "says"),
    [
        ("test_one if c.ok\n", "line 4"),  # asks about nothing
        ("test_one if c.misspelt with input as {}\n", "no such rule: c.misspelt"),
        ("test_one if d.ok with input as {}\n", "no such rule: d.ok"),
        ("test_one if misspelt(1)\n", "no such rule: misspelt"),
        ("test_one if c.ok with input as misspelt\n", "misspelt is no value"),
        ("test_one if c.ok with input.x as 1\n", "line 4"),
        ("test_one if c.ok with data.x as 1\n", "line 4"),
        ("f(x) if c.ok with input as {}\ntest_one if f(1) with input as {}\n", "with stands behind"),
        ("f(x) if c.ok with input as {}\ntest_one if f(1, 2)\n", "arguments"),
        ("test_one if c.ok(1) with input as {}\n", "no such rule"),
        ("test_one if { every x in [] { c.ok with input as {} } }\n", "no list of at least one"),
        ("test_one if { every x in {} { c.ok with input as {} } }\n", "no list of at least one"),
        ("test_one if c.ok with input as {}\ntest_one if c.ok with input as {}\n", "test_one is not read"),
        ("test_one if { c.ok with input as {} } else := true\n", "else is not read"),
        ("test_one if c.ok == false\n", "line 4"),
        ("test_one := true\n", "there is no test"),
        ("test_one\n", "is not read here"),
        ("test_one if {\n", "not closed"),
        ("helper if c.ok with input as {}\n", "there is no test"),
        ('test_one if c.ok with input as {"x": time.now_ns()}\n', "time.now_ns is no value"),
        ('test_one if c.ok with input as {"x": 1.5}\n', "whole numbers"),
    ],
)
def test_what_is_no_test_is_refused_with_its_line(tmp_path: Path, tests: str, says: str) -> None:
    with pytest.raises(RulesInvalidError) as refused:
        results(tmp_path, tests)
    assert "c_test.rego" in refused.value.public_message and says in refused.value.public_message


def test_a_test_adds_nothing_to_the_rules_that_it_tests(tmp_path: Path) -> None:
    with pytest.raises(RulesInvalidError, match=r"c_test\.rego, line 1"):
        results(tmp_path, "ok if true\n", head="package wardround.c\nimport rego.v1\n")


def test_a_folder_without_tests_has_not_passed_them(tmp_path: Path) -> None:
    with pytest.raises(RulesInvalidError) as refused:
        run_tests(written(tmp_path))
    assert refused.value.code == "rules.no-tests"
