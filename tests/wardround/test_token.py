"""`federation new --token` and `doctor --home`: keys on tokens as people make and check them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.consortium import write_shard
from tests.soft_token import PIN, SoftTokens
from tests.wardround.conftest import Command
from wardround import doctor

HOSPITALS = ("hospital-a", "hospital-b", "hospital-c")


@pytest.fixture
def data(tmp_path: Path) -> list[str]:
    for name in HOSPITALS:
        write_shard(tmp_path / "data" / f"{name}.npz")
    return [f"--site={name}={tmp_path / 'data' / name}.npz" for name in HOSPITALS]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_torch", lambda: doctor.Check("torch", "ok", "CPU"))


def token_check(text: str) -> dict[str, str] | None:
    found: list[dict[str, str]] = [check for check in json.loads(text)["checks"] if check["name"] == "token"]
    return found[0] if found else None


def test_new_makes_keys_on_tokens_and_doctor_finds_them(
    wardround: Command,
    quick: None,
    data: list[str],
    soft_tokens: SoftTokens,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    soft_tokens.make("coordinator", *HOSPITALS)
    out = tmp_path / "federation"
    command = ("federation", "new", "--out", out, "--token", soft_tokens.module, *data)
    done = wardround(
        "federation", "new", "--out", out, "--token", tmp_path / "none.so", "--name", "Trial", *data
    )
    assert done.code == 2
    for part in ("WARDROUND_TOKEN_PIN", "--token: there is no such library", "--name"):
        assert part in done.error
    monkeypatch.setenv("WARDROUND_TOKEN_PIN", PIN)
    done = wardround(*command)
    assert done.code == 0, done.err
    assert PIN not in done.out + done.err
    homes = [out / "coordinator", *(out / "sites" / name for name in HOSPITALS)]
    for home in homes:
        assert not {"signing.pem", "witness.pem", "log.pem"} & {
            path.name for path in (home / "keys").iterdir()
        }
        check = token_check(wardround("doctor", "--home", home, "--json").out)
        assert check is not None and check["outcome"] == "ok", check
        assert home.name in check["found"] and "signing" in check["found"]

    script = (
        f"from adapters.home import Home; Home(Path({str(homes[1])!r})).signer('witness', 'hospital-a')\n"
    )
    holder = soft_tokens.start(f"{script}print('holding')\nsys.stdin.readline()\n")
    assert holder.stdout is not None and holder.stdout.readline() == "holding\n"
    check = token_check(wardround("doctor", "--home", homes[1], "--json").out)
    assert check is not None and check["outcome"] == "ok"
    assert check["found"].endswith("in use by a running process: witness")
    holder.communicate("\n", timeout=20)

    monkeypatch.setenv("WARDROUND_TOKEN_PIN", "wrong-pin")
    done = wardround("doctor", "--home", homes[1], "--json")
    check = token_check(done.out)
    assert done.code == 1 and check is not None and check["outcome"] == "fail"
    assert "refuses the PIN" in check["found"] and "wrong-pin" not in done.out + done.err


def test_a_refused_token_leaves_no_half_founded_federation(
    wardround: Command,
    data: list[str],
    soft_tokens: SoftTokens,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    soft_tokens.make("coordinator", "hospital-a")
    monkeypatch.setenv("WARDROUND_TOKEN_PIN", PIN)
    out = tmp_path / "federation"
    done = wardround("federation", "new", "--out", out, "--token", soft_tokens.module, *data)
    assert done.code == 2 and done.error.startswith("[ledger.token.missing]") and "hospital-b" in done.error
    assert not out.exists()
    soft_tokens.make("hospital-b", "hospital-c")  # what was made on the first two is in nobody's way
    assert wardround("federation", "new", "--out", out, "--token", soft_tokens.module, *data).code == 0


def test_doctor_says_nothing_of_tokens_where_keys_are_files(
    wardround: Command, quick: None, data: list[str], tmp_path: Path
) -> None:
    out = tmp_path / "federation"
    assert wardround("federation", "new", "--out", out, *data).code == 0
    assert token_check(wardround("doctor", "--home", out / "coordinator", "--json").out) is None
    done = wardround("doctor", "--home", tmp_path)
    assert done.code == 2 and done.error.startswith("[home.invalid]")
