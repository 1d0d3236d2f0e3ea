"""The guards around the rules' engine, attacked: by whoever writes rules, and by whatever they are asked about."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from policies.rego import BAD_FACTS, DECISIONS, UNDECIDED, Rules
from tests.policies.rego_folder import HOLDS, refusal, sources, written


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
