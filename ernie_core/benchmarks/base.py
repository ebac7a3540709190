"""What a benchmark is, and the one form in which its rows pass from the import step to a trial. Torch-free; one file per family beside this one."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ernie_core.benchmarks.metrics.base import Counts, Metric
from ernie_core.errors import InputError, closest, printable
from ernie_core.registry import scan
from ernie_core.schemas import Sample
from ernie_core.tokenization import Tokenizer

SUBSETS = ("train", "dev", "test")
OWN_FILES = "your own files"
"""`Benchmark.source` of one that a recipe describes under `custom`."""
CHOOSING = "choosing"
"""Dev rows that are evaluated along the way, where the whole dev set would take too long."""
SPAN_START, SPAN_END = 1, 2
"""Bits of a span's token label: each stands at one token of a row, both on [CLS] in a window that does not hold the whole answer."""
Outputs = NDArray[np.float32]


@dataclass(frozen=True)
class Example:
    """One row of a benchmark.

    Args:
        texts: one text, a pair, the characters of a tagged sentence, or (question, context).
        labels: one label id, or one a character; () where the row is unlabelled, as in most published test files.
        value: what a regression predicts; None where unlabelled.
        group: rows that are ranked against each other share it (the question); "" elsewhere.
        answers: (text, start in code points of the context), of a question; () where there is none or it is unlabelled.
        id: the publisher's, or the row's number from 0.

    Example: Example(("这书不错",), (1,)); Example(("张", "三", "到"), (0, 1, 6)); Example(("谁写的？", "鲁迅写的。"), answers=(("鲁迅", 0),)).
    """

    texts: tuple[str, ...]
    labels: tuple[int, ...] = ()
    value: float | None = None
    group: str = ""
    answers: tuple[tuple[str, int], ...] = ()
    id: str = ""

    @property
    def labelled(self) -> bool:
        """Whether the row says what is right."""
        return bool(self.labels or self.answers) or self.value is not None


LEFT_OUT = frozenset({"ignored", "malformed", "no_majority"})
"""Reasons of `Subset.dropped` that are rows of the file; others count answers mended or documents that gave none."""


@dataclass(frozen=True)
class Subset:
    """The rows of one file in file order.

    Args:
        dropped: how many rows were left out or mended, by reason, such as {"ignored": 3} for labels of -100.
        notes: what the reader found out about the file, such as {"scheme": "bmes"}.
    """

    examples: tuple[Example, ...]
    dropped: Mapping[str, int] = field(default_factory=dict)
    notes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Encoded:
    """A subset as the model reads it.

    Args:
        samples: rows of the model: one an example in order, more where an example is cut into windows.
        outcomes: the model's outputs -> int64 or float64[n, K], the metric's counts of each scored item. Outputs are logits:
            float32[len(samples), C] where the head reads a row, float32[tokens of all samples laid end to end, C] where it reads each token.
        answers: the model's outputs -> one JSON object an example: what a person would call the prediction.
        truncated: samples cut to the longest length; tagged sentences that were split into several samples, of which nothing is lost.
        values: float32[len(samples)], what a regression predicts; None elsewhere.
        token_labels: names of the samples' token labels, for heads that read each token.
    """

    samples: tuple[Sample, ...]
    outcomes: Callable[[Outputs], Counts]
    answers: Callable[[Outputs], list[dict[str, Any]]]
    truncated: int
    values: NDArray[np.float32] | None = None
    token_labels: tuple[str, ...] = ()


class Layout(Protocol):
    """A form in which somebody publishes rows."""

    def read(self, path: Path, benchmark: Benchmark) -> Subset:
        """Read one file; errors name the line."""
        ...


@dataclass(frozen=True)
class Source:
    """One file of a subset.

    Args:
        file: its path below the benchmark's folder; it may also stand there compressed, see `packed`.
        layout: how to read it.
    """

    file: str
    layout: Layout


@dataclass(frozen=True)
class Preset:
    """How the publisher fine-tuned: `batch_size` is over all cards (ernie.md 7.2, 7.4); warmup 0 means a constant rate."""

    learning_rate: float
    epochs: int
    batch_size: int
    max_seq_len: int
    warmup_share: float
    weight_decay: float


