"""What a metric is: whole-number counts per example, and a score of their sum; so any resampling of examples is one matrix product."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.int64]


@dataclass(frozen=True)
class Metric:
    """A benchmark's headline figure.

    Args:
        name: as reported, such as "accuracy".
        columns: names of the K counts kept for each example.
        score: sums of counts, [..., K] -> float64[...]; NaN where the figure is undefined.

    Example: accuracy has columns ("correct", "rows"); the counts [[1, 1], [0, 1]] sum to [1, 2] and score 0.5.
    """

    name: str
    columns: tuple[str, ...]
    score: Callable[[NDArray[Any]], NDArray[np.float64]]

    def of(self, counts: Counts) -> float | None:
        """Return the score of int64[n, K] counts, None where it is undefined (reliability F65)."""
        value = float(self.score(counts.sum(axis=0)))
        return None if np.isnan(value) else value


def ratio(numerator: NDArray[Any], denominator: NDArray[Any]) -> NDArray[np.float64]:
    """Divide elementwise; NaN where the denominator is 0."""
    top, bottom = np.asarray(numerator, dtype=np.float64), np.asarray(denominator, dtype=np.float64)
    out = np.full(np.broadcast(top, bottom).shape, np.nan)
    np.divide(top, bottom, out=out, where=bottom != 0)
    return out
