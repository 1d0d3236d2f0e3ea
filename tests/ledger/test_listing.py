"""`python -m ledger show`: which events are listed, and which study they are found to belong to."""

from __future__ import annotations

import hashlib
import json

import pytest

from ledger.cli import main
from ledger.export import export
from ledger.keys import MemorySigner
from ledger.listing import HEADINGS
from ledger.log import Log
from ledger.memory import MemoryStorage


@pytest.fixture
def studies(federation, tmp_path):
    """Two plans of two studies, told apart by what names them: at the top, deep inside, or only by the plan."""
    one, two = "1" * 64, "2" * 64
    bodies = [
        ("plan.published", {"plan": {"study": "chest", "round": 9}, "plan_digest": one}),
        ("plan.published", {"plan": {"study": "heart"}, "plan_digest": two}),
        ("budget.reserved", {"plan_digest": one, "round": 1}),
        (
            "training.receipt",
            {"statement": {"predicate": {"study": "chest", "plan_digest": one, "round": 1}}},
        ),
        ("round.closed", {"about": [{"plan_digest": two}], "round": 3}),
        ("key.rotated", {"purpose": "study-sum", "study": "heart"}),
        ("round.closed", {"plan_digest": "3" * 64}),
        ("budget.reserved", {"study": "heart\x1b[2J", "plan_digest": "4" * 64}),
    ]
    federation.grow(1)
    author = federation.sites["site-a"]
    federation.log.append([author.event(kind, body) for kind, body in bodies])
    export(federation.log, tmp_path / "studies")
    return str(tmp_path / "studies")


def test_show_finds_the_study_by_name_or_by_plan(studies, capsys):
    def listed(*options):
        assert main(["show", studies, "--json", *options]) == 0
        return [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    assert [row["studies"] for row in listed()] == [
        [], ["chest"], ["heart"], ["chest"], ["chest"], ["heart"], ["heart"], [], ["heart\x1b[2J"],
    ]  # fmt: skip
    assert [row["index"] for row in listed("--study", "chest")] == [1, 3, 4]
    assert [row["index"] for row in listed("--study", "heart", "--type", "round")] == [5]
    assert [row["index"] for row in listed("--study", "heart", "--institution", "site-b")] == []
    assert [row["round"] for row in listed("--study", "chest")] == [9, 1, 1]
    assert main(["show", studies]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[0].split() == [word for heading in HEADINGS for word in heading.split()]
    assert "\x1b" not in out and "heart?[2J" in out


def test_show_reads_the_log_of_another_implementation(tmp_path, capsys):
    log = Log.create(MemoryStorage(), origin="their.example/log", signer=MemorySigner("their"))
    log.append([b"no event", b"\xff"])
    export(log, tmp_path / "x")
    assert main(["show", str(tmp_path / "x")]) == 0
    assert capsys.readouterr().out.count("(not an event)") == 2
    assert main(["show", str(tmp_path / "x"), "--json"]) == 0
    row = json.loads(capsys.readouterr().out.splitlines()[0])
    assert row == {"index": 0, "entry_sha256": hashlib.sha256(b"no event").hexdigest()}
    assert main(["show", str(tmp_path / "x"), "--type", "a.b"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1
