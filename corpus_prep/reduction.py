"""The small reduction between the two passes: corpus tables of all splits together, in memory that is bounded but for 13 bytes a document.

The splits are read through three times, one at a time, each time another file of theirs (`offers`), in the order of their numbers:
documents, so that it is known which ones stay; then counts; then negatives, of documents that stay and without boilerplate. A fourth
time, for candidates, only where a task samples them; a fifth time for pairs of words, where phrases are wanted.
pipelines/docs/reduction.md says what it takes for 1 TB of text.
"""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from corpus_prep.boilerplate import boilerplate_lines, sentences_of
from corpus_prep.bounded import BoundedCounts
from corpus_prep.dedup import cross_split_duplicates
from corpus_prep.near import Resemblance, near_duplicates
from corpus_prep.phrases import PairCounts, Phrases, pack_phrases
from corpus_prep.proportions import beyond_weight
from corpus_prep.tables import SPANS_PER_BIN, SUBSETS, Candidates, pack, pack_candidates
from corpus_prep.unknown import unknown_by_script
from corpus_prep.vocab_build import build_vocab
from ernie_core.manifest import canonical_json
from ernie_core.schemas import sentence_from_json
from ernie_core.tokenization import Tokenizer
from ernie_core.vocab import Vocab

FREQUENT_SHARE = 0.005  # of documents (TASKS, token-document relation)
FREQUENT_AT_LEAST = 4  # documents: in a small corpus a line found twice is no boilerplate
HELD_TOKENS = HELD_LINES = 1 << 20  # at most twice so many different ones are counted at a time

Load = Callable[[int, str], Any]
"""Returns a split's file of a kind: "ids", "counts", "candidates", "negatives", "near" or "phrases"."""


@dataclass(frozen=True)
class Tables:
    """The reduction's result. `duplicates`: split number -> indexes of documents to leave out, those of `near` and `beyond` among them.

    `chars`: corpus -> characters in the documents that stay. `lost`: by how much the counts of "tokens" and "lines" may be too small,
    because there were more different ones than can be held; those that are exact are not named. `scripts`: of `unknown_by_script`.
    """

    vocab: Vocab
    duplicates: dict[int, NDArray[np.int32]]
    lines: tuple[str, ...]
    negatives: dict[str, list[list[Any]]]
    near: tuple[Resemblance, ...]
    boilerplate: dict[str, list[str]]
    beyond: dict[int, NDArray[np.int32]]
    chars: dict[str, int]
    lost: dict[str, int]
    candidates: dict[str, Candidates]
    phrases: Phrases
    scripts: dict[str, dict[str, int]]

    @property
    def num_pairs(self) -> int:
        """Pairs of words in `phrases`."""
        return sum(map(len, self.phrases.values()))

    def files(self) -> dict[str, bytes]:
        """Return the tables' bytes by file name."""
        dropped = [np.stack([np.full(len(v), n, np.uint32), v.astype(np.uint32)], 1) for n, v in sorted(self.duplicates.items())]
        buffer = io.BytesIO()
        np.save(buffer, np.concatenate([np.zeros((0, 2), np.uint32), *dropped]), allow_pickle=False)
        return {
            "vocab.txt": self.vocab.to_bytes(),
            "duplicates.npy": buffer.getvalue(),
            "boilerplate.json": canonical_json(self.boilerplate),
            "lines.json": canonical_json(list(self.lines)),
            "candidates.json": pack_candidates(self.candidates),
            "negatives.json.zst": pack(self.negatives),
            "phrases.json": pack_phrases(self.phrases),
        }


def reduce_tables(
    load: Load,
    sources: Mapping[int, str],
    vocab: Vocab | None,
    vocab_size: int,
    near_threshold: float | None = None,
    boilerplate_share: float | None = None,
    weights: Mapping[str, float] | None = None,
    sampling: Sequence[str] = (),
    phrases: float | None = None,
) -> Tables:
    """Make the tables of what all splits offer.

    Vocabulary counts are over the documents that pass 1 kept, those that a later split repeats or resembles included; those of a corpus
    with a weight count for the part of it that stays.

    Args:
        load: gives a split's file of a kind; each is asked for once and let go before the next, but for near-duplicates' signatures.
        sources: split number -> corpus.
        vocab: a vocabulary brought along, or None to build one.
        vocab_size: bound of the built one.
        near_threshold: leave out documents of at least this estimated resemblance to an earlier one.
        boilerplate_share: of a corpus's documents, beyond which a line in so many is left out.
        weights: corpus -> largest share of all text.
        phrases: least strength of a pair of words that make a phrase; None for no phrases.
        sampling: tasks whose candidates are counted, in the documents that stay; boilerplate and frequent lines count too.
    """
    numbers = sorted(sources)
    documents: dict[int, NDArray[np.void]] = {number: load(number, "ids") for number in numbers}
    dropped = cross_split_duplicates({number: table["id"] for number, table in documents.items()})
    near: tuple[Resemblance, ...] = ()
    if near_threshold is not None:
        near = tuple(near_duplicates({number: load(number, "near") for number in numbers}, dropped, near_threshold))
        for number, found in _by_split(near).items():
            dropped[number] = np.union1d(dropped[number], found).astype(np.int32)
    beyond, shares = beyond_weight(documents, sources, dropped, weights or {})
    dropped = {number: np.union1d(out, beyond[number]).astype(np.int32) for number, out in dropped.items()}
    stay: Counter[str] = Counter()
    chars: Counter[str] = Counter()
    for number in numbers:
        stay[sources[number]] += len(documents[number]) - len(dropped[number])
        chars[sources[number]] += int(np.delete(documents[number]["chars"], dropped[number]).sum(dtype=np.int64))

    tokens, frequent, boilerplate, lost = _counts(load, sources, shares, stay, boilerplate_share)
    counted = _candidates(load, sources, dropped, sampling) if sampling else {}
    pairs = {} if phrases is None else _phrases(load, numbers, phrases)
    unwanted = sentences_of(boilerplate)
    pools = {subset: SmallestSpans() for subset in SUBSETS}
    for number in numbers:
        source, left_out = sources[number], frozenset(dropped[number].tolist())
        for subset, spans in load(number, "negatives").items():
            pools[subset].add(source, spans, documents[number]["id"], left_out, unwanted.get(source, ()))
    negatives = {subset: pool.spans() for subset, pool in pools.items()}
    vocab = vocab or build_vocab(tokens, vocab_size)
    scripts = unknown_by_script(tokens, Tokenizer(vocab))
    return Tables(vocab, dropped, frequent, negatives, near, boilerplate, beyond, dict(chars), lost, counted, pairs, scripts)


