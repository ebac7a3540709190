"""How a group of ranks ends, and whether another follows it; knows nothing of Ray, `ray_train` runs the groups."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from ernie_core.errors import DivergedError, ErnieError, PreemptedError, ResourceError

Out = TypeVar("Out")
NOT_STARTED = "E-RANKS-START"
OF_ALL_RANKS = (PreemptedError, DivergedError)
"""Errors that every rank raises at the same step."""


@dataclass(frozen=True)
class Growth:
    """How a group of ranks grows when nodes come.

    Args:
        most: ranks where there is room for all.
        after_s: seconds that a group works at least before it is stopped to grow.
        ask: asks the ranks to stop at a checkpoint.
        forget: takes that back, before another group starts.
    """

    most: int
    after_s: float
    ask: Callable[[], None]
    forget: Callable[[], object]


def why_again(error: ErnieError, *, stopped: bool, vain: int, max_failures: int, elastic: bool = False, grows: bool = False) -> str:
    """Return why a group that ended with `error` is started again; raise the error where it is not.

    Args:
        error: with which the group ended.
        stopped: a stop was asked for.
        vain: groups in a row that ended without a newer checkpoint, this one included.
        max_failures: groups in a row that may fail to start, as when nodes go while they do; of an elastic group, that may end by any fault.
        elastic: the number of ranks may change, and Ray starts none again by itself.
        grows: they were asked to stop, so that more can go on.
    """
    if isinstance(error, PreemptedError) and not stopped and grows:
        return "there is room for more ranks, and these stopped with a checkpoint"
    if isinstance(error, PreemptedError) and not stopped:
        return "a node is taken away, and the ranks left it with a checkpoint"
    if isinstance(error, ResourceError) and (vain == 0 or ((elastic or error.code == NOT_STARTED) and vain <= max_failures)):
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


def in_thread(work: Callable[[], Out], meanwhile: Callable[[], object] = lambda: None) -> Out:
    """Do it in another thread: Ray Train takes SIGINT for itself in the main one, and a stop must reach our own handler. Call `meanwhile` every second."""
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
    while thread.is_alive():
        thread.join(1.0)
        meanwhile()
    if failed:
        raise failed[0]
    return done[0]
