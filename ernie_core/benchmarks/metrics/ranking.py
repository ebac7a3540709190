"""Ranking of candidates, such as the sentences that may answer a question (ernie.md 8.1).

A group's candidates are ordered by falling score, ties in file order. A group without a right candidate counts 0 in MRR and in MAP: it
is averaged in, so that no model gains by the choice of groups. F1 is not of groups: plain F1 of class 1 over all rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ernie_core.benchmarks.metrics.base import Counts, Metric, ratio
from ernie_core.benchmarks.metrics.classification import f1_of_sums

COLUMNS = ("groups", "reciprocal_rank", "average_precision", "predicted", "gold", "both")


def ranking_counts(gold: NDArray[np.integer[Any]], scores: NDArray[np.floating[Any]], groups: Sequence[str]) -> Counts:
    """Return one row a group, in order of first appearance; a group's rows need not stand together.

    Args:
        gold: int[n], 1 where the candidate is right, else 0.
        scores: float[n], logit of class 1 minus that of class 0; above 0 is a prediction of class 1.
        groups: n names, such as the question.

    Returns:
        float64[q, 6] with the columns of `COLUMNS`: 1; 1 / rank of the first right candidate, 0 without one; mean over right candidates
        of right ones up to its rank / its rank, 0 without one; rows predicted as class 1, truly class 1, both.

    Example: gold [0, 1, 1], scores [2.0, 1.0, -1.0], groups ["q", "q", "r"] -> [[1, 1/2, 1/2, 2, 1, 1], [1, 1, 1, 0, 1, 0]].
    """
    assert len(gold) == len(scores) == len(groups), (len(gold), len(scores), len(groups))
    ids: dict[str, int] = {}
    group = np.array([ids.setdefault(name, len(ids)) for name in groups], dtype=np.int64)
    order = np.lexsort((-np.asarray(scores, dtype=np.float64), group))  # stable
    right, yes = gold[order] == 1, scores[order] > 0
    group = group[order]
    sizes = np.bincount(group, minlength=len(ids))
    first = np.cumsum(sizes) - sizes  # row at which each group starts
    rank = np.arange(len(group)) - first[group] + 1
    before = np.concatenate([[0], np.cumsum(right)])
    found = before[1:] - before[first][group]  # right ones of the group up to this rank

    def summed(values: NDArray[Any]) -> NDArray[np.float64]:
        return np.bincount(group, weights=values, minlength=len(ids)).astype(np.float64)

    wanted = summed(right)
    precision = np.divide(summed(right * found / rank), wanted, out=np.zeros(len(ids)), where=wanted > 0)
    reciprocal = summed((right & (found == 1)) / rank)
    return np.stack([np.ones(len(ids)), reciprocal, precision, summed(yes), wanted, summed(yes & right)], axis=1)


MRR = Metric("mrr", COLUMNS, lambda sums: ratio(sums[..., 1], sums[..., 0]))
MAP = Metric("map", COLUMNS, lambda sums: ratio(sums[..., 2], sums[..., 0]))
RANKING_F1 = Metric("f1", COLUMNS, lambda sums: f1_of_sums(sums[..., 3:6]))
