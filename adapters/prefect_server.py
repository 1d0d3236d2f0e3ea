"""One private Prefect API for one command: started, waited for, stopped.

Only `wardround demo`, the tests and the benchmarks use it (docs/adr/0003); institutions run their own server.
Two changes make Prefect's SQLite usable for flows that start together (measured: five flows, 15 s of waiting
down to 2 s): every transaction takes its write lock at once, so that a read is never upgraded into
"database is locked", and what is still answered with 503 carries a short `Retry-After`, which the client
prefers to its own back-off of 2 s and more. No flow and no task lives here.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self, cast

from ledger.errors import CodedError

if TYPE_CHECKING:
    Message = MutableMapping[str, object]
    Send = Callable[[Message], Awaitable[None]]
    Receive = Callable[[], Awaitable[Message]]
    AsgiApp = Callable[[Message, Receive, Send], Awaitable[None]]

RETRY_AFTER_S = b"0.1"
_START_TIMEOUT_S = 120.0
_DRAIN_TIMEOUT_S = 10.0
# Services that a server of one command has no use for; each writes to the same SQLite file.
_IDLE_SERVICES = (
    "CANCELLATION_CLEANUP",
    "CLEANUP_RECONCILER",
    "FOREMAN",
    "LATE_RUNS",
    "PAUSE_EXPIRATIONS",
    "REPOSSESSOR",
    "SCHEDULER",
    "TRIGGERS",
)


class PrefectServerError(CodedError):
    code = "prefect.server"


def create_app() -> AsgiApp:
    """The application that uvicorn serves in the server's own process."""
    from prefect.server.api.server import create_app as create_prefect_app
    from prefect.server.database.configurations import AioSqliteConfiguration

    begin = AioSqliteConfiguration.begin_transaction

    def begin_immediate(self: AioSqliteConfiguration, session, with_for_update: bool = False):  # type: ignore[no-untyped-def]
        return begin(self, session, with_for_update=True)

    AioSqliteConfiguration.begin_transaction = begin_immediate  # type: ignore[method-assign]
    inner = create_prefect_app()
    threading.Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        async def send_with_hint(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] == 503:
                headers = cast("list[tuple[bytes, bytes]]", message.get("headers", []))
                message = {**message, "headers": [*headers, (b"retry-after", RETRY_AFTER_S)]}
            await send(message)

        await inner(scope, receive, send_with_hint)

    return app


def _end_with_parent(parent: int) -> None:
    """A killed command cannot stop its server; the server notices that it was orphaned."""
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(0)


def answers(url: str, timeout_s: float = 1.0) -> bool:
    """Whether a Prefect API answers at `url` (".../api")."""
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=timeout_s) as reply:  # noqa: S310 - http(s) by config
            return bool(reply.status == 200)
    except (OSError, urllib.error.URLError, ValueError):
        return False


class PrefectServer:
    """Context manager. Uses `PREFECT_API_URL` where that is set, else serves `home` until left."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.log = home / "server.log"
        self.url = os.environ.get("PREFECT_API_URL", "")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Begin starting; `wait` returns when it answers, so that other work can be done meanwhile."""
        if self.url:
            return
        self.home.mkdir(parents=True, exist_ok=True)
        port = _free_port()
        self.url = f"http://127.0.0.1:{port}/api"
        os.environ.update(
            PREFECT_API_URL=self.url,
            PREFECT_HOME=str(self.home),
            PREFECT_CLIENT_MAX_RETRIES="100",
            PREFECT_CLIENT_CSRF_SUPPORT_ENABLED="false",
        )
        idle = {f"PREFECT_SERVER_SERVICES_{name}_ENABLED": "false" for name in _IDLE_SERVICES}
        command = [sys.executable, "-m", "uvicorn", "--factory", f"{__name__}:create_app"]
        command += ["--host", "127.0.0.1", "--port", str(port), "--log-level", "error"]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and arguments
                command,
                env={**os.environ, **idle, "PREFECT_SERVER_UI_ENABLED": "false"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C reaches the command first, which then stops the server
            )

    def wait(self) -> None:
        """Return when the API answers; raise PrefectServerError if it dies or takes too long."""
        deadline = time.monotonic() + _START_TIMEOUT_S
        while not answers(self.url):
            if self._process is not None and self._process.poll() is not None:
                raise PrefectServerError(
                    "the local Prefect server ended while starting", remedy=f"Read {self.log}."
                )
            if time.monotonic() > deadline:
                raise PrefectServerError(
                    f"no Prefect server answers at {self.url}",
                    remedy="Start one, or unset PREFECT_API_URL to let the command start its own.",
                )
            time.sleep(0.1)

    def stop(self) -> None:
        """Let the client hand over its last events and logs, then end the server. Without it the client's queues
        would wait at the interpreter's exit for a server that is gone."""
        if self._process is None:
            return
        _hand_over()
        self._process.terminate()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None
        os.environ.pop("PREFECT_API_URL", None)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _hand_over() -> None:
    if "prefect.events.worker" not in sys.modules:
        return
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker

    def drain() -> None:
        for queue in (APILogWorker, EventsWorker):
            queue.drain_all(timeout=_DRAIN_TIMEOUT_S)

    # In a thread of its own: called from a running event loop, draining would hand back something to await.
    thread = threading.Thread(target=drain)
    thread.start()
    thread.join()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
