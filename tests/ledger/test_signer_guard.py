"""One process a key: the second is refused with a name and an address, and no death leaves the key locked."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from ledger.errors import CodedError
from ledger.signer_guard import GuardError, KeyInUseError, SignerGuard
from tests.soft_token import SoftTokens

KEYID = "ab" * 32
HOLD = "signer = opened()\nprint('holding')\nsys.stdin.readline()\n"


@pytest.fixture
def tokens(soft_tokens: SoftTokens) -> SoftTokens:
    soft_tokens.make("ward")
    soft_tokens.generate().close()
    return soft_tokens


def holding(tokens: SoftTokens, script: str = HOLD) -> subprocess.Popen[str]:
    process = tokens.start(script)
    assert process.stdout is not None
    assert process.stdout.readline() == "holding\n"
    return process


def test_a_second_process_is_refused_until_the_first_is_done(tokens: SoftTokens) -> None:
    first = holding(tokens)
    with pytest.raises(KeyInUseError) as refused:
        tokens.open()
    said = str(refused.value)
    assert f"process {first.pid}" in said and str(tokens.keys) in said and "Stop it" in said
    assert refused.value.code == "ledger.key.in-use"
    beside = tokens.generate("beside")  # another key of the same token
    beside.close()
    first.communicate("\n", timeout=20)
    tokens.open().close()


def test_closing_lets_another_process_sign(tokens: SoftTokens) -> None:
    first = holding(tokens, "signer = opened()\nsigner.close()\nprint('holding')\nsys.stdin.readline()\n")
    tokens.open().close()
    first.communicate("\n", timeout=20)


def test_a_killed_holder_frees_the_key(tokens: SoftTokens) -> None:
    first = holding(tokens)
    first.send_signal(signal.SIGKILL)
    first.communicate(timeout=20)
    tokens.open().close()


def test_neither_a_forked_nor_a_started_child_keeps_the_key_of_a_dead_parent(tokens: SoftTokens) -> None:
    script = (
        "import os, subprocess, time\nsigner = opened()\n"
        "started = subprocess.Popen(['sleep', '30'], close_fds=False, stdout=subprocess.DEVNULL)\n"
        "child = os.fork()\n"
        "if not child:\n    time.sleep(30)\n    os._exit(0)\n"
        "print('holding')\nprint(child, started.pid)\nsys.stdin.readline()\n"
    )
    first = holding(tokens, script)
    assert first.stdout is not None
    children = [int(child) for child in first.stdout.readline().split()]
    try:
        os.kill(first.pid, signal.SIGKILL)
        first.wait(timeout=20)
        tokens.open().close()
    finally:
        for child in children:
            os.kill(child, signal.SIGKILL)
        first.communicate(timeout=20)


# -- the guard itself ----------------------------------------------------------------------------------------


def test_holders_in_one_process_share_it(tmp_path: Path) -> None:
    one, two = SignerGuard.hold(tmp_path, KEYID), SignerGuard.hold(tmp_path, KEYID)
    one.release()
    one.release()  # again is nothing, not the other's
    assert taken(tmp_path)
    two.release()
    assert not taken(tmp_path)
    other = SignerGuard.hold(tmp_path, "cd" * 32)
    assert not taken(tmp_path)
    other.release()


def taken(folder: Path) -> bool:
    """Whether another process is refused."""
    done = subprocess.run(["flock", "-n", str(folder / f"{KEYID[:32]}.lock"), "true"], check=False)
    return done.returncode != 0


def test_what_cannot_be_locked_is_refused(tmp_path: Path) -> None:
    for folder in (tmp_path / "nothing", Path("/proc")):
        with pytest.raises(GuardError):
            SignerGuard.hold(folder, KEYID)
    (tmp_path / f"{KEYID[:32]}.lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(CodedError):
        SignerGuard.hold(tmp_path, KEYID)
    assert not (tmp_path / "elsewhere").exists()


def test_a_lock_file_is_its_owner_s_alone(tmp_path: Path) -> None:
    guard = SignerGuard.hold(tmp_path, KEYID)
    path = tmp_path / f"{KEYID[:32]}.lock"
    assert path.stat().st_mode & 0o777 == 0o600 and path.read_text() == f"{os.getpid()}\n"
    guard.release()
