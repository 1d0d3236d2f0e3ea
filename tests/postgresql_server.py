"""A private PostgreSQL server for tests: a real one, with fsync, in a folder of its own, on a Unix socket.

It runs as the user `postgres` where the tests run as root, because it refuses root; it ends with the process
that started it, however that ends. Databases are made per test and go with the folder.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from itertools import count
from pathlib import Path

import psycopg

from tests.parts import need

USER = "ledger"
GUARDED = "guarded"  # a user that must give a password, unlike USER
PASSWORD = "correct-horse-7319"  # noqa: S105 - of a server that nobody else can reach
_CONFIGURATION = """
listen_addresses = ''
unix_socket_directories = '{folder}'
fsync = on
shared_buffers = '32MB'
max_connections = 50
recovery_init_sync_method = syncfs
wal_writer_delay = '10s' # what a commit does not write stays unwritten long enough to be lost in a crash
"""
_ACCESS = f"""
local all {GUARDED} scram-sha-256
local all all trust
"""


def binaries() -> Path | None:
    """The folder of `initdb`, the newest if there are several."""
    found = shutil.which("initdb")
    if found is not None:
        return Path(found).parent
    return max(Path("/usr/lib/postgresql").glob("*/bin"), default=None)


class PostgresqlServer:
    def __init__(self) -> None:
        found = binaries()
        need("postgresql", found, package="postgresql")
        assert found is not None
        self._binaries = found
        self._numbers = count()
        # Not pytest's folder: the server's user must reach it, and a socket's path is short.
        self.folder = Path(tempfile.mkdtemp(prefix="wardround-pg-"))
        if os.geteuid() == 0:
            shutil.chown(self.folder, "postgres", "postgres")
        data = str(self.folder / "data")
        self._run("initdb", "--no-sync", "--auth=trust", f"--username={USER}", "--encoding=UTF8", "-D", data)
        with (self.folder / "data" / "postgresql.conf").open("a") as file:
            file.write(_CONFIGURATION.format(folder=self.folder))
        (self.folder / "data" / "pg_hba.conf").write_text(_ACCESS)
        self._process: subprocess.Popen[bytes] | None = None
        self.start()
        self.execute(f"CREATE ROLE {GUARDED} LOGIN SUPERUSER PASSWORD '{PASSWORD}'")

    def start(self) -> None:
        """Start, or start again after `crash`, which takes the recovery along."""
        command = [str(self._binaries / "postgres"), "-D", str(self.folder / "data")]
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                ["setpriv", *_as_postgres(), "--pdeathsig", "INT", "--", *command],
                cwd=self.folder,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + 30
        while True:
            try:
                psycopg.connect(self._conninfo("postgres")).close()
                return
            except psycopg.OperationalError:
                assert self._process.poll() is None, (self.folder / "server.log").read_text()
                assert time.monotonic() < deadline
                time.sleep(0.02)

    def crash(self) -> None:
        """End at once, without writing anything: what is not on the disk is lost. Any process may call."""
        self._run("pg_ctl", "stop", "-m", "immediate", "-D", str(self.folder / "data"))

    def restart(self) -> None:
        if self._process is not None:
            self._process.wait(30)
        self.start()

    def stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self.crash()
            self._process.wait(30)
        shutil.rmtree(self.folder)

    def database(self) -> str:
        """A new, empty database; its name."""
        name = f"ledger_{next(self._numbers)}"
        self.execute(f"CREATE DATABASE {name}")
        return name

    def drop(self, database: str) -> None:
        self.execute(f"DROP DATABASE {database} WITH (FORCE)")

    def empty(self, database: str) -> None:
        """Make a database new again, sooner than making a new one."""
        self.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public", database=database)

    def url(self, database: str, *, user: str = USER, folder: Path | None = None) -> str:
        return f"postgresql://{user}@/{database}?host={folder or self.folder}"

    def connect(self, database: str = "postgres") -> psycopg.Connection:
        return psycopg.connect(self._conninfo(database), autocommit=True)

    def execute(self, statement: str, *, database: str = "postgres") -> None:
        with self.connect(database) as connection:
            connection.execute(statement)

    def configure(self, setting: str, value: str) -> None:
        """Change a setting of the running server, and wait until new transactions see it."""
        self.execute(f"ALTER SYSTEM SET {setting} = {value}")
        self.execute("SELECT pg_reload_conf()")
        deadline = time.monotonic() + 10
        with self.connect() as connection:
            while connection.execute(f"SHOW {setting}").fetchone() != (value,):
                assert time.monotonic() < deadline
                time.sleep(0.01)

    def _conninfo(self, database: str) -> str:
        return f"host={self.folder} user={USER} dbname={database}"

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            ["setpriv", *_as_postgres(), "--", str(self._binaries / program), *arguments],
            cwd=self.folder,
            capture_output=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr.decode()


def _as_postgres() -> list[str]:
    return ["--reuid=postgres", "--regid=postgres", "--init-groups"] if os.geteuid() == 0 else []
