"""Bad usage of any command: exit 2, one line, no traceback; and what `--help` costs."""

from __future__ import annotations

import errno
import subprocess
import sys
from pathlib import Path

import pytest

from tests.wardround.conftest import Command

COMMANDS = (
    ("demo",), ("doctor",), ("data", "check"), ("plan", "new"), ("plan", "validate"), ("plan", "examples"),
    ("federation", "new"), ("coordinator", "run"), ("coordinator", "statistics"), ("coordinator", "serve"),
    ("site", "run"), ("site", "serve"), ("plan", "sweep"), ("plan", "pick"),
    ("ledger", "verify"), ("ledger", "show"), ("ledger", "prove"),
    ("ledger", "check"), ("ledger", "export"), ("ledger", "witness", "status"),
    ("gate",), ("rules", "list"), ("rules", "test"), ("audit", "privacy"), ("site", "restore-journal"),
    ("consent", "import"), ("consent", "grant"), ("consent", "withdraw"), ("consent", "list"), ("consent", "status"),
    ("evidence", "verify"), ("evidence", "build"), ("evidence", "show"),
    ("phase", "status"), ("phase", "open"), ("phase", "run"), ("phase", "measure"), ("phase", "sign"),
    ("phase", "advance"), ("phase", "incident"), ("site", "agreement"), ("site", "conform"),
)  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_has_help_and_refuses_unknown_options(
    wardround: Command, command: tuple[str, ...]
) -> None:
    shown = wardround(*command, "--help")
    assert shown.code == 0 and " ".join(("wardround", *command)) in shown.out
    refused = wardround(*command, "--bogus")
    assert refused.code == 2
    assert refused.error.startswith("[usage]") and f"wardround {' '.join(command)} --help" in refused.error


@pytest.mark.parametrize(
    "arguments",
    [
        ("bogus",),
        ("--bogus",),
        ("plan", "bogus"),
        ("data", "check"),
        ("data", "check", "a", "b"),
        ("data", "check", "x", "--sites", "many"),
        ("demo", "--rounds", "three"),
        ("demo", "--epsilon-cap"),
        ("plan", "validate"),
        ("plan", "validate", "x", "--epsilon-cap", "eight"),
        ("federation", "new", "--out", "x"),
        ("coordinator", "run", "--home", "x"),
        ("coordinator", "serve"),
        ("site", "run", "--home", "x", "--wait", "long"),
        ("site", "serve", "--home", "x", "--interval", "soon"),
        ("ledger", "prove", "x"),
        ("ledger", "prove", "x", "first"),
        ("ledger", "verify"),
    ],
    ids=" ".join,
)
def test_bad_usage_exits_2_with_one_line(wardround: Command, arguments: tuple[str, ...]) -> None:
    done = wardround(*arguments)
    assert done.code == 2
    assert done.error.startswith("[usage]") and "--help" in done.error


@pytest.mark.parametrize(
    "arguments",
    [
        ("phase", "incident", "--severity", "minor", "--kind", "other"),
        ("site", "agreement", "paper.pdf", "--kind", "baa"),
        ("site", "conform", "--plan", "plan.yaml"),
        ("site", "vote-release", "hospital-b"),
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("wait", ["-1", "nan"])
def test_nobody_waits_less_than_nothing(wardround: Command, arguments: tuple[str, ...], wait: str) -> None:
    done = wardround(*arguments, "--home", "x", f"--wait={wait}")
    assert done.code == 2 and done.error.startswith("[usage.option] --wait")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_called_that(
    wardround: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def full(*_: object, **named: object) -> None:
        raise OSError(number, "No space left on device", "/home/a patient's name")

    monkeypatch.setattr("adapters.home.Home.read", full)
    done = wardround("phase", "incident", "--home", tmp_path, "--severity", "minor", "--kind", "other")
    assert done.code == 1 and done.error.startswith("[disk.full]") and "patient" not in done.error


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from wardround.__main__ import run\n"
        "assert run(['--help']) == 0\n"
        "heavy = {'torch', 'prefect', 'mlflow', 'great_expectations', 'monai', 'opacus', 'tenseal', 'pandas',\n"
        "         'numpy', 'pydicom', 'sqlalchemy', 'pydantic', 'policies', 'tasks', 'adapters', 'flows'}\n"
        "found = {name.split('.')[0] for name in sys.modules} & heavy\n"
        "assert not found, found\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Usage: wardround COMMAND" in done.stdout
