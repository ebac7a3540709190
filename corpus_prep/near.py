"""Near-duplicates by MinHash and locality-sensitive hashing, in the two passes: signatures of a split, then one comparison of all.

MinHash: Broder, On the resemblance and containment of documents, 1997. Bands: Leskovec, Rajaraman and Ullman, Mining of Massive Datasets,
chapter 3. Resemblance is Jaccard's, of the sets of 5-token runs. Why not a library: docs/decisions/0004-near-duplicates.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from corpus_prep.dedup import run_hashes
from corpus_prep.token_stream import TokenStream
from ernie_core.seeding import combine, key, mix

SHINGLE = 5  # tokens: Chinese characters or Latin words
MIN_TOKENS = 20  # shorter documents are compared with equal ones only: a word more or less is another text
NUM_HASHES = 120  # of 16 bits kept: 240 bytes a document; the standard error of a resemblance of 0.8 is 0.037
MIN_RECALL = 0.99  # that a pair at the threshold shares a band
FIRST_OF_BUCKET = 4  # documents of a bucket that each later one is compared with: keeps a bucket of n from costing n * n
_ROWS = (12, 10, 8, 6, 5, 4, 3, 2, 1)
_BATCH = 1 << 16
BUCKETED_AT_ONCE = 1 << 24  # documents whose band keys are held in memory together, 32 bytes each


def signatures(stream: TokenStream, documents: Sequence[int]) -> NDArray[np.uint16]:
    """Return the MinHash signatures of some documents of a stream.

    Returns:
        uint16[NUM_HASHES, len(documents)]; all 0 for a document under MIN_TOKENS.
    """
    found = np.zeros((NUM_HASHES, len(documents)), np.uint16)
    chosen = np.asarray(documents, np.int64)
    lengths = np.diff(stream.document_starts)[chosen]
    long = np.flatnonzero(lengths >= MIN_TOKENS)
    if not len(long):
        return found
    runs = (run_hashes(stream.hashes, SHINGLE) >> np.uint64(32)).astype(np.uint32)
    counts = lengths[long] - SHINGLE + 1
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    places = np.arange(counts.sum()) + np.repeat(stream.document_starts[chosen[long]] - starts, counts)
    shingles = runs[places]
    hashed = np.empty_like(shingles)
    with np.errstate(over="ignore"):
        for i in range(NUM_HASHES):
            multiplier, addend = (np.uint32(key("minhash", part, i) >> 32) for part in ("multiplier", "addend"))
            np.multiply(shingles + addend, multiplier | np.uint32(1), out=hashed)
            np.bitwise_xor(hashed, hashed >> np.uint32(15), out=hashed)
            found[i, long] = np.minimum.reduceat(hashed, starts).astype(np.uint16)  # the low bits: the high ones of a minimum are 0
    return found


def band_rows(threshold: float) -> int:
    """Return how many hashes make a band: as many as leave a pair at the threshold a chance of MIN_RECALL to share one.

    Example: ``band_rows(0.8)`` -> ``6``, that is 20 bands: a pair of resemblance 0.8 shares one with probability 0.998, one of 0.3 with 0.014.
    """
    return next(rows for rows in _ROWS if 1 - (1 - threshold**rows) ** (NUM_HASHES // rows) >= MIN_RECALL or rows == 1)


@dataclass(frozen=True)
class Resemblance:
    """A document left out, the earlier one that stays, each as (split, index), and the share of hashes that agree."""

    left_out: tuple[int, int]
    kept: tuple[int, int]
    estimate: float


def near_duplicates(
    signatures_of: Mapping[int, NDArray[np.uint16]],
    dropped: Mapping[int, Sequence[int] | NDArray[np.int32]],
    threshold: float,
    at_once: int = BUCKETED_AT_ONCE,
) -> list[Resemblance]:
    """Return the documents that resemble an earlier one which stays, by (split, index); the smallest of all that resemble each other stays.

    A function of the signatures alone. Memory: 32 bytes for each of `at_once` documents, and 24 for each pair found; signatures may be
    memory-mapped, and are then read once for each band and each `at_once` documents.

    Args:
        signatures_of: split -> `signatures` of its documents.
        dropped: split -> indexes of documents that are out already.
        threshold: least estimated resemblance.
        at_once: documents whose band keys are held together.
    """
    numbers = sorted(signatures_of)
    firsts = np.concatenate([[0], np.cumsum([signatures_of[n].shape[1] for n in numbers])]).astype(np.int64)
    compared = np.concatenate([np.zeros(0, bool), *(_compared(signatures_of[n], dropped[n]) for n in numbers)])
    rows = band_rows(threshold)
    parts = -(-int(firsts[-1]) // at_once)
    pairs: set[tuple[int, int]] = set()
    estimates: dict[tuple[int, int], float] = {}
    for first_row in range(0, NUM_HASHES, rows):
        for part in range(parts):
            keys, documents = _band(signatures_of, numbers, compared, slice(first_row, first_row + rows), part, parts)
            for later, earlier in _bucket_pairs(keys, documents):
                fresh = [pair for pair in zip(later.tolist(), earlier.tolist(), strict=True) if pair not in pairs]
                pairs.update(fresh)
                for pair, estimate in zip(fresh, _agreement(signatures_of, numbers, firsts, fresh), strict=True):
                    if estimate >= threshold:
                        estimates[pair] = float(estimate)
    return _resolved(estimates, numbers, firsts)


def _compared(signature: NDArray[np.uint16], dropped: Sequence[int] | NDArray[np.int32]) -> NDArray[np.bool_]:
    held = np.asarray(signature.any(axis=0))
    held[list(dropped)] = False
    return held


def _band(
    signatures_of: Mapping[int, NDArray[np.uint16]], numbers: Sequence[int], compared: NDArray[np.bool_], rows: slice, part: int, parts: int
) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Return the band's key of each compared document that falls into this part of the keys, and the documents, in order."""
    keys, documents = [np.zeros(0, np.uint64)], [np.zeros(0, np.int64)]
    first = 0
    for number in numbers:
        band = signatures_of[number][rows].astype(np.uint64)
        found = np.full(band.shape[1], rows.start, np.uint64)
        for row in band:
            found = combine(found, row)
        mine = np.flatnonzero(compared[first : first + len(found)] & (mix(found) % np.uint64(parts) == part))
        keys.append(found[mine])
        documents.append(mine + first)
        first += len(found)
    return np.concatenate(keys), np.concatenate(documents)


