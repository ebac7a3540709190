"""Benchmarks that give a pair of texts a number, such as their likeness (ernie.md 7.3: squared error, no scaling)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ernie_core.benchmarks.base import Benchmark, Encoded, Example, Outputs
from ernie_core.benchmarks.classification import encode_rows
from ernie_core.benchmarks.metrics.base import Counts
from ernie_core.benchmarks.metrics.correlation import correlation_counts
from ernie_core.tokenization import Tokenizer


def encode(examples: Sequence[Example], benchmark: Benchmark, tokenizer: Tokenizer, max_seq_len: int) -> Encoded:  # noqa: ARG001 (signature of every family)
    """Encode texts or pairs that have a number; the model's outputs are float32[n, 1], and `values` is NaN where a row has none.

    Args:
        examples: n rows.
        benchmark: theirs.
        tokenizer: of the model's vocabulary.
        max_seq_len: longest row in tokens, specials included.
    """
    samples, truncated = encode_rows(examples, tokenizer, max_seq_len)
    gold = np.array([np.nan if e.value is None else e.value for e in examples], dtype=np.float64)

    def outcomes(outputs: Outputs) -> Counts:
        return correlation_counts(gold, outputs[:, 0].astype(np.float64))

    def answers(outputs: Outputs) -> list[dict[str, Any]]:
        return [{"value": value} for value in outputs[:, 0].tolist()]

    return Encoded(samples, outcomes, answers, truncated, values=gold.astype(np.float32))