@dataclass(frozen=True)
class Benchmark:
    """A fine-tuning data set with its metrics.

    Args:
        name: lower_snake_case; the recipe's entry.
        kind: what the head does: "classification", "regression", "tagging" (each token) or "span" (start and end among the tokens).
        labels: label names by id; () for a regression and for spans.
        metrics: over the same counts; the first is the headline.
        encode: (examples, this benchmark, tokenizer, max_seq_len in tokens) -> encoded.
        source: where labels, layout, presets and metrics come from.
        sources: subset -> the files that may hold it, first that exists; {} where the import step makes the rows from a package.
        rows: subset -> rows of the official split, for subsets the publisher gives out.
        presets: "base" and "large".
        language: "zh" or "en".
        trained_by: the benchmark whose trials predict this one too, which has no training rows of its own; "" for most.
    """

    name: str
    kind: str
    labels: tuple[str, ...]
    metrics: tuple[Metric, ...]
    encode: Callable[[Sequence[Example], Benchmark, Tokenizer, int], Encoded]
    source: str
    sources: Mapping[str, tuple[Source, ...]] = field(default_factory=dict)
    rows: Mapping[str, int] = field(default_factory=dict)
    presets: Mapping[str, Preset] = field(default_factory=dict)
    language: str = "zh"
    trained_by: str = ""

    @property
    def metric(self) -> Metric:
        """The headline figure."""
        return self.metrics[0]

    @property
    def num_outputs(self) -> int:
        """C, the width of the head: 1 for a regression, 2 for a span's start and end."""
        return {"regression": 1, "span": 2}.get(self.kind, len(self.labels))


def all_benchmarks() -> dict[str, Benchmark]:
    """Return every benchmark declared in `ernie_core/benchmarks`, by name."""
    return scan(importlib.import_module("ernie_core.benchmarks"), Benchmark)


def read_bytes(path: Path) -> bytes:
    """Return a file's bytes.

    Raises:
        InputError: E-BENCH-MISSING.
    """
    try:
        return path.read_bytes()
    except OSError as e:
        raise InputError("E-BENCH-MISSING", "cannot read a benchmark's file", where=str(path), found=str(e.strerror), fix="put the file there") from e


def empty(benchmark: Benchmark, path: Path, expected: str = "", found: str = "", fix: str = "give it rows") -> InputError:
    """Return the error of a file without rows, or without one that can be used."""
    return InputError(
        "E-BENCH-EMPTY", f"benchmark {benchmark.name} has a file without labelled rows", where=str(path), expected=expected, found=found, fix=fix
    )


def bad_row(benchmark: Benchmark, where: str, expected: str = "", found: str = "", fix: str = "correct or delete the row") -> InputError:
    """Return the error of a wrong row; `where` names file and line."""
    return InputError("E-BENCH-ROW", f"a row of benchmark {benchmark.name} is wrong", where=where, expected=expected, found=printable(found), fix=fix)


def label_id(value: str, labels: Sequence[str]) -> int:
    """Return the id of a label's name.

    Raises:
        ValueError: (allowed names closest first, the name found), for a reader to report.
    """
    if value not in labels:
        raise ValueError(f"one of {closest(value, labels, limit=20)}", f"label {value!r}")
    return labels.index(value)


def sample_of(segments: Sequence[list[int]], tokenizer: Tokenizer, label: int, token_labels: Mapping[str, list[int]] | None = None) -> Sample:
    """Return [CLS] A [SEP] (B [SEP]) as a row, sentence types 0 and 1; a token is a word of its own.

    Args:
        segments: token ids of one text or two.
        tokenizer: of the model's vocabulary.
        label: the row's class; -1 for none.
        token_labels: name -> one value a token of the row, specials included.

    Example: segments [[7, 8], [9]] -> token_ids [1, 7, 8, 2, 9, 2], sentence_type_ids [0, 0, 0, 0, 1, 1], seg_labels [-1, 0, 0, -1, 0, -1].
    """
    ids, types, words = [tokenizer.vocab.cls_id], [0], [-1]
    for number, segment in enumerate(segments):
        ids += [*segment, tokenizer.vocab.sep_id]
        types += [number] * (len(segment) + 1)
        words += [*[0] * len(segment), -1]
    return Sample(ids, types, list(range(len(ids))), words, words, words, label, dict(token_labels or {}))
