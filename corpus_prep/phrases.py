"""Phrases: neighbouring words that stand together more often than chance, mined from the corpus (a stand-in for the papers' chunker).

How strong a pair is: its normalised pointwise mutual information, 1 if its words never stand apart, 0 at chance (Bouma, GSCL 2009). Pass 1
counts pairs (`offer_pairs`), the reduction makes the table phrases.json (`PairCounts`), pass 2 marks runs of strong pairs (`with_phrases`).
Pairs that occur once are counted too, so the table does not depend on where the input was split, but for documents that stand in two
splits. Of a large input the documents of SAMPLE_BYTES are counted, chosen by hash.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain, pairwise
from math import log
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from corpus_prep.words import BORDER, Words
from ernie_core.manifest import canonical_json
from ernie_core.normalise import num_cjk
from ernie_core.schemas import PHRASE, Document, Sentence, Unit
from ernie_core.seeding import key

Phrases = Mapping[str, Mapping[str, int]]
"""first word -> second word -> strength in thousandths."""

SAMPLE_BYTES = 256_000_000
MAX_WORDS = 4
MIN_COUNT = 5  # pairs rarer than this have no dependable strength
MAX_PAIRS = 1 << 18
_MAX_KNOWN = 1 << 18
_HELD = 1 << 22  # pairs that may wait to be merged


@functools.cache
def function_words() -> frozenset[str]:
    """Return the words at which a phrase ends, as a chunker's would (function_words.txt)."""
    lines = (Path(__file__).parent / "function_words.txt").read_text(encoding="utf-8").splitlines()
    return frozenset(" ".join(line for line in lines if not line.startswith("#")).split())


def is_sampled(doc_id: str, share: float, seed: int) -> bool:
    """Return whether a document's pairs are counted: those of a share of the documents are, chosen by hash."""
    return share >= 1 or key(seed, "phrases", doc_id) < int(share * 2.0**64)


def share_of(input_bytes: int) -> float:
    """Return the share of documents to count: 1 up to SAMPLE_BYTES of input, then halved as often as it takes to stay under them."""
    share = 1.0
    while input_bytes * share > SAMPLE_BYTES:
        share /= 2
    return share


def may_join(word: str) -> bool:
    """Return whether a word may be part of a phrase: letters and digits, no number, no function word."""
    return word.isalnum() and not word.isdecimal() and word not in function_words()


class _Numbers(dict[str, int]):
    def __missing__(self, word: str) -> int:
        number = self[word] = len(self)
        return number


class _Kinds(dict[str, int]):
    """Word -> what it is, as bits; each word is looked at once, and of very many all are forgotten now and then."""

    SPACE, COUNTED, JOINS, CJK_FIRST, CJK_LAST = 1, 2, 4, 8, 16

    def __missing__(self, word: str) -> int:
        if len(self) >= _MAX_KNOWN:
            self.clear()
        tests = (word.isspace() and word != BORDER, word.isalnum(), may_join(word), num_cjk(word[0]), num_cjk(word[-1]))
        kind = self[word] = sum(bool(found) << i for i, found in enumerate(tests))
        return kind


_kinds = _Kinds()


def offer_pairs(words: Words, units: Sequence[Sequence[int]], counted: NDArray[np.bool_]) -> dict[str, Any]:
    """Return how often words stand beside each other; entities are borders, white space between Latin words is none.

    Args:
        words: of S sentences.
        units: S of them, each sentence's entities as `Entities.of` returns them.
        counted: bool[S], which sentences are looked at.

    Returns:
        "total" words; "words" with their "counts"; and the pairs, numbers of words "first" and "second" with their "times", sorted.

    Example: 冰雪 文化 名城 in one sentence -> ``{"total": 3, "words": ["冰雪", "名城", "文化"], "counts": [1, 1, 1], "first": [0, 2],
    "second": [2, 1], "times": [1, 1]}``.
    """
    here = np.repeat(counted, np.diff(words.firsts))
    kinds = words.look_up(_kinds)
    free = here & (kinds & _Kinds.JOINS > 0) & ~_inside(words, units)
    held = np.flatnonzero(kinds & _Kinds.SPACE == 0)
    a, b = held[:-1], held[1:]
    apart = (b - a > 1) & ((kinds[a] & _Kinds.CJK_LAST > 0) | (kinds[b] & _Kinds.CJK_FIRST > 0))
    together = free[a] & free[b] & ~apart
    first, second = words.ids[a[together]], words.ids[b[together]]
    counts = np.bincount(words.ids[free], minlength=len(words.known))
    used = np.zeros(len(words.known), bool)
    used[first] = used[second] = True
    order = sorted(np.flatnonzero(used).tolist(), key=words.known.__getitem__)
    place = np.zeros(len(words.known), np.int64)
    place[order] = np.arange(len(order))
    distinct, times = np.unique(place[first] << 32 | place[second], return_counts=True)
    return {
        "total": int(np.count_nonzero(here & (kinds & _Kinds.COUNTED > 0))), "words": [words.known[i] for i in order], "counts": counts[order].tolist(),
        "first": (distinct >> 32).tolist(), "second": (distinct & 0xFFFFFFFF).tolist(), "times": times.tolist(),
    }  # fmt: skip


