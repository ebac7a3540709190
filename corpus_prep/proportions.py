"""How much of the text each corpus may be: a bound on its share, met by leaving documents out, never by repeating any."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ernie_core.seeding import key


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
    parts: Mapping[int, Mapping[str, Any]], left_out: Mapping[int, Sequence[int]], weights: Mapping[str, float]
) -> tuple[dict[int, list[int]], dict[str, float]]:
    """Return what to leave out for the corpora's weights, and `kept_shares`.

    A corpus's documents are taken in order of their hashes while their characters fit, so which stay depends on their text alone.

    Args:
        parts: split number -> {"source", "doc_ids", "chars" (of each document)}.
        left_out: split number -> indexes of documents that are out already; they do not count.
        weights: see `kept_shares`.
    """
    held: dict[str, list[tuple[int, int, int, int]]] = {}  # (hash, split, index, characters)
    chars: dict[str, int] = {}
    for number in sorted(parts):
        part, out = parts[number], set(left_out[number])
        there = [i for i in range(len(part["doc_ids"])) if i not in out]
        chars[part["source"]] = chars.get(part["source"], 0) + sum(part["chars"][i] for i in there)
        if part["source"] in weights:
            held.setdefault(part["source"], []).extend((key("weight", part["doc_ids"][i]), number, i, part["chars"][i]) for i in there)
    shares = kept_shares(chars, weights)
    beyond: dict[int, list[int]] = {number: [] for number in parts}
    for source, documents in held.items():
        allowed = shares[source] * chars[source] + 1e-6 if shares[source] < 1 else float("inf")
        taken = 0
        for _, number, index, size in sorted(documents):
            taken += size
            if taken > allowed:
                beyond[number].append(index)
    return {number: sorted(indexes) for number, indexes in beyond.items()}, shares
