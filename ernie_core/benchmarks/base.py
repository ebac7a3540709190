"""What a benchmark is, and the tab-separated layout that every family reads (ernie.md 7.1). Torch-free; one file per family beside this one."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ernie_core.benchmarks.metrics.base import Counts, Metric
from ernie_core.errors import InputError, closest, printable
from ernie_core.normalise import normalise
from ernie_core.registry import scan
from ernie_core.schemas import Sample
from ernie_core.tokenization import Tokenizer

SUBSETS = ("train", "dev", "test")
IGNORED = "-100"
"""A row's label that says: not labelled, leave this row out (reliability F64)."""


@dataclass(frozen=True)
class Example:
    """One row of a benchmark's file.

    Args:
        texts: one text, or the characters of a tagged sentence.
        labels: one label id each.

    Example: Example(("这书不错",), (1,)); Example(("张", "三", "到"), (0, 1, 6)).
    """

    texts: tuple[str, ...]
    labels: tuple[int, ...]


@dataclass(frozen=True)
class Subset:
    """The rows of one file in file order; `ignored` counts those left out for their label -100."""

    examples: tuple[Example, ...]
    ignored: int


@dataclass(frozen=True)
class Encoded:
    """A subset as the model reads it.

    Args:
        samples: one an example, in order; `label` or the token labels "tags" hold the targets.
        outcomes: predicted label ids -> int64[n, K], the metric's counts of each sample. Predictions are int64[n], one a sample
            ("classification"), or int64[N], one a token of the samples laid end to end ("tagging").
        truncated: samples cut to the longest length.
    """

    samples: tuple[Sample, ...]
    outcomes: Callable[[NDArray[np.int64]], Counts]
    truncated: int


@dataclass(frozen=True)
class Benchmark:
    """A fine-tuning data set with its metric.

    Args:
        name: lower_snake_case; the recipe's entry.
        kind: what the head does: "classification" or "tagging".
        labels: label names by id.
        metric: its headline figure.
        columns: names that the header must hold, in any order.
        parse: (columns of one row, labels) -> example; ValueError(expected, found) where a row is wrong.
        encode: (examples, this benchmark, tokenizer, max_seq_len in tokens) -> encoded.
        source: where labels, layout and metric come from.
    """

    name: str
    kind: str
    labels: tuple[str, ...]
    metric: Metric
    columns: tuple[str, ...]
    parse: Callable[[Mapping[str, str], Sequence[str]], Example | None]
    encode: Callable[[Sequence[Example], Benchmark, Tokenizer, int], Encoded]
    source: str


def all_benchmarks() -> dict[str, Benchmark]:
    """Return every benchmark declared in `ernie_core/benchmarks`, by name."""
    return scan(importlib.import_module("ernie_core.benchmarks"), Benchmark)


def read_subset(benchmark: Benchmark, path: Path) -> Subset:
    """Read one tab-separated file: first line column names, no quoting, one row a line; a row labelled -100 is left out and counted.

    Raises:
        InputError: E-BENCH-MISSING, E-BENCH-EMPTY (no rows), E-BENCH-HEADER, E-BENCH-ROW (number of columns, encoding, label);
            a row's error names its line and what is allowed.

    Example (classification): ``label\\ttext_a\\n1\\t好\\n`` -> ``Subset((Example(("好",), (1,)),), 0)``.
    """
    lines = _lines(path)
    header = _text(lines[0], path, 1).split("\t") if lines else []
    if sorted(header) != sorted(benchmark.columns):
        raise InputError(
            "E-BENCH-HEADER", f"the first line of benchmark {benchmark.name} must name its columns", where=f"{path}:1",
            expected=" TAB ".join(benchmark.columns), found=printable(" TAB ".join(header)) or "nothing", fix="correct the file's first line",
        )  # fmt: skip
    examples: list[Example] = []
    ignored = 0
    for number, line in enumerate(lines[1:], 2):
        example = _example(benchmark, _text(line, path, number), header, f"{path}:{number}")
        if example is None:
            ignored += 1
        else:
            examples.append(example)
    if not examples:
        raise InputError("E-BENCH-EMPTY", f"benchmark {benchmark.name} has a file without labelled rows", where=str(path), fix="give it rows")
    return Subset(tuple(examples), ignored)


def _lines(path: Path) -> list[bytes]:
    try:
        raw = path.read_bytes()
    except OSError as e:
        raise InputError("E-BENCH-MISSING", "cannot read a benchmark's file", where=str(path), found=str(e.strerror), fix="put the file there") from e
    return [line.removesuffix(b"\r") for line in raw.removesuffix(b"\n").split(b"\n")] if raw else []


def _text(line: bytes, path: Path, number: int) -> str:
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as e:
        raise InputError(
            "E-BENCH-ROW", "a row is not UTF-8", where=f"{path}:{number}, byte {e.start}", found=printable(line), fix="convert the file to UTF-8"
        ) from e


def _example(benchmark: Benchmark, line: str, header: Sequence[str], where: str) -> Example | None:
    values = line.split("\t")
    try:
        if len(values) != len(header):
            raise ValueError(f"{len(header)} columns", f"{len(values)}: {line}")
        return benchmark.parse(dict(zip(header, values, strict=True)), benchmark.labels)
    except ValueError as e:
        expected, found = e.args
        raise InputError(
            "E-BENCH-ROW", f"a row of benchmark {benchmark.name} is wrong", where=where, expected=expected, found=printable(found),
            fix="correct or delete the row; no field may hold a tab",
        ) from None  # fmt: skip


def label_id(value: str, labels: Sequence[str]) -> int:
    """Return the id of a label's name.

    Raises:
        ValueError: (allowed names closest first, the name found), for `read_subset` to report.
    """
    if value not in labels:
        raise ValueError(f"one of {closest(value, labels, limit=20)}", f"label {value!r}")
    return labels.index(value)


def overlap(first: Sequence[Example], second: Sequence[Example]) -> int:
    """Return how many of `second`'s rows have a text that stands in `first`, after normalising (reliability F65)."""
    seen = {normalise("".join(e.texts))[0] for e in first}
    return sum(normalise("".join(e.texts))[0] in seen for e in second)


def sample_of(token_ids: list[int], tokenizer: Tokenizer, label: int, tags: list[int] | None = None) -> Sample:
    """Return [CLS] token_ids [SEP] as a row of one segment; a token is a word of its own.

    Example: token_ids [7, 8], tags [0, 1] -> token_ids [1, 7, 8, 2], seg_labels [-1, 0, 0, -1], token labels {"tags": [-1, 0, 1, -1]}.
    """
    size = len(token_ids) + 2
    words = [-1, *[0] * (size - 2), -1]
    extra: dict[str, Any] = {} if tags is None else {"tags": [-1, *tags, -1]}
    ids = [tokenizer.vocab.cls_id, *token_ids, tokenizer.vocab.sep_id]
    return Sample(ids, [0] * size, list(range(size)), words, words, words, label, extra)