def _counts(
    load: Load, sources: Mapping[int, str], shares: Mapping[str, float], stay: Mapping[str, int], boilerplate_share: float | None
) -> tuple[Mapping[str, int], tuple[str, ...], dict[str, list[str]], dict[str, int]]:
    """Return tokens with their counts, frequent lines, boilerplate by corpus, and by how much counts may be too small (`Tables.lost`)."""
    tokens, lines = BoundedCounts(HELD_TOKENS), BoundedCounts(HELD_LINES)
    paragraphs = {source: BoundedCounts(HELD_LINES) for source in stay}
    for number in sorted(sources):
        offer, share = load(number, "counts"), shares[sources[number]]
        tokens.add(offer["tokens"] if share == 1 else {token: round(n * share) for token, n in offer["tokens"].items()})
        lines.add(offer["lines"])
        paragraphs[sources[number]].add(offer["paragraphs"])
    bound = max(FREQUENT_SHARE * sum(stay.values()), FREQUENT_AT_LEAST)
    frequent = tuple(sorted(line for line, count in lines.counts.items() if count > bound))
    boilerplate = {}
    if boilerplate_share is not None:
        boilerplate = boilerplate_lines(stay, {source: found.counts for source, found in paragraphs.items()}, boilerplate_share)
    return tokens.counts, frequent, boilerplate, {name: found.lost for name, found in (("tokens", tokens), ("lines", lines)) if found.lost}


def _candidates(load: Load, sources: Mapping[int, str], dropped: Mapping[int, NDArray[np.int32]], sampling: Sequence[str]) -> dict[str, Candidates]:
    candidates: dict[str, Counter[tuple[str, int, str]]] = {task: Counter() for task in sampling}
    for number in sorted(sources):
        left_out = frozenset(dropped[number].tolist())
        for task, rows in load(number, "candidates").items():
            for index, label, place, n in rows:
                candidates[task][sources[number], label, place] += 0 if index in left_out else n
    return {task: {where: n for where, n in counts.items() if n} for task, counts in candidates.items()}


def _phrases(load: Load, numbers: Sequence[int], threshold: float) -> Phrases:
    pairs = PairCounts()
    for number in numbers:
        pairs.add(load(number, "phrases"))
    return pairs.phrases(threshold)


def _by_split(near: Sequence[Resemblance]) -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for resemblance in near:
        number, index = resemblance.left_out
        found.setdefault(number, []).append(index)
    return found


class SmallestSpans:
    """The SPANS_PER_BIN spans of the smallest hashes of each corpus and length bin; less than twice so many are held at a time."""

    def __init__(self) -> None:
        self._held: dict[tuple[str, int], list[list[Any]]] = {}
        self._worst: dict[tuple[str, int], int] = {}

    def add(
        self, source: str, offers: Sequence[Sequence[Any]], ids: NDArray[np.uint64], left_out: Collection[int], boilerplate: Collection[str]
    ) -> None:
        """Add a split's spans (`offers.offer_negatives`), but for those of documents left out, and those with a sentence of boilerplate."""
        for rank, index, place, work, sentences in offers:
            where = (source, place)
            if rank > self._worst.get(where, rank) or index in left_out:
                continue
            if boilerplate and any(sentence_from_json(row).text in boilerplate for row in json.loads(sentences)):
                continue
            held = self._held.setdefault(where, [])
            held.append([rank, f"{int(ids[index]):016x}", source, work, place, sentences])
            if len(held) >= 2 * SPANS_PER_BIN:
                held.sort()
                del held[SPANS_PER_BIN:]
                self._worst[where] = held[-1][0]

    def spans(self) -> list[list[Any]]:
        """Return [hash, document's id, source, work, length bin, sentences] of each, in order of source, bin and hash."""
        chosen = (span for where in sorted(self._held) for span in sorted(self._held[where])[:SPANS_PER_BIN])
        return [[*span, json.loads(sentences)] for *span, sentences in chosen]
