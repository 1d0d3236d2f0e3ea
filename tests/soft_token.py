"""PKCS #11 tokens for tests: SoftHSM, a real library, with its tokens in a folder of the test.

The library is one a process and reads its configuration when it is initialised, so each test initialises it
anew after its tokens were made. What a test left logged in or held fails the test.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ledger import signer_guard, token_session
from ledger.keys import Scheme
from ledger.token_session import Pin, TokenAddress
from ledger.token_signer import TokenKey, TokenSigner
from tests.parts import need

PIN = "pin-5678-secret"
_ROOT = Path(__file__).resolve().parent.parent
_MODULES = (
    Path("/usr/lib/softhsm/libsofthsm2.so"),
    Path("/usr/lib64/pkcs11/libsofthsm2.so"),
    Path("/usr/local/lib/softhsm/libsofthsm2.so"),
)


class SoftTokens:
    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        module = next((path for path in _MODULES if path.is_file()), None)
        need("softhsm", module is not None and shutil.which("softhsm2-util"), package="softhsm2")
        assert module is not None
        self.module = module
        self.tokens, self.keys = root / "tokens", root / "keys"
        self.tokens.mkdir()
        self.keys.mkdir()
        (root / "softhsm2.conf").write_text(f"directories.tokendir = {self.tokens}\nlog.level = ERROR\n")
        monkeypatch.setenv("SOFTHSM2_CONF", str(root / "softhsm2.conf"))
        monkeypatch.delenv("WARDROUND_TOKEN_PIN", raising=False)

    def make(self, *labels: str) -> None:
        """Initialise tokens, and the library after them."""
        for label in labels:
            subprocess.run(
                [
                    "softhsm2-util",
                    "--init-token",
                    "--free",
                    "--label",
                    label,
                    "--so-pin",
                    "12345678",
                    "--pin",
                    PIN,
                ],
                check=True,
                capture_output=True,
            )
        import pkcs11

        pkcs11.lib(str(self.module.resolve())).reinitialize()

    def address(self, label: str = "ward") -> TokenAddress:
        return TokenAddress(self.module, label=label)

    def generate(self, key: str = "key", *, scheme: Scheme = "ed25519", on: str = "ward") -> TokenSigner:
        return TokenSigner.generate(
            self.address(on), TokenKey(key), name="ward", pin=Pin(PIN), guard=self.keys, scheme=scheme
        )

    def open(self, key: str = "key", *, pin: str = PIN, on: str = "ward") -> TokenSigner:
        return TokenSigner.open(self.address(on), TokenKey(key), name="ward", pin=Pin(pin), guard=self.keys)

    def start(self, script: str) -> subprocess.Popen[str]:
        """Another process, in which `tokens` is this object's like and standard output is unbuffered."""
        begin = (
            "import sys; from pathlib import Path; from ledger.token_session import *;"
            "from ledger.token_signer import *; from ledger.errors import CodedError\n"
            "module, keys, pin = Path(sys.argv[1]), Path(sys.argv[2]), Pin(sys.argv[3])\n"
            "def opened(key='key', token='ward'):\n"
            "    return TokenSigner.open(TokenAddress(module, label=token), TokenKey(key), name='ward',"
            " pin=pin, guard=keys)\n"
        )
        return subprocess.Popen(
            [sys.executable, "-u", "-c", begin + script, str(self.module), str(self.keys), PIN],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            stdin=subprocess.PIPE,
            text=True,
            cwd=_ROOT,
            env=dict(os.environ),
        )

    def stop(self) -> None:
        left = (dict(token_session._sessions), dict(signer_guard._held))
        for session in left[0].values():
            session.holders = 1
            session.close()
        for held in left[1].values():
            os.close(held.handle)
        signer_guard._held.clear()
        assert left == ({}, {}), "a signer was not closed"
