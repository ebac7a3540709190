"""Named places where a test can kill the process: ``ERNIE_FAILPOINT=name:nth`` (reliability.md 4.5). A no-op otherwise.

The kill is a SIGKILL of the own process, so nothing (finally blocks, atexit) runs. With ``ERNIE_FAILPOINT_ONCE=FILE`` the
kill happens at most once over all processes and restarts: FILE is created just before it, and its presence disarms the point.
With ``ERNIE_FAILPOINT_HOW=segfault`` the process reads address 0 instead.
"""

from __future__ import annotations

import ctypes
import os
import signal

NAMES = frozenset({
    "data.before_tmp", "data.mid_write", "data.before_fsync", "data.after_rename", "data.before_entry", "data.before_manifest",
    "ckpt.before_tmp", "ckpt.mid_write", "ckpt.after_files", "ckpt.before_manifest", "ckpt.after_manifest", "ckpt.mid_purge",
    "train.after_forward", "train.before_step", "train.after_step", "train.stage_border", "train.mid_eval",
    "train.before_report", "train.after_report", "trial.before_commit", "track.mid_ship", "store.before_commit", "store.after_commit",
})  # fmt: skip
_visits: dict[str, int] = {}


def failpoint(name: str) -> None:
    """Kill this process if the environment asks for it at the nth visit of `name`."""
    armed = os.environ.get("ERNIE_FAILPOINT")
    if not armed:
        return
    wanted, _, nth = armed.partition(":")
    assert name in NAMES, name
    if wanted != name:
        return
    _visits[name] = _visits.get(name, 0) + 1
    if _visits[name] != int(nth or 1):
        return
    once = os.environ.get("ERNIE_FAILPOINT_ONCE")
    if once:
        try:
            os.close(os.open(once, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        except FileExistsError:
            return
    if os.environ.get("ERNIE_FAILPOINT_HOW") == "segfault":
        ctypes.string_at(0)
    os.kill(os.getpid(), signal.SIGKILL)
