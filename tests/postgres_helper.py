"""A PostgreSQL server on loopback, of Debian's package or on the path, in a folder of its own; ended by its own process."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from server_helper import free_port

USER = "ernie"


def programs() -> Path | None:
    """Return the folder of `initdb` and `postgres`, the newest of Debian's packages first; None where they are missing."""
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[-3]))
    found = debian[-1] if debian else shutil.which("postgres")
    return None if found is None else Path(found).resolve().parent


def _user() -> str | None:
    """Return the user that it runs as where we are root, whom it refuses; None: ourselves."""
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"


class Postgres:
    """A running server with an empty database.

    Args:
        place: folder of the programs.
        folder: empty, may be entered by the server's user.
    """

    def __init__(self, place: Path, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        self.uri = f"postgresql://{USER}@127.0.0.1:{self.port}/postgres"
        self._postgres = place / "postgres"
        password = secrets.token_hex(16)
        user = _user()
        if user is not None:
            shutil.chown(folder, user)
        self._as = {} if user is None else {"user": user, "group": pwd.getpwnam(user).pw_gid, "extra_groups": ()}
        given = folder / "password"
        given.write_text(password, encoding="utf-8")
        shutil.chown(given, user or os.geteuid())
        command = [place / "initdb", "-D", folder / "data", "-U", USER, "-A", "scram-sha-256", f"--pwfile={given}", "-E", "UTF8", "--locale=C", "-N"]
        subprocess.run(command, check=True, capture_output=True, cwd="/", **self._as)
        self.passwords = folder / "pgpass"
        """What a client's PGPASSFILE names: the password stands in no address."""
        self.passwords.touch(mode=0o600)
        self.passwords.write_text(f"127.0.0.1:{self.port}:*:{USER}:{password}\n", encoding="utf-8")
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        """Start it and wait until it answers."""
        command = [self._postgres, "-D", self.folder / "data", "-h", "127.0.0.1", "-p", str(self.port), "-k", "", "-F"]
        with (self.folder / "postgres.log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, cwd="/", start_new_session=True, **self._as)
        deadline = time.monotonic() + 60
        while True:
            try:
                self.ask("select 1")
                return
            except psycopg.OperationalError:
                assert self._process.poll() is None, (self.folder / "postgres.log").read_text()
                assert time.monotonic() < deadline, "PostgreSQL does not start"
                time.sleep(0.05)

    def ask(self, query: str) -> list[tuple[object, ...]]:
        """Return the rows of a query."""
        with psycopg.connect(self.uri, passfile=str(self.passwords), connect_timeout=5) as connection:
            return connection.execute(query.encode()).fetchall()

    def end(self) -> None:
        """End it at once, connections cut: what was committed stays."""
        assert self._process is not None
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGQUIT)
        self._process.wait(timeout=30)


@contextmanager
def running() -> Iterator[Postgres]:
    """Run a server; skip the test where PostgreSQL is missing, which is no reason that `.ci/run` allows."""
    place = programs()
    if place is None:
        pytest.skip("no PostgreSQL")
    folder = Path(tempfile.mkdtemp(prefix="ernie-pg-", dir="/tmp"))  # pytest's own folders are closed to the server's user
    try:
        server = Postgres(place, folder)
        try:
            yield server
        finally:
            server.end()
    finally:
        shutil.rmtree(folder)
