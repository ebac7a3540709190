"""How a group of ranks ends, and whether another follows it; knows nothing of Ray, `ray_train` runs the groups."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

from ernie_core.errors import DivergedError, ErnieError, PreemptedError, ResourceError

Out = TypeVar("Out")
NOT_STARTED = "E-RANKS-START"
OF_ALL_RANKS = (PreemptedError, DivergedError)
"""Errors that every rank raises at the same step."""


def why_again(error: ErnieError, *, stopped: bool, vain: int, max_failures: int) -> str:
    """Return why a group that ended with `error` is started again; raise the error where it is not.

    Args:
        error: with which the group ended.
        stopped: a stop was asked for.
        vain: groups in a row that ended without a newer checkpoint, this one included.
        max_failures: groups in a row that may fail to start, as when nodes go while they do.
    """
    if isinstance(error, PreemptedError) and not stopped:
        return "a node is taken away, and the ranks left it with a checkpoint"
    if isinstance(error, ResourceError) and (vain == 0 or (error.code == NOT_STARTED and vain <= max_failures)):
        return f"{error.code} {error.what}"
    raise error


def parts_of(error: ErnieError) -> dict[str, str]:
    """Return an error of `OF_ALL_RANKS` as its arguments and its "kind", to travel from a rank to the driver."""
    parts = {"code": error.code, "what": error.what, "where": error.where, "expected": error.expected, "found": error.found, "fix": error.fix}
    return {"kind": type(error).__name__, **parts}


def error_of(parts: dict[str, str]) -> ErnieError:
    """Return the error of which `parts_of` made parts."""
    kind = next(k for k in OF_ALL_RANKS if k.__name__ == parts["kind"])
    return kind(**{name: text for name, text in parts.items() if name != "kind"})


def cause_of(error: BaseException) -> BaseException:
    """Return our own error inside Ray's wrappers, or the wrapper."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, ErnieError):
            return seen
        inner = getattr(seen, "cause", None) or next(iter(getattr(seen, "worker_failures", {}).values()), None)
        seen = inner if isinstance(inner, BaseException) and inner is not seen else seen.__cause__
    return error


def in_thread(work: Callable[[], Out]) -> Out:
    """Do it in another thread: Ray Train takes SIGINT for itself in the main one, and a stop must reach our own handler."""
    done: list[Out] = []
    failed: list[BaseException] = []

    def do() -> None:
        """Keep what comes of it for the thread that waits."""
        try:
            done.append(work())
        except BaseException as e:  # noqa: BLE001  raised below
            failed.append(e)

    thread = threading.Thread(target=do, name="ray-train", daemon=True)
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
    return done[0]
