"""Chunk F1 of B-/I-/O tags, as conlleval and seqeval count: an I that follows another type, or nothing, opens a chunk (ernie.md 8.2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ernie_core.benchmarks.metrics.base import Counts, Metric
from ernie_core.benchmarks.metrics.classification import f1_of_sums

CHUNK_F1 = Metric("chunk_f1", ("predicted", "gold", "correct"), f1_of_sums)


def _tables(labels: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return, for each tag id, its chunk type (-1 for O) and whether it is a B."""
    types = sorted({tag[2:] for tag in labels if tag != "O"})
    return np.array([-1 if t == "O" else types.index(t[2:]) for t in labels]), np.array([t.startswith("B-") for t in labels])


def find_chunks(tags: NDArray[np.integer[Any]], offsets: NDArray[np.int64], labels: Sequence[str]) -> NDArray[np.int64]:
    """Return the chunks of sentences laid end to end.

    Args:
        tags: int[N], tag ids of all sentences.
        offsets: int64[n + 1], where each sentence starts; the last is N.
        labels: tag names by id: "O", "B-PER", "I-PER", …

    Returns:
        int64[K, 3]: first tag, one past the last tag, chunk type; ascending.

    Example: tags of O B-PER I-PER B-PER, offsets [0, 4] -> [[1, 3, 0], [3, 4, 0]].
    """
    kind_of, begins = _tables(labels)
    kind = kind_of[tags]
    first = np.zeros(len(tags) + 1, dtype=np.bool_)
    first[offsets] = True  # an empty sentence shares its mark with the next one
    breaks = first.copy()
    breaks[1:-1] |= kind[1:] != kind[:-1]
    breaks[:-1] |= begins[tags]
    edges = np.flatnonzero(breaks)
    starts, ends = edges[:-1], edges[1:]
    inside = kind[starts] >= 0 if len(starts) else np.zeros(0, np.bool_)
    return np.stack([starts[inside], ends[inside], kind[starts[inside]]], axis=1).astype(np.int64)


def chunk_counts(gold: NDArray[np.integer[Any]], predicted: NDArray[np.integer[Any]], offsets: NDArray[np.int64], labels: Sequence[str]) -> Counts:
    """Return int64[n, 3] per sentence: chunks predicted, gold, and correct (type, start and end agree).

    Args: as in `find_chunks`, for the gold and the predicted tags of the same sentences.

    Example: gold B-PER I-PER O, predicted B-PER I-PER B-LOC, offsets [0, 3] -> [[2, 1, 1]].
    """
    found, true = find_chunks(predicted, offsets, labels), find_chunks(gold, offsets, labels)
    both = found[np.isin(_identity(found, len(gold) + 1), _identity(true, len(gold) + 1))]
    size = len(offsets) - 1
    return np.stack([_per_sentence(c, offsets, size) for c in (found, true, both)], axis=1)


def _identity(found: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    """Return one number for each (start, end, type); int8 tags have at most 128 types."""
    return ((found[:, 0] * size + found[:, 1]) << 7) | found[:, 2]


def _per_sentence(found: NDArray[np.int64], offsets: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    return np.bincount(np.searchsorted(offsets, found[:, 0], side="right") - 1, minlength=size).astype(np.int64)
