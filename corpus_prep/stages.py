"""Where the time of a split's work goes: seconds of each stage. They are said and tracked, and stand in no file that decides a result."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager


class Stages:
    """Clock of one split's pass: what passed since the last call belongs to the stage that is named.

    Example: ``s = Stages(); read(); s.ends("read"); clean(); s.ends("clean")`` -> ``s.seconds == {"read": 0.2, "clean": 0.5}``.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._since = time.perf_counter()

    def ends(self, stage: str) -> None:
        """Count the time since the last call, or since the beginning, to `stage`."""
        now = time.perf_counter()
        self.seconds[stage] = self.seconds.get(stage, 0.0) + now - self._since
        self._since = now


@contextmanager
def without_collections() -> Iterator[None]:
    """Let Python not look for cycles of objects meanwhile. A split's work makes none, and going through all that it holds took a fifth of its time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def shares_line(seconds: Mapping[str, float]) -> str:
    """Return the stages' shares of all time, in their order.

    Example: ``shares_line({"read": 1.0, "clean": 3.0})`` -> ``"read 25 %, clean 75 %"``.
    """
    total = sum(seconds.values())
    return ", ".join(f"{stage} {part / total:.0%}".replace("%", " %") for stage, part in seconds.items()) if total else ""


def stage_metrics(name: str, seconds: Mapping[str, float], wall_s: float, megabytes: float) -> dict[str, float]:
    """Return what tracking takes of a pass: seconds of all workers together, each stage's share of them, and the whole's MB/s.

    Example: ``stage_metrics("pass_1", {"read": 1.0, "clean": 3.0}, 2.0, 8.0)`` -> ``{"pass_1/work_s": 4.0, "pass_1/wall_s": 2.0,
    "pass_1/mb_per_s": 4.0, "pass_1/share/read": 0.25, "pass_1/share/clean": 0.75}``.
    """
    total = sum(seconds.values())
    found = {f"{name}/work_s": total, f"{name}/wall_s": wall_s, f"{name}/mb_per_s": megabytes / wall_s}
    return {**found, **{f"{name}/share/{stage}": part / total for stage, part in seconds.items()}} if total else {}
