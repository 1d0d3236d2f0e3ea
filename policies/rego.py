"""Rego rules, evaluated in this process behind guards: what compliance people write decides, and can do nothing else.

A rules folder holds one file a concept and `decisions.rego`, package `wardround.decision`, with one set of codes a
decision; an empty set admits. What may stand in them is `policies.rego_subset`; what they are told, `policies.facts`;
their own tests, `policies.rego_tests`. The guards:

    whatever is undefined, fails or is no set of codes       a refusal, `rules.undecided`
    facts that are no whole numbers, names, yes or no        a refusal, `rules.facts`
    a clock, a generator, the network, the environment       refused when the rules are loaded, with file and line
    a name that is defined nowhere, negation, bad syntax     likewise: a misspelt rule would never refuse anything

The engine compiles the folder once. It is not safe for several threads, so that a lock serialises decisions.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ledger.canonical import JsonValue
from policies.rego_sources import RulesInvalidError, read_sources
from policies.rego_subset import CODE, check_rules

if TYPE_CHECKING:
    from regopy import Bundle, Interpreter

INSTALLED: Final = Path(__file__).resolve().parent / "rules"
DECISIONS: Final = (
    "cohort_size", "continuation", "member", "phase_entry", "phase_exit", "plan", "receipt", "release", "reservation",
    "site", "site_statistics", "statistics",
)  # fmt: skip
UNDECIDED: Final = "rules.undecided"
BAD_FACTS: Final = "rules.facts"
BUILT_INS: Final = frozenset(
    (
        "abs", "count", "max", "min", "sum", "plus", "minus", "mul", "equal", "neq", "gt", "gte", "lt", "lte", "eq",
        "is_array", "is_boolean", "is_null", "is_number", "is_object", "is_string",
        "internal.member_2", "internal.member_3",
    )
)  # fmt: skip
"""Pure functions of their arguments. No division: whole numbers stay whole."""
_UNTOLD: Final = re.compile(r'[\x00-\x1f\x7f"\\]')
"""The engine reads a text up to its first NUL, and knows escapes: two texts must not look like one to it."""
_PATIENCE_S: Final = 60
_LARGEST: Final = 2**53 - 1
_LONGEST_TEXT: Final = 4096
_DEEPEST: Final = 6


class Rules:
    """A compiled folder of rules. Raises RulesInvalidError when it is loaded, never when it is asked."""

    def __init__(self, sources: Mapping[str, str]) -> None:
        """`sources`: file name → text, tests left out."""
        self.digest = _digest(sources)
        self._lock = threading.Lock()
        check_rules(sources, BUILT_INS, DECISIONS)
        self._engine, self._bundle = compiled(sources, [_entry(decision) for decision in DECISIONS])

    @classmethod
    def load(cls, folder: Path | None = None) -> Rules:
        """The rules of a folder, by default the installed ones."""
        if folder is None:
            return cls(read_sources(INSTALLED))
        sources = read_sources(folder)
        check_rules(sources, BUILT_INS, DECISIONS)
        called = compiled_built_ins(sources) - BUILT_INS
        if called:
            raise RulesInvalidError(
                f"the rules in {folder} call {', '.join(sorted(called))}",
                remedy="Rules see the facts alone: no clock, chance, network, files or environment.",
                code="rules.built-in",
            )
        return cls(sources)

    def decide(self, decision: str, facts: Mapping[str, JsonValue]) -> tuple[str, ...]:
        """The codes of the violated rules, sorted; empty if the facts are admitted. Never raises."""
        if decision not in DECISIONS:
            return (UNDECIDED,)
        if not isinstance(facts, Mapping) or not _are_facts(facts, _DEEPEST):
            return (BAD_FACTS,)
        try:
            with self._lock:
                self._engine.set_input(facts)
                output = self._engine.query_bundle_entrypoint(self._bundle, _entry(decision))
                (result,) = output.results
            (codes,) = result.expressions
            if not isinstance(codes, list) or not all(CODE.fullmatch(code) for code in codes):
                return (UNDECIDED,)
            return tuple(sorted(codes))
        except Exception:  # whatever goes wrong in the engine: nothing was decided, so nothing is admitted
            return (UNDECIDED,)


@cache
def installed_rules() -> Rules:
    """The rules that this process judges by."""
    return Rules.load()


def _entry(decision: str) -> str:
    return f"wardround/decision/{decision}"


def _digest(sources: Mapping[str, str]) -> str:
    """SHA-256 over the sorted names and texts, each preceded by its length (u64, big endian)."""
    state = hashlib.sha256()
    for name, text in sorted(sources.items()):
        for part in (name.encode(), text.encode()):
            state.update(len(part).to_bytes(8, "big"))
            state.update(part)
    return state.hexdigest()


def compiled(sources: Mapping[str, str], entries: Sequence[str]) -> tuple[Interpreter, Bundle]:
    """An engine, and these rules in it for these entry points. RulesInvalidError, with its place, if it refuses."""
    from regopy import Interpreter, RegoError

    engine, name = Interpreter(), ""
    try:
        with _quiet():
            for name, text in sorted(sources.items()):
                engine.add_module(name, text)
            name = ""
            bundle = engine.build(None, entries)
            if not bundle.ok():
                raise RegoError("the bundle is not built", 1)
            return engine, bundle
    except RegoError as error:
        raise RulesInvalidError(
            f"{_place(str(error), sources, name)}: not valid Rego",
            remedy="Correct the syntax; `opa check` says more.",
            code="rules.syntax",
        ) from None


def _place(message: str, sources: Mapping[str, str], name: str) -> str:
    """File and line of what the engine found wrong. It names a place by its file and its offset there."""
    place = re.search(r"\d+:([\w.-]+\.rego)\|(\d+)\|", message)
    if place is None or place.group(1) not in sources:
        return name or "the rules"
    before = sources[place.group(1)].encode()[: int(place.group(2))]
    return f"{place.group(1)}, line {before.count(bytes([10])) + 1}"


def compiled_built_ins(sources: Mapping[str, str]) -> frozenset[str]:
    """What the compiled rules would call, by the engine's own account (OPA's plan format): a second look at
    what `check_rules` reads from their sources.

    In a process of its own: the engine ends its process on some rules, and its writer where numpy and its like are
    loaded (regopy 1.5.2). Rules from a folder that nobody tried yet go through here first.
    """
    try:
        done = subprocess.run(  # noqa: S603
            [sys.executable, "-c", _COMPILE],
            input=json.dumps([dict(sources), [_entry(decision) for decision in DECISIONS]]),
            capture_output=True,
            text=True,
            check=False,
            timeout=_PATIENCE_S,
        )
    except subprocess.TimeoutExpired:
        raise RulesInvalidError(
            f"the engine takes more than {_PATIENCE_S} s to compile these rules"
        ) from None
    if done.returncode < 0:
        raise RulesInvalidError(
            "the engine itself ends on these rules", remedy="`opa check` may say why.", code="rules.syntax"
        )
    # What it merely refuses is refused in this process again, with its place.
    return frozenset(json.loads(done.stdout)) if done.returncode == 0 else frozenset()


_COMPILE: Final = """
import json, pathlib, sys, tempfile
from regopy import Interpreter
sources, entries = json.load(sys.stdin)
engine = Interpreter()
for name, text in sorted(sources.items()):
    engine.add_module(name, text)
