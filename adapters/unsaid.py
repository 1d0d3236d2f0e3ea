"""What a site's people want on the ledger, kept in its home until a run has said it.

    <home>/unsaid/<time, token>.json       {"body":{...},"type":"incident.reported"}, canonical JSON
    <home>/unsaid/<time, token>.entry      its signed entry, from when a run began to say it: sent again byte for byte
    <home>/unsaid/<time, token>.refused    why the ledger did not take it (`adapters.mail`)

A home is for one run at a time, and a hospital that serves has one nearly always: whoever wants something said leaves
it here. Where it is said lives in `tasks.site.statements`.
"""

from __future__ import annotations

import secrets
import time
from pathlib import Path

from adapters import mail
from adapters.home import write_atomically
from ledger import canonical
from ledger.errors import InputError, Violation
from policies.events import Body, parse_body, type_of


class UnsaidError(InputError):
    code = "home.unsaid"


class Unsaid:
    def __init__(self, home: Path) -> None:
        self._root = home / "unsaid"

    def put(self, body: Body) -> str:
        """Durable when it returns; its name."""
        name = f"{time.time_ns():020d}-{secrets.token_hex(4)}"
        value = canonical.encode({"type": type_of(body), "body": body.to_json()})
        write_atomically(self._path(name, "json"), value, mode=0o600)
        return name

    def waiting(self) -> tuple[str, ...]:
        """The oldest first."""
        try:
            return tuple(sorted(path.stem for path in self._root.iterdir() if path.suffix == ".json"))
        except FileNotFoundError:
            return ()

    def read(self, name: str) -> Body:
        value = canonical.decode(self._path(name, "json").read_bytes())
        kind, body = (value.get("type"), value.get("body")) if isinstance(value, dict) else (None, None)
        if not isinstance(kind, str) or not isinstance(body, dict):
            raise UnsaidError("a file of the home's unsaid folder is none of ours", remedy="Remove it.")
        return parse_body(kind, body)

    def entry(self, name: str) -> bytes | None:
        try:
            return self._path(name, "entry").read_bytes()
        except FileNotFoundError:
            return None

    def keep_entry(self, name: str, entry: bytes) -> None:
        write_atomically(self._path(name, "entry"), entry, mode=0o600)

    def forget_entry(self, name: str) -> None:
        self._path(name, "entry").unlink(missing_ok=True)

    def said(self, name: str) -> None:
        # The wish before its entry: an entry alone says nothing again.
        self._path(name, "json").unlink(missing_ok=True)
        self.forget_entry(name)

    def refuse(self, name: str, violations: tuple[Violation, ...]) -> None:
        write_atomically(self._path(name, "refused"), mail.write_refusal(violations), mode=0o600)
        self.said(name)

    def refusal(self, name: str) -> tuple[Violation, ...]:
        """Why the ledger did not take it, once; empty if it did, or nobody has asked it yet."""
        path = self._path(name, "refused")
        try:
            found = mail.read_refusal(path.read_bytes())
        except FileNotFoundError:
            return ()
        path.unlink()
        return found

    def _path(self, name: str, suffix: str) -> Path:
        return self._root / f"{name}.{suffix}"
