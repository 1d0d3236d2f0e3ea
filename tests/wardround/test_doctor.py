"""`wardround doctor`: every check, and what it says when something is wrong."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from policies.code import running_code_digest
from tests.consortium import Consortium
from tests.institution import configure
from tests.wardround.conftest import Command
from wardround import doctor


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch is asked once, in the test that is about it: it takes seconds to import."""
    monkeypatch.setattr(doctor, "_torch", lambda: doctor.Check("torch", "ok", "CPU"))


@pytest.fixture
def health() -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path in ("/api/health", "/health") else 404)
            self.end_headers()

        def log_message(self, *arguments: object) -> None: ...

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def outcomes(text: str) -> dict[str, tuple[str, str, str]]:
    return {
        check["name"]: (check["outcome"], check["found"], check["remedy"])
        for check in json.loads(text)["checks"]
    }


def test_it_reports_every_check(wardround: Command) -> None:
    done = wardround("doctor", "--json")
    found = outcomes(done.out)
    assert set(found) == {
        "Python", "packages", "torch", "disk", "memory", "Prefect", "MLflow", "code digest",
    }  # fmt: skip
    assert found["Python"][0] == "ok" and found["code digest"][1] == running_code_digest()
    assert found["torch"][0] in ("ok", "warn", "fail")
    assert done.code == (1 if any(outcome == "fail" for outcome, _, _ in found.values()) else 0)


def test_a_register_in_the_home_is_restored_with_it(wardround: Command, quick: None, tmp_path: Path) -> None:
    root = Consortium.found(tmp_path).founded.sites["hospital-a"]
    found = outcomes(wardround("doctor", "--home", root, "--json").out)["register"]
    assert found[0] == "warn" and "another disk" in found[2]
    configuration = root / "institution.yaml"
    configure(configuration, pool=str(tmp_path / "register"))
    found = outcomes(wardround("doctor", "--home", root, "--json").out)["register"]
    assert found == ("ok", str(tmp_path / "register"), "")


def test_the_table_says_what_to_do(wardround: Command, quick: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "http://user:hunter2@127.0.0.1:1/api")
    done = wardround("doctor")
    assert done.code == 1 and done.error.startswith("[doctor.failed]") and "Prefect" in done.error
    assert "no answer" in done.out and "unset PREFECT_API_URL" in " ".join(done.out.split())
    assert "hunter2" not in done.out


def test_reachable_services(
    wardround: Command, quick: None, health: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", f"{health}/api")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", health)
    found = outcomes(wardround("doctor", "--json").out)
    assert found["Prefect"][0] == found["MLflow"][0] == "ok"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"{health}/elsewhere")
    outcome, said, _ = outcomes(wardround("doctor", "--json").out)["MLflow"]
    assert outcome == "fail" and "HTTP 404" in said
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "file:///somewhere")
    assert outcomes(wardround("doctor", "--json").out)["MLflow"][0] == "fail"


def test_versions_other_than_pinned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    constraints = tmp_path / "deployments" / "constraints.txt"
    constraints.parent.mkdir()
    text = (doctor.ROOT / doctor.CONSTRAINTS).read_text()
    monkeypatch.setattr(doctor, "ROOT", tmp_path)
    constraints.write_text(text)
    assert doctor._packages().outcome == "ok"
    constraints.write_text(f"{text}\ncolorama==0.0.1 # moved\nnot-installed==1.0\n")
    check = doctor._packages()
    assert check.outcome == "warn" and "colorama" in check.found and "not-installed" not in check.found
    constraints.write_text(f"{text}\nnumpy==1.0\n")
    assert doctor._packages().outcome == "fail"
    monkeypatch.setattr(doctor, "REQUIRED", ("numpy", "no-such-package"))
    assert doctor._packages().found == "missing: no-such-package"


def test_little_memory_or_disk_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    for available, outcome in (
        (doctor.GIB, "fail"),
        (3 * doctor.GIB, "warn"),
        (9 * doctor.GIB, "ok"),
        (None, "warn"),
    ):
        monkeypatch.setattr(doctor, "_available_memory", lambda figure=available: figure)
        assert doctor._memory().outcome == outcome
    for free, outcome in ((1, "fail"), (2 * doctor.GIB, "warn"), (9 * doctor.GIB, "ok")):
        monkeypatch.setattr(
            doctor.shutil, "disk_usage", lambda _, figure=free: type("U", (), {"free": figure})
        )
        assert doctor._disk().outcome == outcome
