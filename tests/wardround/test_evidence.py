"""`wardround evidence`: what an auditor sees, and with which exit code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ledger import canonical
from ledger.errors import CodedError, InputError
from ledger.report import VerificationFailedError
from tests.policies.founding import SITES
from tests.tasks.evidence.witnessed import RULES, Witnessed, files_of, written
from wardround.evidence import show, verify


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    made = Witnessed()
    made.reach("registered")
    return files_of(made.build())


@pytest.fixture(autouse=True)
def _these_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    """The policy that the assembly names is no real one."""
    monkeypatch.setattr("tasks.evidence.audit.installed_rule_files", lambda: RULES)


def test_an_audit_names_every_check_and_every_site_s_epsilon(
    files: dict[str, bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    verify(written(tmp_path / "x.zip", files))
    out = capsys.readouterr().out
    told = json.loads(files["payload/accounting.json"])
    for pool in told["pools"]:
        micro = pool["spent_epsilon_micro"]
        assert pool["site"] in out and f"{micro // 1_000_000}.{micro % 1_000_000:06d}" in out
    assert "0.00001" in out and "PLD" in out and "was registered" in out and "FAILED" not in out


def test_the_json_holds_the_same(
    files: dict[str, bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    verify(written(tmp_path / "x.zip", files), json=True, tighter=False)
    told = json.loads(capsys.readouterr().out)
    assert told["ok"] and told["passed"] and told["round"] == 1
    assert [pool["site"] for pool in told["pools"]] == sorted(SITES)
    assert all(pool["spent_epsilon_micro"] > 0 and pool["epsilon_pld"] is None for pool in told["pools"])


def test_a_failed_check_is_named_and_ends_with_exit_3(
    files: dict[str, bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = json.loads(files["payload/verdict.json"]) | {"passed": False}
    path = written(tmp_path / "x.zip", {**files, "payload/verdict.json": canonical.encode(told)})
    for as_json in (False, True):
        with pytest.raises(VerificationFailedError) as caught:
            verify(path, json=as_json)
        assert caught.value.kind == "policy" and caught.value.code == "ledger.verify.payload"
        out = capsys.readouterr().out
        assert "verdict.json" in out and ("NOT verified" in out or '"ok": false' in out)


def test_a_name_in_a_package_writes_nothing_else_on_the_terminal(
    files: dict[str, bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    card = files["payload/model-card.md"] + b"\x1b]0;owned\x07 [red]"
    path = written(tmp_path / "x.zip", {**files, "payload/model-card.md": card})
    show(path, card=True)
    with pytest.raises(CodedError):
        verify(path)
    assert "\x1b]0" not in capsys.readouterr().out


def test_show_lists_the_files_and_promises_nothing(
    files: dict[str, bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    show(written(tmp_path / "x.zip", files))
    out = capsys.readouterr().out
    assert "payload/accounting.json" in out and "not checked" in out


@pytest.mark.parametrize("content", [None, b"", b"PK\x03\x04", b"{}"])
def test_what_is_no_package_is_bad_input(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "x.zip"
    if content is not None:
        path.write_bytes(content)
    for command in (verify, show):
        with pytest.raises(InputError) as caught:
            command(path)
        assert caught.value.code == "evidence.file"