def _inside(words: Words, units: Sequence[Sequence[int]]) -> NDArray[np.bool_]:
    """Return bool[W], which words stand in a unit."""
    numbers = np.fromiter(chain.from_iterable(units), np.int64).reshape(-1, 3)
    begins = np.repeat(words.firsts[:-1], np.fromiter(map(len, units), np.int64, len(units)) // 3)
    steps = np.zeros(len(words.ids) + 1, np.int8)
    steps[begins + numbers[:, 0]] += 1
    steps[begins + numbers[:, 1]] -= 1
    return np.cumsum(steps[:-1], dtype=np.int8) > 0


class PairCounts:
    """Sums of what splits offer: 16 bytes for each different pair, and the words."""

    def __init__(self) -> None:
        self._numbers, self._total = _Numbers(), 0
        self._counts: dict[int, int] = {}
        self._pairs, self._times = np.zeros(0, np.int64), np.zeros(0, np.int64)
        self._waiting: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []

    def add(self, offer: Mapping[str, Any]) -> None:
        """Add what `offer_pairs` returned of a split."""
        numbers = [self._numbers[word] for word in offer["words"]]
        self._total += offer["total"]
        for number, count in zip(numbers, offer["counts"], strict=True):
            self._counts[number] = self._counts.get(number, 0) + count
        of = np.array(numbers, np.int64)
        first, second, times = (np.array(offer[name], np.int64) for name in ("first", "second", "times"))
        self._waiting.append((of[first] << 32 | of[second], times))
        if sum(len(pairs) for pairs, _ in self._waiting) > _HELD:
            self._merge()

    def _merge(self) -> None:
        every, times = (np.concatenate(parts) for parts in zip((self._pairs, self._times), *self._waiting, strict=True))
        self._waiting = []
        self._pairs, of = np.unique(every, return_inverse=True)
        self._times = np.bincount(of, times, len(self._pairs)).astype(np.int64)

    def phrases(self, threshold: float) -> dict[str, dict[str, int]]:
        """Return the pairs of at least this strength and MIN_COUNT occurrences; of more than MAX_PAIRS the most frequent."""
        self._merge()
        words = list(self._numbers)
        found: list[tuple[int, str, str, int]] = []
        often = self._times >= MIN_COUNT
        for pair, times in zip(self._pairs[often].tolist(), self._times[often].tolist(), strict=True):
            first, second = pair >> 32, pair & 0xFFFFFFFF
            strength = round(1000 * npmi(times, self._counts[first], self._counts[second], self._total))
            if strength >= 1000 * threshold:
                found.append((-times, words[first], words[second], strength))
        table: dict[str, dict[str, int]] = {}
        for _, one, other, strength in sorted(found)[:MAX_PAIRS]:
            table.setdefault(one, {})[other] = strength
        return table


def npmi(pair: int, first: int, second: int, total: int) -> float:
    """Return the normalised pointwise mutual information of two words, from how often they occur together, alone, and all words.

    Example: 10 together, 10 each, of 1,000 -> 1.0.
    """
    return log(pair * total / (first * second)) / log(total / pair)


def pack_phrases(phrases: Phrases) -> bytes:
    """Return the bytes of phrases.json."""
    return canonical_json(phrases)


def unpack_phrases(data: bytes) -> Phrases:
    """Return what `pack_phrases` was given."""
    table: Phrases = json.loads(data)
    return table


def with_phrases(sentence: Sentence, phrases: Phrases) -> Sentence:
    """Return the sentence with a unit for each run of strong pairs outside its entities; a run of over MAX_WORDS is cut where it is weakest.

    Example: words (国际, 冰雪, 文化, 名城), phrases {"冰雪": {"文化": 700}} -> units (Unit(1, 3, PHRASE),).
    """
    firsts = [i for i, word in enumerate(sentence.words) if word in phrases]
    if not firsts:
        return sentence
    found = [unit for run in _runs(list(_bonds(sentence, firsts, phrases))) for unit in _cut(run)]
    if not found:
        return sentence
    return replace(sentence, units=tuple(sorted([*sentence.units, *found], key=lambda unit: unit.start)))


def _bonds(sentence: Sentence, firsts: Sequence[int], phrases: Phrases) -> Iterator[tuple[int, int, int]]:
    """Yield (number of a word, number of the next one, strength) of the pairs in the table, in order."""
    words = sentence.words
    inside = {i for unit in sentence.units for i in range(unit.start, unit.end)}
    for i in firsts:
        j = i + 1
        while j < len(words) and words[j].isspace():
            j += 1
        if j == len(words) or i in inside or j in inside:
            continue
        if j > i + 1 and num_cjk(words[i][-1] + words[j][0]):
            continue
        if strength := phrases[words[i]].get(words[j]):
            yield i, j, strength


def _runs(bonds: Sequence[tuple[int, int, int]]) -> list[list[tuple[int, int, int]]]:
    runs = [[bond] for bond in bonds[:1]]
    for last, bond in pairwise(bonds):
        if last[1] == bond[0]:
            runs[-1].append(bond)
        else:
            runs.append([bond])
    return runs


def _cut(run: list[tuple[int, int, int]]) -> list[Unit]:
    if not run:
        return []
    if len(run) < MAX_WORDS:
        return [Unit(run[0][0], run[-1][1] + 1, PHRASE)]
    weakest = min(range(len(run)), key=lambda i: run[i][2])
    return _cut(run[:weakest]) + _cut(run[weakest + 1 :])


def document_with_phrases(document: Document, phrases: Phrases) -> Document:
    """Return the document with the phrases of its title and its sentences marked."""
    if not phrases:
        return document
    heading = None if document.heading is None else with_phrases(document.heading, phrases)
    return replace(document, heading=heading, paragraphs=tuple(tuple(with_phrases(s, phrases) for s in p) for p in document.paragraphs))
