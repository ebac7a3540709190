"""Rows on their way from the import step to a trial: as JSON lines, fewer of them, and those that stand twice."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ernie_core.benchmarks.base import Benchmark, Example, bad_row, empty, label_id, read_bytes
from ernie_core.normalise import normalise
from ernie_core.seeding import key


def to_lines(examples: Sequence[Example], benchmark: Benchmark) -> bytes:
    """Return rows as JSON lines, the form between the import step and a trial; labels stand by name.

    Example: ``{"id": "0", "texts": ["这书不错"], "labels": ["1"]}``; fields without a value are left out.
    """
    return "".join(json.dumps(_to_json(e, benchmark), ensure_ascii=False) + "\n" for e in examples).encode()


def _to_json(example: Example, benchmark: Benchmark) -> dict[str, Any]:
    row: dict[str, Any] = {"id": example.id, "texts": list(example.texts)}
    if example.labels:
        row["labels"] = [benchmark.labels[i] for i in example.labels]
    if example.value is not None:
        row["value"] = example.value
    if example.group:
        row["group"] = example.group
    if example.answers:
        row["answers"] = [list(a) for a in example.answers]
    return row


def read_rows(path: Path, benchmark: Benchmark) -> tuple[Example, ...]:
    """Read what `to_lines` wrote.

    Raises:
        InputError: E-BENCH-MISSING, E-BENCH-EMPTY (no row), E-BENCH-ROW (an unknown label, or not JSON).
    """
    rows = []
    for number, line in enumerate(read_bytes(path).split(b"\n"), 1):
        if line:
            try:
                rows.append(_from_json(json.loads(line), benchmark))
            except (ValueError, KeyError, TypeError) as e:
                raise bad_row(benchmark, f"{path}:{number}", *map(str, e.args[:2])) from None
    if not rows:
        raise empty(benchmark, path)
    return tuple(rows)


def _from_json(row: dict[str, Any], benchmark: Benchmark) -> Example:
    return Example(
        texts=tuple(row["texts"]),
        labels=tuple(label_id(name, benchmark.labels) for name in row.get("labels", ())),
        value=row.get("value"),
        group=row.get("group", ""),
        answers=tuple((text, start) for text, start in row.get("answers", ())),
        id=row["id"],
    )


def overlap(first: Sequence[Example], second: Sequence[Example]) -> list[bool]:
    """Say of each of `second`'s rows whether its texts stand in `first`, after normalising (reliability F65).

    Example: ``overlap([Example(("好",))], [Example(("好",)), Example(("坏",))])`` -> ``[True, False]``.
    """
    seen = {_plain(e) for e in first}
    return [_plain(e) in seen for e in second]


def _plain(example: Example) -> str:
    parts = ["".join(example.texts)] if len(example.texts) > 2 else example.texts
    return "\x00".join(normalise(part)[0] for part in parts)


def fewer(examples: Sequence[Example], count: int | None, seed: int, name: str) -> tuple[Example, ...]:
    """Return `count` of the rows in their order, chosen by hash; all for None. Rows that are ranked together stay together.

    Example: ``fewer(rows_of_three_questions, 5, 7, "dbqa/dev")`` -> the rows of as many whole questions as fit, at least one.
    """
    if count is None or count >= len(examples):
        return tuple(examples)
    groups: dict[str, int] = {}
    units = [e.group or f"row {i}" for i, e in enumerate(examples)]
    for unit in units:
        groups[unit] = groups.get(unit, 0) + 1
    chosen, taken = set[str](), 0
    for unit in sorted(groups, key=lambda u: key(seed, "benchmark rows", name, u)):
        if chosen and taken + groups[unit] > count:
            continue
        chosen.add(unit)
        taken += groups[unit]
        if taken >= count:
            break
    return tuple(e for e, unit in zip(examples, units, strict=True) if unit in chosen)
