"""How much of the text each corpus may be: a bound on its share, met by leaving documents out, never by repeating any."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from ernie_core.seeding import combine, key

_BUCKET_BITS = 16


def kept_shares(chars: Mapping[str, int], weights: Mapping[str, float]) -> dict[str, float]:
    """Return which part of each corpus's text to keep, so that it is at most its weight of all that is kept.

    Args:
        chars: corpus -> characters there are.
        weights: corpus -> largest share of all text, over 0 to 1; corpora not named have no bound. If all are named, they sum to 1 or more.

    Example: ``kept_shares({"news": 70, "novels": 100}, {"novels": 0.3})`` -> ``{"news": 1.0, "novels": 0.3}``.
    """
    bound: set[str] = set()
    total = float(sum(chars.values()))
    while over := {name for name, weight in weights.items() if name not in bound and chars.get(name, 0) > weight * total * (1 + 1e-12)}:
        bound |= over
        free = sum(n for name, n in chars.items() if name not in bound)
        left = 1.0 - sum(weights[name] for name in bound)
        if left <= 1e-12:  # what is bound is all there is: as much of each as the scarcest allows
            total = min(chars[name] / weights[name] for name in bound)
            break
        total = free / left
    return {name: weights[name] * total / chars[name] if name in bound else 1.0 for name in chars}


def beyond_weight(
    documents: Mapping[int, NDArray[np.void]], sources: Mapping[int, str], left_out: Mapping[int, NDArray[np.int32]], weights: Mapping[str, float]
) -> tuple[dict[int, NDArray[np.int32]], dict[str, float]]:
    """Return what to leave out for the corpora's weights, and `kept_shares`.

    A corpus's documents are taken in order of hashes of their ids while their characters fit, so which stay depends on their text alone.

    Args:
        documents: split number -> `offers.document_table`.
        sources: split number -> corpus.
        left_out: split number -> indexes of documents that are out already; they do not count.
        weights: see `kept_shares`.
    """

    def of(number: int) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
        """Return the documents' ranks, and their characters, 0 for those that are out."""
        chars = documents[number]["chars"].astype(np.int64)
        chars[left_out[number]] = 0
        return combine(key("weight"), documents[number]["id"]), chars

    chars: Counter[str] = Counter()
    for number in sorted(documents):
        chars[sources[number]] += int(of(number)[1].sum())
    shares = kept_shares(chars, weights)
    beyond = {number: np.zeros(0, np.int32) for number in documents}
    for source in sorted(name for name, share in shares.items() if share < 1):
        mine = [number for number in sorted(documents) if sources[number] == source]
        last = _last_rank([functools.partial(of, number) for number in mine], shares[source] * chars[source] + 1e-6)
        for number in mine:
            out = of(number)[0] > last if last is not None else np.ones(len(documents[number]), bool)
            out[left_out[number]] = False
            beyond[number] = np.flatnonzero(out).astype(np.int32)
    return beyond, shares


def _last_rank(parts: Sequence[Callable[[], tuple[NDArray[np.uint64], NDArray[np.int64]]]], allowed: float) -> np.uint64 | None:
    """Return the highest rank up to which all sizes together are at most `allowed`, None if there is none. Only one bucket of ranks is sorted.

    Args:
        parts: each gives ranks, and the sizes that go with them.
        allowed: bound of the sum.
    """
    buckets = np.zeros(1 << _BUCKET_BITS, np.int64)
    for part in parts:
        ranks, sizes = part()
        np.add.at(buckets, ranks >> np.uint64(64 - _BUCKET_BITS), sizes)
    until = np.cumsum(buckets)
    full = int(np.searchsorted(until, allowed, side="right"))
    if full == len(buckets):
        return np.uint64(2**64 - 1)
    found = [(ranks[there], sizes[there]) for ranks, sizes in (part() for part in parts) for there in [ranks >> np.uint64(64 - _BUCKET_BITS) == full]]
    ranks, sizes = np.concatenate([r for r, _ in found]), np.concatenate([s for _, s in found])
    order = np.argsort(ranks)
    fit = int(np.count_nonzero(np.cumsum(sizes[order]) + until[full] - buckets[full] <= allowed))
    if fit:
        return np.uint64(ranks[order[fit - 1]])
    return np.uint64((full << (64 - _BUCKET_BITS)) - 1) if full else None
