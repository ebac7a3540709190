"""BM25 over the passages of one split (Robertson et al. 1994; idf as in Lucene), in whole numbers, so that every machine ranks alike."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from math import log
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

K1, B = 1.2, 0.75
UNIT = 1024  # weights are rounded to 1 / UNIT, then only added


class Hit(NamedTuple):
    """A passage's number, and its score in units of 1 / UNIT."""

    place: int
    score: int


class Bm25:
    """Scores of queries against passages.

    Args:
        passages: the words of each, repeated as often as they stand there.

    Example: ``Bm25([["雨", "大"], ["雪"]]).scores(["雨"])`` -> ``[710, 0]``.
    """

    def __init__(self, passages: Sequence[Sequence[str]]) -> None:
        self.terms: dict[str, int] = {}
        counts = [Counter(words) for words in passages]
        found = Counter(word for counted in counts for word in counted)
        average = max(1, sum(map(len, passages))) / max(1, len(passages))
        weights: list[int] = []
        rows: list[int] = []
        columns: list[int] = []
        for place, (counted, words) in enumerate(zip(counts, passages, strict=True)):
            norm = K1 * (1 - B + B * len(words) / average)
            for word, times in counted.items():
                idf = log(1 + (len(passages) - found[word] + 0.5) / (found[word] + 0.5))
                weights.append(round(UNIT * idf * times * (K1 + 1) / (times + norm)))
                rows.append(self.terms.setdefault(word, len(self.terms)))
                columns.append(place)
        shape = (len(self.terms), len(passages))
        self._weights = csr_matrix((np.array(weights, np.int64), (rows, columns)), shape=shape)

    def scores(self, words: Iterable[str]) -> NDArray[np.int64]:
        """Return int64[passages]: the sum over the distinct words of a query."""
        found = np.zeros(self._weights.shape[1], np.int64)
        for places, weights in map(self._postings, sorted(set(words))):
            found[places] += weights
        return found

    def weight(self, word: str) -> int:
        """Return how much a word tells, its idf in units of 1 / UNIT: the rarer among the passages, the more."""
        number, holding = self._weights.shape[1], len(self._postings(word)[0])
        return round(UNIT * log(1 + (number - holding + 0.5) / (holding + 0.5)))

    def holding(self, words: Iterable[str]) -> NDArray[np.int64]:
        """Return int64[passages]: how many of the words the passage has."""
        found = np.zeros(self._weights.shape[1], np.int64)
        for places, _ in map(self._postings, set(words)):
            found[places] += 1
        return found

    def _postings(self, word: str) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        row = self.terms.get(word)
        start, end = (0, 0) if row is None else self._weights.indptr[row : row + 2]
        return self._weights.indices[start:end], self._weights.data[start:end]


def top(scores: NDArray[np.int64], most: int) -> list[Hit]:
    """Return the `most` best passages with a score above 0, best first, of equal ones the earlier first.

    Example: ``top([3, 0, 5, 3], 2)`` -> ``[Hit(2, 5), Hit(0, 3)]``.
    """
    places = np.flatnonzero(scores > 0)
    if len(places) > most:
        bound = np.partition(scores[places], -most)[-most]
        places = places[scores[places] >= bound]
    order = np.argsort(-scores[places], kind="stable")[:most]
    return [Hit(int(place), int(scores[place])) for place in places[order]]
