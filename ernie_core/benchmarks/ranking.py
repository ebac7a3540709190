"""Benchmarks that rank the candidates of a question by how likely each is of class 1 (ernie.md 8.1); rows are trained on as any pair."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ernie_core.benchmarks import classification
from ernie_core.benchmarks.base import Benchmark, Encoded, Example, Outputs
from ernie_core.benchmarks.metrics.base import Counts
from ernie_core.benchmarks.metrics.ranking import ranking_counts
from ernie_core.tokenization import Tokenizer


def encode(examples: Sequence[Example], benchmark: Benchmark, tokenizer: Tokenizer, max_seq_len: int) -> Encoded:
    """Encode pairs of two classes whose `group` is the question; outcomes are of groups, not of rows.

    Args:
        examples: n rows; those of a group need not stand together.
        benchmark: theirs, of the labels not right and right.
        tokenizer: of the model's vocabulary.
        max_seq_len: longest row in tokens, specials included.
    """
    encoded = classification.encode(examples, benchmark, tokenizer, max_seq_len)
    gold = np.array([s.label for s in encoded.samples], dtype=np.int64)
    groups = [e.group for e in examples]

    def outcomes(outputs: Outputs) -> Counts:
        return ranking_counts(gold, outputs[:, 1] - outputs[:, 0], groups)

    return replace(encoded, outcomes=outcomes)
