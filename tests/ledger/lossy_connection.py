"""A PostgreSQL connection that breaks around COMMIT, for real: a proxy on a Unix socket that lets everything
pass until it is told to lose the next COMMIT, or the answer to it."""

from __future__ import annotations

import shutil
import socket
import tempfile
import threading
import time
from pathlib import Path

_COMMIT = b"COMMIT\0"  # not READ COMMITTED


class LossyConnection:
    """`lose` is "" (nothing), "question" (COMMIT never arrives) or "answer" (it arrives; the answer does not)."""

    def __init__(self, server: Path) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="wardround-proxy-"))
        self.lose = ""
        self.lost = threading.Event()
        self._server = str(server / ".s.PGSQL.5432")
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self.folder / ".s.PGSQL.5432"))
        self._listener.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()
        shutil.rmtree(self.folder)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.socket(socket.AF_UNIX)
            server.connect(self._server)
            answers = threading.Event()  # set: answers no longer pass
            threading.Thread(target=self._forward, args=(client, server, answers), daemon=True).start()
            threading.Thread(target=self._answer, args=(server, client, answers), daemon=True).start()

    def _forward(self, client: socket.socket, server: socket.socket, answers: threading.Event) -> None:
        while data := _received(client):
            if self.lose and _COMMIT in data:
                answers.set()
                if self.lose == "answer":
                    server.sendall(data)
                    time.sleep(0.2)  # the server commits
                self.lose = ""
                self.lost.set()
                break
            server.sendall(data)
        for end in (client, server):
            end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _answer(self, server: socket.socket, client: socket.socket, answers: threading.Event) -> None:
        while data := _received(server):
            if not answers.is_set():
                client.sendall(data)


def _received(end: socket.socket) -> bytes:
    try:
        return end.recv(65536)
    except OSError:
        return b""
