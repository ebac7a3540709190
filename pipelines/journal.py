"""The metrics journal: an append-only file beside a step's outputs that training writes and a shipper later reads (reliability.md P10, F74).

One line a call of `log`: {"step": 20, "time_ms": 1764000000000, "metrics": {"train/lm_loss": 6.7}}. Numbers that are not finite stand as
the strings "NaN", "Infinity" and "-Infinity", so that every line is plain JSON. A line is complete when its line break is there.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ernie_core.errors import IntegrityError, printable
from ernie_core.manifest import disk_errors

JOURNAL_NAME = "metrics.jsonl"


@dataclass(frozen=True)
class Point:
    """Metrics of one step: `time_ms` since 1970 when they were first logged; `at` is the first byte of their line."""

    step: int
    time_ms: int
    metrics: dict[str, float]
    at: int = 0


class Journal:
    """Writer of a journal; one writer at a time. What was logged survives a kill of the process; `flush` makes it survive a power loss.

    A value logged again for a known (step, name) is left out: steps replayed after a resume double nothing.

    Args:
        path: the file, made if it is missing.
        known_from: byte from which on values may be logged again, the `mark` of a resumed checkpoint: only these are read. A place that is
            no start of a line (a power loss cut the file) reads all.

    Raises:
        IntegrityError: E-JOURNAL, the existing file is damaged before its last line.
    """

    def __init__(self, path: Path, known_from: int = 0) -> None:
        self.path = path
        self._known: dict[int, dict[str, float]] = {}
        self._at: dict[int, int] = {}  # step -> first byte of its first line
        with disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
            try:
                points, end = read_points(path, known_from if _starts_line(self._fd, known_from) else 0)
                os.ftruncate(self._fd, end)  # a last line without its break was torn by a kill
            except BaseException:
                os.close(self._fd)
                raise
        for point in points:
            self._remember(point.step, point.metrics, point.at)

    def _remember(self, step: int, metrics: Mapping[str, float], at: int) -> None:
        self._known.setdefault(step, {}).update(metrics)
        self._at.setdefault(step, at)

    def mark(self, step: int) -> int:
        """Return the byte before which no value of `step` or a later one stands, for `known_from`; earlier steps are not logged again from here on.

        Later steps stand in the file already where a run that got further was cut off.
        """
        for old in [s for s in self._known if s < step]:
            del self._known[old], self._at[old]
        return min(self._at.values(), default=os.lseek(self._fd, 0, os.SEEK_END))

    def differing(self, step: int, metrics: Mapping[str, float]) -> list[str]:
        """Return the names whose known value at `step` is another number than the one given.

        Example: after ``log(20, {"a": 1.0})``, ``differing(20, {"a": 1.5, "b": 2.0})`` -> ``["a"]``.
        """
        pairs = [(name, self._known.get(step, {}).get(name, value), value) for name, value in metrics.items()]
        return [name for name, known, value in pairs if known != value and not (math.isnan(known) and math.isnan(value))]

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Append the values not yet known for `step`.

        Example: ``log(20, {"train/lm_loss": 6.7})`` twice appends one line.
        """
        new = {name: float(value) for name, value in metrics.items() if name not in self._known.get(step, {})}
        if not new:
            return
        self._remember(step, new, os.lseek(self._fd, 0, os.SEEK_END))
        line = {"step": step, "time_ms": time.time_ns() // 1_000_000, "metrics": {name: _to_json(value) for name, value in new.items()}}
        data = json.dumps(line, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode("utf-8", "backslashreplace") + b"\n"
        with disk_errors(self.path):
            while data:
                data = data[os.write(self._fd, data) :]

    def flush(self) -> None:
        """Make all logged points durable."""
        with disk_errors(self.path):
            os.fsync(self._fd)

    def close(self) -> None:
        self.flush()
        os.close(self._fd)


def _starts_line(fd: int, offset: int) -> bool:
    return offset == 0 or os.pread(fd, 1, offset - 1) == b"\n"


def read_points(path: Path, offset: int = 0) -> tuple[list[Point], int]:
    """Return the complete lines from byte `offset` on, and the offset after them. A missing file has none.

    Raises:
        IntegrityError: E-JOURNAL, a complete line is not ours.
    """
    try:
        with path.open("rb") as f:
            f.seek(offset)
            data = f.read()
    except FileNotFoundError:
        return [], 0
    data = data[: data.rfind(b"\n") + 1]
    points: list[Point] = []
    at = offset
    for line in data.splitlines(keepends=True):
        try:
            row = json.loads(line)
            points.append(Point(int(row["step"]), int(row["time_ms"]), {str(k): float(v) for k, v in row["metrics"].items()}, at))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as e:
            raise IntegrityError(
                "E-JOURNAL", "metrics journal is damaged", where=f"{path}, byte {at}", expected='{"step", "time_ms", "metrics"}', found=printable(line),
                fix="delete the bad line to go on without its points",
            ) from e  # fmt: skip
        at += len(line)
    return points, at


def read_unsent(path: Path, offset: int) -> tuple[list[Point], int]:
    """Return the points a shipper that has sent all before byte `offset` must send now, made durable, and the offset after them.

    Durable, because a point that is sent, lost by a power loss and logged again would come with another time, as a double. If `offset` is no
    longer the start of a line, the file was cut by such a loss, and all of it is returned: sending a point twice doubles nothing.
    """
    if not path.exists():
        return [], 0
    with path.open("rb") as f:
        f.seek(max(0, offset - 1))
        points, end = read_points(path, offset if f.read(1) == b"\n" else 0)
        if points:
            os.fsync(f.fileno())
    return points, end


def series(points: list[Point], name: str) -> tuple[list[int], list[float]]:
    """Return (steps, values) of the metric `name`, sorted by step.

    Example: points of steps 20 and 10 with {"a": 2.0} and {"a": 1.0}, name "a" -> ([10, 20], [1.0, 2.0]).
    """
    pairs = sorted((p.step, p.metrics[name]) for p in points if name in p.metrics)
    return [s for s, _ in pairs], [v for _, v in pairs]


def _to_json(value: float) -> float | str:
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
