"""What the columns of a published file mean, and how its rows become examples, whatever the file's form."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from ernie_core.benchmarks.base import Benchmark, Example, Subset, bad_row, empty, label_id
from ernie_core.errors import InputError

FIELDS = ("text_a", "text_b", "label", "value", "group", "id")
TARGETS = ("label", "value")
IGNORED = "-100"
"""A row's label that says: leave this row out (reliability F64)."""
Record = TypeVar("Record")


@dataclass(frozen=True)
class Columns:
    """What the columns of a file mean; the common part of tables and JSON.

    Args:
        columns: field ("text_a", "text_b", "label", "value", "group", "id") -> the publisher's name of it, or its number from 0.
        names: a label as the publisher spells it -> its name in the benchmark; others stand as they are.
        drop: label that says "leave this row out" -> the reason under which it is counted; -100 ("ignored") always says so.
        labelled: False: labels are not read, the file need not have them.
        optional: fields that a file need not have.
        max_malformed: so many wrong rows are left out and counted as "malformed"; for published files that are known to have some.

    Raises:
        ValueError: an unknown field, no text_a, or no label though rows are labelled.
    """

    columns: Mapping[str, str | int]
    names: Mapping[str, str] = field(default_factory=dict, kw_only=True)
    drop: Mapping[str, str] = field(default_factory=dict, kw_only=True)
    labelled: bool = field(default=True, kw_only=True)
    optional: tuple[str, ...] = field(default=(), kw_only=True)
    max_malformed: int = field(default=0, kw_only=True)

    def __post_init__(self) -> None:
        """Check the declaration."""
        if unknown := set(self.columns) - set(FIELDS):
            raise ValueError(f"unknown fields {sorted(unknown)}; one of {', '.join(FIELDS)}")
        if "text_a" not in self.columns or (self.labelled and not set(TARGETS) & set(self.columns)):
            raise ValueError(f"columns must give text_a, and label or value unless labelled is false; they give {', '.join(self.columns)}")

    @property
    def read_columns(self) -> dict[str, str | int]:
        """The columns that are read."""
        return {f: c for f, c in self.columns.items() if self.labelled or f not in TARGETS}

    def collect(
        self, records: Iterable[tuple[str, Record]], values: Callable[[Record], Mapping[str, str]], path: Path, benchmark: Benchmark
    ) -> Subset:
        """Return the subset.

        Args:
            records: (file and line, a row in any form) in file order.
            values: a row -> its fields; ValueError(expected, found) where it is wrong.
            path: of the file.
            benchmark: theirs.

        Raises:
            InputError: E-BENCH-ROW, E-BENCH-EMPTY, E-BENCH-TARGET (a label where the benchmark has a value, or the other way round).
        """
        if wanted := self._wanted_target(benchmark):
            raise InputError(
                "E-BENCH-TARGET", f"no column is declared for what benchmark {benchmark.name} predicts", where=str(path),
                expected=f"a column for {wanted}", found=", ".join(self.columns), fix="declare it, or read the file as unlabelled",
            )  # fmt: skip
        examples: list[Example] = []
        dropped: Counter[str] = Counter()
        for number, (where, record) in enumerate(records):
            try:
                found = self._example(values(record), str(number), benchmark)
            except ValueError as e:
                if dropped["malformed"] == self.max_malformed:
                    expected, actual = e.args
                    raise bad_row(benchmark, where, expected, actual, self._fix()) from None
                found = "malformed"
            if isinstance(found, Example):
                examples.append(found)
            else:
                dropped[found] += 1
        if not examples:
            raise empty(benchmark, path)
        return Subset(tuple(examples), {reason: rows for reason, rows in dropped.items() if rows})

    def _wanted_target(self, benchmark: Benchmark) -> str:
        wanted = "value" if benchmark.kind == "regression" else "label"
        return wanted if self.labelled and wanted not in self.columns else ""

    def _fix(self) -> str:
        allowed = f"; {self.max_malformed} wrong rows were left out before it, and no more may be" if self.max_malformed else ""
        return f"correct or delete the row{allowed}"

    def _example(self, values: Mapping[str, str], number: str, benchmark: Benchmark) -> Example | str:
        """Return a row's example, or the reason for leaving it out; ValueError(expected, found) where it is wrong."""
        target = values.get("label", values.get("value", ""))
        if target == IGNORED or target in self.drop:
            return self.drop.get(target, "ignored")
        for name in ("text_a", "text_b", "group"):
            if name in values and not values[name].strip():
                raise ValueError(f"a {'name' if name == 'group' else 'text'} in {self._spelled(name)}", "nothing")
        labels = (label_id(self.names.get(values["label"], values["label"]), benchmark.labels),) if "label" in values else ()
        return Example(
            texts=tuple(values[t] for t in ("text_a", "text_b") if t in values), labels=labels,
            value=_number(values["value"], self._spelled("value")) if "value" in values else None,
            group=values.get("group", ""), id=values.get("id", number),
        )  # fmt: skip

    def _spelled(self, name: str) -> str:
        column = self.columns[name]
        return column if isinstance(column, str) else f"column {column + 1}"


def _number(text: str, name: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"a number in {name}", repr(text))
    return value
