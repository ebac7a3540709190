"""Accuracy, F1 of class 1 and Matthews' correlation, over the same counts (ernie.md 8.1).

F1 is undefined where no row is of class 1. Matthews' correlation is for two classes, 0 and 1; as scikit-learn's it is 0 where all rows
are of one class, or all are predicted as one.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ernie_core.benchmarks.metrics.base import Counts, Metric, mean_of, ratio

COLUMNS = ("correct", "rows", "predicted", "gold", "both")


def classification_counts(gold: NDArray[np.integer[Any]], predicted: NDArray[np.integer[Any]]) -> Counts:
    """Return int64[n, 5]: correct, 1, predicted as class 1, truly class 1, both.

    Example: gold [1, 0], predicted [1, 1] -> [[1, 1, 1, 1, 1], [0, 1, 1, 0, 0]].
    """
    yes, true = predicted == 1, gold == 1
    return np.stack([gold == predicted, np.ones(len(gold), dtype=np.bool_), yes, true, yes & true], axis=1).astype(np.int64)


def _accuracy(sums: NDArray[Any]) -> NDArray[np.float64]:
    return ratio(sums[..., 0], sums[..., 1])


def f1_of_sums(sums: NDArray[Any]) -> NDArray[np.float64]:
    """Return F1 from sums of (predicted, gold, correct): NaN without gold, 0 with gold and nothing right."""
    return np.where(sums[..., 1] == 0, np.nan, ratio(2 * sums[..., 2], sums[..., 0] + sums[..., 1]))


def _f1(sums: NDArray[Any]) -> NDArray[np.float64]:
    return f1_of_sums(sums[..., 2:5])


def _mcc(sums: NDArray[Any]) -> NDArray[np.float64]:
    """Return (tp tn - fp fn) / sqrt((tp + fp)(tp + fn)(tn + fp)(tn + fn)), written in the sums kept; in float64, as the product is beyond int64."""
    _, rows, predicted, gold, both = (sums[..., i].astype(np.float64) for i in range(5))
    spread = np.sqrt((predicted * (rows - predicted)) * (gold * (rows - gold)))
    return np.clip(np.where((rows > 0) & (spread == 0), 0.0, ratio(rows * both - predicted * gold, spread)), -1, 1)


ACCURACY = Metric("accuracy", COLUMNS, _accuracy)
F1 = Metric("f1", COLUMNS, _f1)
MCC = Metric("mcc", COLUMNS, _mcc)
ACCURACY_F1 = mean_of("accuracy_f1", ACCURACY, F1)