def _bucket_pairs(keys: NDArray[np.uint64], documents: NDArray[np.int64]) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Yield (later, earlier): each document of a bucket with the bucket's first ones."""
    order = np.argsort(keys, kind="stable")  # so that documents of one key stay in their order
    ordered, keys = documents[order], keys[order]
    begins = np.concatenate([np.ones(min(1, len(keys)), bool), keys[1:] != keys[:-1]])
    starts = np.flatnonzero(begins)[np.cumsum(begins) - 1]
    for k in range(FIRST_OF_BUCKET):
        at = np.flatnonzero(np.arange(len(keys)) > starts + k)
        for i in range(0, len(at), _BATCH):
            batch = at[i : i + _BATCH]
            yield ordered[batch], ordered[starts[batch] + k]


def _agreement(
    signatures_of: Mapping[int, NDArray[np.uint16]], numbers: Sequence[int], firsts: NDArray[np.int64], pairs: Sequence[tuple[int, int]]
) -> NDArray[np.float64]:
    """Return the share of hashes on which each pair agrees."""
    wanted = np.array(pairs, np.int64).reshape(-1, 2)
    unique, inverse = np.unique(wanted, return_inverse=True)
    held = np.zeros((NUM_HASHES, len(unique)), np.uint16)
    split_of = np.searchsorted(firsts, unique, side="right") - 1
    for i in np.unique(split_of).tolist():
        mine = split_of == i
        held[:, mine] = signatures_of[numbers[i]][:, unique[mine] - firsts[i]]
    sides = inverse.reshape(-1, 2)
    return np.asarray((held[:, sides[:, 0]] == held[:, sides[:, 1]]).mean(axis=0))


def _resolved(estimates: Mapping[tuple[int, int], float], numbers: Sequence[int], firsts: NDArray[np.int64]) -> list[Resemblance]:
    def place(document: int) -> tuple[int, int]:
        i = int(np.searchsorted(firsts, document, side="right")) - 1
        return numbers[i], document - int(firsts[i])

    keeper_of: dict[int, int] = {}
    for later, earlier in sorted(estimates):
        if later not in keeper_of and earlier not in keeper_of:
            keeper_of[later] = earlier
    return [Resemblance(place(later), place(kept), estimates[later, kept]) for later, kept in sorted(keeper_of.items())]
