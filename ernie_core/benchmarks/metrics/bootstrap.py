"""Paired bootstrap over seeds and examples: how sure is it that one arm is better than the other."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ernie_core.benchmarks.metrics.base import Counts, Metric
from ernie_core.seeding import generator

_WEIGHTS = 8_000_000
"""Most example weights held at once (64 MB)."""


@dataclass(frozen=True)
class Difference:
    """One arm minus the other.

    Args:
        median: median over seeds of the first arm's score minus that of the second; None where undefined.
        low, high: ends of the 95 % percentile interval of the same figure; None where undefined.
        draws: resamples in which the figure was defined.
    """

    median: float | None
    low: float | None
    high: float | None
    draws: int


def paired_difference(first: Counts, second: Counts, metric: Metric, *, seed: int, draws: int = 2000) -> Difference:
    """Return median-over-seeds score of `first` minus that of `second`, with its 95 % interval.

    Each draw resamples the seeds and the examples with replacement, the same ones for both arms (trial i of either arm has
    the same seed and sees the same test examples), and takes the difference of the two medians over seeds.

    Args:
        first, second: int64 or float64[S, n, K], the counts of each arm's S seeds on the n test examples.
        metric: whose counts these are.
        seed: of the draws.
        draws: number of resamples.

    Example: equal arms give ``Difference(0.0, 0.0, 0.0, 2000)``.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapters 8 and 13: percentile interval, paired units.
    """
    assert first.shape == second.shape, (first.shape, second.shape)
    seeds, examples, width = first.shape
    both = np.stack([first, second]).astype(np.float64)  # [2, S, n, K]
    flat = both.transpose(2, 0, 1, 3).reshape(examples, -1)
    rng = generator(seed, "paired bootstrap")
    block = max(1, _WEIGHTS // examples)
    parts = []
    for start in range(0, draws, block):
        size = min(block, draws - start)
        weights = rng.multinomial(examples, np.full(examples, 1 / examples), size=size).astype(np.float64)
        scores = metric.score((weights @ flat).reshape(size, 2, seeds, width))  # [draws, 2, S]
        chosen = rng.integers(0, seeds, size=(size, 1, seeds))
        parts.append(_difference(np.take_along_axis(scores, chosen, axis=2)))
    found = np.concatenate(parts)
    found = found[np.isfinite(found)]
    point = float(_difference(metric.score(both.sum(axis=2))))
    if not len(found) or np.isnan(point):
        return Difference(None, None, None, 0)
    low, high = np.quantile(found, [0.025, 0.975])
    return Difference(point, float(low), float(high), len(found))


def _difference(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return median over the last axis of arm 0 minus that of arm 1; scores are [..., 2, S]."""
    medians = np.median(scores, axis=-1)
    return np.asarray(medians[..., 0] - medians[..., 1], dtype=np.float64)
