"""JSON in which rows are published: an object a line, or one object of all rows."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ernie_core.benchmarks.base import Benchmark, Subset, bad_row
from ernie_core.benchmarks.columns import Columns
from ernie_core.benchmarks.packed import existing, file_text


@dataclass(frozen=True)
class JsonLines(Columns):
    """A JSON object a line, UTF-8; `columns` are its keys, numbers and booleans are spelt as in JSON.

    Example: ``JsonLines({"text_a": "sentence", "label": "y"})`` reads ``{"sentence": "好", "y": 1}`` as ``Subset((Example(("好",), (1,), id="0"),))``.
    """

    def read(self, path: Path, benchmark: Benchmark) -> Subset:
        """Read one file.

        Raises:
            InputError: E-BENCH-MISSING, E-BENCH-PACKED, E-BENCH-EMPTY, E-BENCH-ROW (encoding, no JSON object, text, label).
        """
        text, path = file_text(path), existing(path)
        lines = text.removesuffix("\n").split("\n") if text else []
        return self.collect(((f"{path}:{n}", line) for n, line in enumerate(lines, 1)), self._fields, path, benchmark)

    def _fields(self, line: str) -> dict[str, str]:
        try:
            row = json.loads(line)
        except ValueError:
            raise ValueError("a JSON object", line or "nothing") from None
        return fields_of(row, self)


@dataclass(frozen=True)
class JsonObject(Columns):
    """One JSON object of all rows, their ids as its keys.

    Example: ``JsonObject({"text_a": "text_a", "label": "label"})`` reads ``{"7": {"text_a": "好", "label": "1"}}`` as
    ``Subset((Example(("好",), (1,), id="7"),))``.
    """

    def read(self, path: Path, benchmark: Benchmark) -> Subset:
        """Read one file; errors are those of `JsonLines.read`, and a wrong row is named by its id."""
        text, path = file_text(path), existing(path)
        try:
            rows = json.loads(text)
        except json.JSONDecodeError as e:
            raise bad_row(benchmark, f"{path}:{e.lineno}", "JSON", e.msg, "get the file again") from None
        if not isinstance(rows, dict):
            raise bad_row(benchmark, str(path), "one JSON object of all rows", type(rows).__name__)
        records = ((f"{path}: {key}", (key, row)) for key, row in rows.items())
        return self.collect(records, lambda row: fields_of(row[1], self) | {"id": row[0]}, path, benchmark)


def fields_of(row: Any, columns: Columns) -> dict[str, str]:
    """Return the fields of one JSON object; ValueError(expected, found) where it is none, lacks one, or holds more than a plain value.

    Example: {"s": "好", "y": 1} with columns text_a: s, label: y -> {"text_a": "好", "label": "1"}.
    """
    if not isinstance(row, Mapping):
        raise ValueError("a JSON object", json.dumps(row, ensure_ascii=False))  # noqa: TRY004 (as for every wrong row)
    wanted = {f: str(key) for f, key in columns.read_columns.items() if f not in columns.optional or key in row}
    if missing := [key for key in wanted.values() if row.get(key) is None]:
        raise ValueError(f"the keys {', '.join(wanted.values())}", f"no {', '.join(missing)}")
    return {f: _plain(row[key], key) for f, key in wanted.items()}


def _plain(value: Any, key: str) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, int | float):
        return json.dumps(value)
    raise ValueError(f"a text or a number in {key}", json.dumps(value, ensure_ascii=False))
