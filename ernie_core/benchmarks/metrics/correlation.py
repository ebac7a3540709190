"""Pearson's and Spearman's correlation of a predicted with a true number, from sums over rows (ernie.md 8.1)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from ernie_core.benchmarks.metrics.base import Counts, Metric, mean_of

_MOMENTS = ("gold", "predicted", "gold_gold", "predicted_predicted", "gold_predicted")
COLUMNS = ("rows", *_MOMENTS, *(f"rank_{name}" for name in _MOMENTS))
_FLAT = 1e-12
"""Share of the sum of squares below which a variance is rounding error of its own sums."""


def correlation_counts(gold: NDArray[Any], predicted: NDArray[Any]) -> Counts:
    """Return what each row adds to the correlations of the sample.

    Values, and average ranks, are centred on the sample's mean and divided by the largest distance from it, which no correlation sees:
    sums then neither cancel nor overflow. A bootstrap draw sums the rows it has drawn, so its Pearson is that of the draw, while its
    Spearman is Pearson's correlation of the ranks the rows have in the whole sample (ranking anew would not be a sum over rows).

    Args:
        gold: float[n], the true numbers.
        predicted: float[n]; Pearson is undefined where one is not finite, Spearman too where one is NaN.

    Returns:
        float64[n, 11] with the columns of `COLUMNS`: 1, then x, y, x², y², xy of the values, then of the ranks.

    Example: gold [0, 2], predicted [5, 1] -> [[1, -1, 1, 1, 1, -1, -1, 1, 1, 1, -1], [1, 1, -1, 1, 1, -1, 1, -1, 1, 1, -1]].
    """
    columns = [np.ones(len(gold))]
    for x, y in ((gold, predicted), (rankdata(gold), rankdata(predicted))):
        a, b = _centred(x), _centred(y)
        columns += [a, b, a * a, b * b, a * b]
    return np.stack(columns, axis=1)


def _centred(values: NDArray[Any]) -> NDArray[np.float64]:
    """Return values minus their mean over the largest distance from it, in [-1, 1], all one number where all are equal; NaN where one is not finite."""
    found = np.asarray(values, dtype=np.float64)
    if not len(found) or not np.isfinite(found).all():
        return np.full(len(found), np.nan)
    found = found - found.mean()
    return np.asarray(found / (np.abs(found).max() or 1.0))


def _correlation(rows: NDArray[Any], moments: NDArray[Any]) -> NDArray[np.float64]:
    """Return the correlation from n and the sums of x, y, x², y², xy; NaN where x or y does not vary."""
    x, y, xx, yy, xy = (moments[..., i] for i in range(5))
    spread_x, spread_y = rows * xx - x * x, rows * yy - y * y
    varies = (spread_x > _FLAT * rows * xx) & (spread_y > _FLAT * rows * yy)
    out = np.full(np.shape(rows), np.nan)
    np.divide(rows * xy - x * y, np.sqrt(np.where(varies, spread_x, 1)) * np.sqrt(np.where(varies, spread_y, 1)), out=out, where=varies)
    return np.asarray(np.clip(out, -1, 1))


PEARSON = Metric("pearson", COLUMNS, lambda sums: _correlation(sums[..., 0], sums[..., 1:6]))
SPEARMAN = Metric("spearman", COLUMNS, lambda sums: _correlation(sums[..., 0], sums[..., 6:11]))
PEARSON_SPEARMAN = mean_of("pearson_spearman", PEARSON, SPEARMAN)