bundle = engine.build(None, entries)
with tempfile.TemporaryDirectory() as folder:
    engine.save_bundle(folder, bundle)
    plan = json.loads((pathlib.Path(folder) / "plan.json").read_text())
json.dump([each["name"] for each in plan["static"].get("builtin_funcs") or []], sys.stdout)
"""


def _are_facts(value: JsonValue | Mapping[str, JsonValue], depth: int) -> bool:
    """Whole numbers below 2^53, short texts, yes and no, and lists and objects of them. No fraction: two machines
    could round it differently."""
    if isinstance(value, bool):
        return True
    if isinstance(value, int):
        return -_LARGEST <= value <= _LARGEST
    if isinstance(value, str):
        return len(value) <= _LONGEST_TEXT and not _UNTOLD.search(value)
    if depth == 0:
        return False
    if isinstance(value, list):
        return all(_are_facts(item, depth - 1) for item in value)
    if isinstance(value, Mapping):
        return all(
            isinstance(key, str) and _are_facts(key, 0) and _are_facts(item, depth - 1)
            for key, item in value.items()
        )
    return False


@contextmanager
def _quiet() -> Iterator[None]:
    """The engine's C++ prints what it finds wrong; we say it ourselves."""
    null = os.open(os.devnull, os.O_WRONLY)
    kept = [os.dup(stream) for stream in (1, 2)]
    try:
        for stream in (1, 2):
            os.dup2(null, stream)
        yield
    finally:
        for stream, before in zip((1, 2), kept, strict=True):
            os.dup2(before, stream)
            os.close(before)
        os.close(null)
