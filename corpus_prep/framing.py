"""How the bytes of a file are cut into records. Only `\\n` ends a line, whatever Python calls a line (reliability F47)."""

from __future__ import annotations

import itertools
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

MAX_QUOTED_BYTES = 1 << 20
"""A quotation in a CSV file that is longer is taken for a mark that is not closed: its first line alone is a (bad) record."""


@dataclass(frozen=True)
class Framing:
    """A way to cut records.

    Args:
        records: bytes that begin and end with whole records -> (offset, record) each.
        boundary: matches up to the byte where a record may begin; None where a file cannot be cut by a pattern.
        whole: a file is one record.
        quoted: line breaks may stand inside quotation marks.
        rows: Parquet: the "bytes" are rows as JSON lines, and offsets are row numbers.
    """

    records: Callable[[bytes], Iterator[tuple[int, bytes]]]
    boundary: re.Pattern[bytes] | None = None
    whole: bool = False
    quoted: bool = False
    rows: bool = False


def _lines(data: bytes) -> Iterator[tuple[int, bytes]]:
    offset = 0
    for line in data.split(b"\n"):
        if line.strip():
            yield offset, line.removesuffix(b"\r")
        offset += len(line) + 1


def _rows(data: bytes) -> Iterator[tuple[int, bytes]]:
    yield from enumerate(data.split(b"\n")[:-1])


def _whole(data: bytes) -> Iterator[tuple[int, bytes]]:
    if data.strip():
        yield 0, data


def _blocks(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield (offset, lines) between blank lines."""
    held: list[bytes] = []
    first = offset = 0
    for line in data.split(b"\n"):
        if line.strip(b" \t\r"):
            first = first if held else offset
            held.append(line)
        elif held:
            yield first, b"\n".join(held)
            held = []
        offset += len(line) + 1
    if held:
        yield first, b"\n".join(held)


def _begun_by(boundary: re.Pattern[bytes]) -> Callable[[bytes], Iterator[tuple[int, bytes]]]:
    """Return what cuts records before each line that the pattern, which begins with a line break, looks ahead to."""

    def records(data: bytes) -> Iterator[tuple[int, bytes]]:
        starts = [0, *(m.end() for m in boundary.finditer(data)), len(data)]
        yield from ((a, data[a:b]) for a, b in itertools.pairwise(starts) if data[a:b].strip())

    return records


def _quoted(data: bytes) -> Iterator[tuple[int, bytes]]:
    offset = 0
    for record in quoted_records(line_stream([data])):
        if record.strip():
            yield offset, record.removesuffix(b"\n").removesuffix(b"\r")
        offset += len(record)


def line_stream(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield lines with their line breaks out of chunks of any size."""
    held: list[bytes] = []
    for chunk in chunks:
        first, *rest = chunk.split(b"\n")
        held.append(first)
        for line in rest:
            yield b"".join(held) + b"\n"
            held = [line]
    if last := b"".join(held):
        yield last


def quoted_records(lines: Iterator[bytes]) -> Iterator[bytes]:
    """Yield records of lines: a line break inside quotation marks does not end one.

    A mark that is not closed within `MAX_QUOTED_BYTES`, or at all, costs its own line only.
    """
    again: deque[bytes] = deque()
    while True:
        held: list[bytes] = []
        size = marks = 0
        while (line := again.popleft() if again else next(lines, None)) is not None:
            held.append(line)
            size += len(line)
            marks += line.count(b'"')
            if marks % 2 == 0 or size > MAX_QUOTED_BYTES:
                break
        if not held:
            return
        if marks % 2 or (size > MAX_QUOTED_BYTES and len(held) > 1):
            yield held[0]
            again.extendleft(reversed(held[1:]))
        else:
            yield b"".join(held)


_CONVERSATION = re.compile(rb"\n(?=E[ \t]*\r?\n)")
_HEADING = re.compile(rb"\n(?= ?= [^=\n][^\n]* = ?\r?\n)")
LINES = Framing(_lines, re.compile(rb"\n"))
BLOCKS = Framing(_blocks, re.compile(rb"\n[ \t\r]*\n"))
WHOLE = Framing(_whole, whole=True)
CONVERSATIONS = Framing(_begun_by(re.compile(rb"\n(?=E[ \t]*\r?(?:\n|\Z))")), _CONVERSATION)
HEADINGS = Framing(_begun_by(_HEADING), _HEADING)
QUOTED = Framing(_quoted, quoted=True)
ROWS = Framing(_rows, rows=True)
