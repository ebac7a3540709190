"""What a metric is: a few numbers per example, and a score of their sum; so any resampling of examples is one matrix product."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[Any]
"""int64[n, K] where every column is a count; float64[n, K] where some are shares, products or ranks."""


@dataclass(frozen=True)
class Metric:
    """A benchmark's headline figure.

    Args:
        name: as reported, such as "accuracy".
        columns: names of the K numbers kept for each example (each group of a ranking).
        score: their sums over examples, [..., K] -> float64[...], a share or correlation, never per cent; NaN where it is undefined.

    Example: accuracy has columns ("correct", "rows"); the counts [[1, 1], [0, 1]] sum to [1, 2] and score 0.5.
    """

    name: str
    columns: tuple[str, ...]
    score: Callable[[NDArray[Any]], NDArray[np.float64]]

    def of(self, counts: Counts) -> float | None:
        """Return the score of int64 or float64[n, K] counts, None where it is undefined (reliability F65)."""
        value = float(self.score(counts.sum(axis=0)))
        return None if np.isnan(value) else value


def ratio(numerator: NDArray[Any], denominator: NDArray[Any]) -> NDArray[np.float64]:
    """Divide elementwise; NaN where the denominator is 0."""
    top, bottom = np.asarray(numerator, dtype=np.float64), np.asarray(denominator, dtype=np.float64)
    out = np.full(np.broadcast(top, bottom).shape, np.nan)
    np.divide(top, bottom, out=out, where=bottom != 0)
    return out


def mean_of(name: str, first: Metric, second: Metric) -> Metric:
    """Return the mean of two metrics over the same counts; undefined where either is."""
    assert first.columns == second.columns, (first, second)
    return Metric(name, first.columns, lambda sums: (first.score(sums) + second.score(sums)) / 2)
