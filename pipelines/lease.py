"""One driver at a time in a run in an object store: `lease.json` is signed again and again as long as the driver lives.

A driver that finds it signed watches it: signed again means a living owner (E-LOCKED), not signed for `lease_s` seconds a dead one, whose place is
taken. No clocks of two machines are compared. A driver that could not sign for so long, and finds that another has taken its place, stops.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ernie_core.errors import OutputError, RecipeError, ResourceError
from ernie_core.manifest import canonical_json
from ernie_core.object_conditions import not_kept
from ernie_core.object_store import commit, home, place_of, refresh, remove, told

LEASE_NAME = "lease.json"
LEASE_S = 20.0


@contextlib.contextmanager
def leased(run_folder: Path, lock: int) -> Iterator[None]:
    """Hold a run in an object store for this driver; nothing is done for a folder without a home.

    Args:
        run_folder: in this machine's scratch folder.
        lock: the open lock file of that folder, which this process holds: an owner who signed with the same one is dead.

    Raises:
        OutputError: E-LOCKED, another driver is at work; E-COMMIT-LOST, at the end, another one has taken this one's place.
        ResourceError: E-STORE-CONDITIONS, the store keeps no conditional PUT; E-STORE.
        RecipeError: E-ENVIRONMENT, ERNIE_LEASE_S is no number of seconds.
    """
    if home(run_folder) is None:
        yield
        return
    lease = _Lease(run_folder / LEASE_NAME, lock)
    lease.take()
    try:
        yield
    finally:
        lease.end()


class _Lease:
    def __init__(self, path: Path, lock: int) -> None:
        state = os.fstat(lock)
        boot = Path("/proc/sys/kernel/random/boot_id")
        self._path = path
        self._me: dict[str, Any] = {
            "owner": f"pid {os.getpid()} on host {socket.gethostname()}", "key": secrets.token_hex(8), "lease_s": _lease_s(),
            "lock": f"{boot.read_text().strip() if boot.exists() else socket.gethostname()}:{state.st_dev}:{state.st_ino}",
        }  # fmt: skip
        self._ended = threading.Event()
        self._guard, self._lost = threading.Lock(), False
        self._thread = threading.Thread(target=self._sign_on, name="lease", daemon=True)

    def take(self) -> None:
        """Sign as the run's driver and go on signing in a thread; a silent owner is waited for first (module docstring; issue 8, Storage).

        Raises:
            OutputError: E-LOCKED, another driver signed meanwhile.
            ResourceError: E-STORE-CONDITIONS, the store would let two drivers sign; E-STORE.
        """
        if refresh(self._path):
            before = json.loads(self._path.read_bytes())
            if before["lock"] != self._me["lock"]:
                self._outwait(before)
        try:
            signed = self._sign(0)
        except OutputError:
            raise self._locked(self._owner()) from None
        try:
            self._require_conditions(signed)
        except ResourceError:
            self._leave()
            raise
        self._thread.start()

    def _outwait(self, owner: dict[str, Any]) -> None:
        """Return once the owner has not signed for as long as it promised to."""
        seconds = float(owner["lease_s"])
        print(f"the run is held by {owner['owner']}; waiting up to {seconds:g} s to see whether it lives", file=sys.stderr)
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            time.sleep(min(1.0, seconds / 20))
            if not refresh(self._path):
                return
            if (now := self._owner()) != owner:
                raise self._locked(now)

    def _owner(self) -> dict[str, Any]:
        refresh(self._path)
        return dict(json.loads(self._path.read_bytes()))

    def _locked(self, owner: dict[str, Any]) -> OutputError:
        return OutputError(
            "E-LOCKED",
            "another run works in this folder",
            where=str(home(self._path.parent)),
            found=str(owner["owner"]),
            fix="wait for it, or stop it",
        )

    def _sign(self, number: int) -> bytes:
        signed = canonical_json({**self._me, "number": number}) + b"\n"
        commit(self._path, signed, retry_s=self._me["lease_s"] / 4)
        return signed

    def _require_conditions(self, signed: bytes) -> None:
        with told(self._path):
            place = place_of(self._path)
            if place is not None and (error := not_kept(place, signed, str(home(self._path)))) is not None:
                raise error

    def _sign_on(self) -> None:
        number = 0
        while not self._ended.wait(self._me["lease_s"] / 4):
            number += 1
            try:
                self._sign(number)
            except ResourceError:
                continue  # no answer now; whether another driver came in between the next signature says
            except OutputError:
                self._interrupt()
                return

    def _interrupt(self) -> None:
        """Interrupt the main thread, and again later if it has not ended: a signal that comes just before it begins to wait is not seen."""
        while True:
            with self._guard:
                if self._ended.is_set():
                    return
                self._lost = True
                signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
            if self._ended.wait(max(5.0, self._me["lease_s"])):
                return

    def end(self) -> None:
        """Stop signing and take the lease away, so that the next driver need not wait.

        Raises:
            OutputError: E-COMMIT-LOST, another driver has taken this one's place.
        """
        try:
            with self._guard:
                self._ended.set()
            self._thread.join()
        except KeyboardInterrupt:
            if not self._lost:
                raise
        if self._lost:
            raise OutputError(
                "E-COMMIT-LOST", "another driver has taken this run over, since this one could not sign for too long", where=str(home(self._path)),
                expected=f"a signature every {self._me['lease_s'] / 4:g} s", fix="let the other one end, then run the same command again",
            )  # fmt: skip
        self._leave()

    def _leave(self) -> None:
        with contextlib.suppress(OutputError, ResourceError):  # who comes next waits, then takes it
            remove(self._path, retry_s=self._me["lease_s"] / 4)


def _lease_s() -> float:
    given = os.environ.get("ERNIE_LEASE_S", str(LEASE_S))
    try:
        if (seconds := float(given)) >= 0.1:
            return seconds
    except ValueError:
        pass
    raise RecipeError("E-ENVIRONMENT", "no time that a driver may be silent", where="ERNIE_LEASE_S", expected="seconds, such as 20", found=given)
