"""Whose folder is this: a run's folder, its lock, and the marks that tell ours from others' (reliability.md F16-F17, F23-F25)."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import shutil
import socket
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ernie_core.errors import IntegrityError, OutputError, ResourceError, printable
from ernie_core.manifest import MANIFEST_NAME, canonical_json, disk_errors, write_record
from ernie_core.object_folders import entries, rename
from ernie_core.object_store import TEMPORARY, forget, home, kept_at, refresh
from pipelines.lease import LEASE_NAME, leased

FORMAT = 1
STEP_NAME, RUN_NAME, LOCK_NAME, INPUTS_NAME, WANTED_NAME = "step.json", "run.json", ".lock", "inputs.json", "mlflow_run.json"


def check_run_folder(run_folder: Path) -> None:
    """Refuse a folder that holds other things than a run, touching nothing.

    Raises:
        OutputError: E-OUTPUT-FOREIGN.
        ResourceError: E-PERMISSION.
        IntegrityError: E-PATH, see `check_links`.
    """
    with disk_errors(run_folder):
        check_links(run_folder)
        if run_folder.exists() and not run_folder.is_dir():
            raise _foreign(run_folder, [run_folder.name])
        if home(run_folder) is not None:
            held_there = sorted(name for names in entries(run_folder) for name in names)
            if held_there not in ([], [LEASE_NAME]) and RUN_NAME not in held_there:
                raise _foreign(run_folder, held_there)
            check_writable(run_folder)
            return
        # A kill inside the first write of run.json leaves its temporary file.
        names = sorted(p.name for p in run_folder.iterdir() if not p.name.startswith(f"{TEMPORARY}{RUN_NAME}-")) if run_folder.exists() else []
        if names not in ([], [LOCK_NAME]) and RUN_NAME not in names:
            raise _foreign(run_folder, names)
        check_writable(run_folder)


def check_links(folder: Path) -> None:
    """Refuse a folder in which a link leads out of it: what is written there would land elsewhere (reliability F41). The folder itself may be a link.

    Raises:
        IntegrityError: E-PATH.
    """
    whole = os.path.realpath(folder)
    left = [str(folder)] if folder.is_dir() else []
    while left:
        with os.scandir(left.pop()) as found:
            for entry in found:
                if not entry.is_symlink():
                    left += [entry.path] if entry.is_dir(follow_symlinks=False) else []
                elif not (target := os.path.realpath(entry.path)).startswith(f"{whole}/"):
                    raise IntegrityError(
                        "E-PATH", "a link leads out of the run's folder", where=entry.path, expected="folders and files", found=printable(target),
                        fix="take the link away, or give another root; a run on another disk needs a root there, or a folder that is a link itself",
                    )  # fmt: skip


def check_writable(folder: Path) -> None:
    """Raise E-PERMISSION unless this process may write into `folder`, or into what exists above it."""
    existing = folder
    while not existing.exists():
        existing = existing.parent
    if not os.access(existing, os.W_OK | os.X_OK, effective_ids=True) or not existing.is_dir():
        mode = oct(existing.stat().st_mode & 0o7777)
        found = f"mode {mode}, uid {existing.stat().st_uid}, and this process is uid {os.geteuid()}"
        raise ResourceError(
            "E-PERMISSION", "cannot write here", where=str(existing), found=found, fix="choose another root, or change its permissions"
        )


def check_space(folder: Path, needed_bytes: float, what: str) -> None:
    """Refuse work for which the disk has no room (reliability F23).

    Raises:
        ResourceError: E-DISK-FULL.
    """
    existing = folder
    while not existing.exists():
        existing = existing.parent
    free = shutil.disk_usage(existing).free
    if free < needed_bytes:
        raise ResourceError(
            "E-DISK-FULL", f"not enough space for {what}", where=str(folder), expected=f"about {needed_bytes / 1e6:.1f} MB", found=f"{free / 1e6:.1f} MB free",
            fix="free space, or choose another root; nothing was started",
        )  # fmt: skip


def _foreign(folder: Path, names: Sequence[str]) -> OutputError:
    shown = ", ".join(names[:5]) + (" …" if len(names) > 5 else "")
    return OutputError(
        "E-OUTPUT-FOREIGN",
        "this folder holds files of something else; nothing was touched",
        where=kept_at(folder),
        found=shown,
        fix="choose another name or root in the recipe",
    )


@contextlib.contextmanager
def locked(run_folder: Path) -> Iterator[None]:
    """Hold the run folder for one driver; the kernel lets go when the process ends, however it ends; in an object store see `lease`."""
    with disk_errors(run_folder):
        try:
            run_folder.mkdir(parents=True, exist_ok=True)
        except FileNotFoundError as e:  # file systems such as /proc answer so
            raise ResourceError(
                "E-PERMISSION", "cannot make this folder", where=str(run_folder), found=str(e.strerror), fix="choose another root"
            ) from e
        fd = os.open(run_folder / LOCK_NAME, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as e:
            if e.errno not in {errno.EAGAIN, errno.EACCES}:
                raise
            owner = os.read(fd, 200).decode("utf-8", "replace").strip()
            raise OutputError(
                "E-LOCKED",
                "another run works in this folder",
                where=str(run_folder),
                found=owner or "an owner that has not signed yet",
                fix="wait for it, or stop it",
            ) from e
        _sign(fd)
        with leased(run_folder, fd):
            if not refresh(run_folder / RUN_NAME):
                write_record(run_folder / RUN_NAME, canonical_json({"format": FORMAT, "run": run_folder.name}) + b"\n")
            _pull(run_folder)
            yield
    finally:
        os.close(fd)


def _pull(run_folder: Path) -> None:
    """Make what is here of a run in an object store what the store holds: records are read, steps that it lacks go.

    Raises:
        OutputError: E-OUTPUT-FOREIGN, a folder there is no step of ours.
    """
    if home(run_folder) is None:
        return
    refresh(run_folder / WANTED_NAME)
    there = entries(run_folder)[1]
    for folder in [path for path in run_folder.iterdir() if path.is_dir() and path.name not in there]:
        forget(folder)
        shutil.rmtree(folder)
    for name in there:
        for record in (STEP_NAME, INPUTS_NAME, WANTED_NAME, MANIFEST_NAME):
            refresh(run_folder / name / record)
        if not (run_folder / name / STEP_NAME).exists():
            raise _foreign(run_folder / name, [name for names in entries(run_folder / name) for name in names])


@contextlib.contextmanager
def held(path: Path, timeout_s: float) -> Iterator[None]:
    """Hold the lock `path` for this process, as soon as another lets go of it.

    A process that is being ended for this one still holds it for a moment; the kernel lets go when it is gone.

    Raises:
        OutputError: E-LOCKED, it was not let go of within `timeout_s` seconds.
    """
    deadline = time.monotonic() + timeout_s
    with disk_errors(path):
        fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    owner = os.read(fd, 200).decode("utf-8", "replace").strip()
                    raise OutputError(
                        "E-LOCKED", "an earlier process still writes here", where=str(path.parent), expected=f"its end within {timeout_s:g} s",
                        found=owner, fix="end that process, then run the same command again",
                    ) from None  # fmt: skip
                time.sleep(0.05)
        _sign(fd)
        yield
    finally:
        os.close(fd)


def _sign(fd: int) -> None:
    os.ftruncate(fd, 0)
    os.pwrite(fd, f"pid {os.getpid()} on host {socket.gethostname()}\n".encode(), 0)


def read_step(folder: Path) -> dict[str, Any] | None:
    """Return step.json, None for a folder that is missing or empty; raise E-OUTPUT-FOREIGN for one that is not ours."""
    if not folder.exists():
        return None
    names = sorted(p.name for p in folder.iterdir()) if folder.is_dir() else [folder.name]
    if not names or all(name.startswith(f"{TEMPORARY}{STEP_NAME}-") for name in names):
        return None  # a kill inside the very first write leaves a temporary file
    try:
        body = json.loads((folder / STEP_NAME).read_bytes())
        if body["format"] == FORMAT and body["step"] == folder.name and isinstance(body["settings"], dict) and isinstance(body["parents"], dict):
            return dict(body)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        pass
    raise _foreign(folder, names)


def move_aside(folder: Path) -> Path:
    """Rename `folder` to the first free `<name>.old-N`, and return that."""
    number = 1
    while (aside := folder.with_name(f"{folder.name}.old-{number}")).exists():
        number += 1
    rename(folder, aside)
    return folder.rename(aside)
