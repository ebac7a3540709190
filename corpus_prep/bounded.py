"""Counting more different strings than memory holds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import numpy as np


class BoundedCounts:
    """Counts of strings, never more than `2 * limit` of them and those of one addition.

    Beyond that the least frequent are forgotten, all of one count together, until at most `limit` are left. A count is exact until
    then, and afterwards at most `lost` too small, whatever came in which order (lossy counting: Manku and Motwani, VLDB 2002).
    """

    def __init__(self, limit: int) -> None:
        self.counts: Counter[str] = Counter()
        self.lost = 0
        self._limit = limit

    def add(self, counts: Mapping[str, int]) -> None:
        """Add counts, each above 0.

        Example: limit 1, adding {"a": 3, "b": 1, "c": 1} -> counts {"a": 3}, lost 1.
        """
        self.counts.update(counts)
        if len(self.counts) > 2 * self._limit:
            values = np.fromiter(self.counts.values(), np.int64, len(self.counts))
            floor = int(np.partition(values, -self._limit - 1)[-self._limit - 1])
            self.counts = Counter({string: n for string, n in self.counts.items() if n > floor})
            self.lost += floor
