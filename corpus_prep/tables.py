"""Corpus tables: what the small reduction between the two passes makes of all splits together, each table with its hash.

vocab.txt (vocabulary), duplicates.json (drop list), boilerplate.json (lines to take out), lines.json (frequent lines), negatives.json.zst (a seeded pool of spans).
"""

from __future__ import annotations

import heapq
import json
from bisect import insort
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import log2
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from corpus_prep.boilerplate import boilerplate_lines, sentences_of
from corpus_prep.dedup import cross_split_duplicates
from corpus_prep.near import Resemblance, near_duplicates
from corpus_prep.proportions import beyond_weight
from corpus_prep.vocab_build import build_vocab
from ernie_core.manifest import canonical_json
from ernie_core.schemas import Document, sentence_from_json, sentence_to_json
from ernie_core.seeding import key
from ernie_core.tasks.base import PoolSpan
from ernie_core.tasks.pairs import spans
from ernie_core.vocab import Vocab

SUBSETS = ("train", "valid")
FREQUENT_SHARE = 0.005  # of documents (TASKS, token-document relation)
FREQUENT_AT_LEAST = 4  # documents: in a small corpus a line found twice is no boilerplate
SPANS_PER_BIN = 500  # negatives kept per source, length bin and subset: those with the smallest hashes
_PROBES = 32


def pack(value: Any) -> bytes:
    """Return canonical JSON, zstd-compressed; equal values give equal bytes."""
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(canonical_json(value))
    return bytes(sink.getvalue())


def unpack(data: bytes) -> Any:
    """Return the value of `pack`."""
    with pa.CompressedInputStream(pa.BufferReader(data), "zstd") as stream:
        return json.loads(stream.read())


@dataclass(frozen=True)
class Tables:
    """The reduction's result. `duplicates`: split number -> indexes of documents to leave out, those of `near` and `beyond` among them.

    `chars`: corpus -> characters in the documents that stay.
    """

    vocab: Vocab
    duplicates: dict[int, list[int]]
    lines: tuple[str, ...]
    negatives: dict[str, list[list[Any]]]
    near: tuple[Resemblance, ...]
    boilerplate: dict[str, list[str]]
    beyond: dict[int, list[int]]
    chars: dict[str, int]

    def files(self) -> dict[str, bytes]:
        """Return the tables' bytes by file name."""
        return {
            "vocab.txt": self.vocab.to_bytes(),
            "duplicates.json": canonical_json({str(n): v for n, v in self.duplicates.items()}),
            "boilerplate.json": canonical_json(self.boilerplate),
            "lines.json": canonical_json(list(self.lines)),
            "negatives.json.zst": pack(self.negatives),
        }


def subset_of(doc_id: str, valid_share: float, seed: int) -> str:
    """Return "valid" for a share of documents chosen by hash, else "train"."""
    return "valid" if key(seed, "valid", doc_id) < int(valid_share * 2.0**64) else "train"


def reduce_tables(
    parts: Mapping[int, Mapping[str, Any]],
    vocab: Vocab | None,
    vocab_size: int,
    signatures: Mapping[int, NDArray[np.uint16]] | None = None,
    near_threshold: float = 1.0,
    boilerplate_share: float | None = None,
    weights: Mapping[str, float] | None = None,
) -> Tables:
    """Make the tables of all splits' parts (`pass_one`).

    Vocabulary counts are over the documents that pass 1 kept, those that a later split repeats or resembles included; those of a corpus
    with a weight count for the part of it that stays.

    Args:
        parts: split number -> {"source", "doc_ids", "chars", "tokens", "lines", "negatives", "paragraphs"}.
        vocab: a vocabulary brought along, or None to build one.
        vocab_size: bound of the built one.
        signatures: split number -> `near.signatures` of its documents, to leave out those that resemble an earlier one.
        near_threshold: least estimated resemblance to do so.
        boilerplate_share: of a corpus's documents, beyond which a line in so many is left out.
        weights: corpus -> largest share of all text.
    """
    duplicates = cross_split_duplicates({number: part["doc_ids"] for number, part in parts.items()})
    near = tuple(near_duplicates(signatures, duplicates, near_threshold)) if signatures is not None else ()
    out = [r.left_out for r in near]
    for number, index in out:
        insort(duplicates[number], index)
    beyond, shares = beyond_weight(parts, duplicates, weights or {})
    out += [(number, index) for number, indexes in beyond.items() for index in indexes]
    duplicates = {number: sorted({*duplicates[number], *beyond[number]}) for number in duplicates}
    left_out = {parts[number]["doc_ids"][index] for number, index in out}
    tokens: Counter[str] = Counter()
    lines: Counter[str] = Counter()
    chars: Counter[str] = Counter()
    for number in sorted(parts):
        share = shares[parts[number]["source"]]
        tokens.update(parts[number]["tokens"] if share == 1 else {token: round(n * share) for token, n in parts[number]["tokens"].items()})
        lines.update(parts[number]["lines"])
        held = set(duplicates[number])
        chars[parts[number]["source"]] += sum(n for i, n in enumerate(parts[number]["chars"]) if i not in held)
    num_documents = sum(len(part["doc_ids"]) - len(duplicates[number]) for number, part in parts.items())
    bound = max(FREQUENT_SHARE * num_documents, FREQUENT_AT_LEAST)
    frequent = tuple(sorted(line for line, count in lines.items() if count > bound))
    boilerplate = {} if boilerplate_share is None else boilerplate_lines(parts, duplicates, boilerplate_share)
    negatives = {subset: _pool((part["negatives"][subset] for part in parts.values()), left_out, sentences_of(boilerplate)) for subset in SUBSETS}
    return Tables(vocab or build_vocab(tokens, vocab_size), duplicates, frequent, negatives, near, boilerplate, beyond, dict(chars))


def _pool(offers: Iterable[Sequence[Sequence[Any]]], left_out: Collection[str], boilerplate: Mapping[str, Collection[str]]) -> list[list[Any]]:
    held: dict[tuple[str, int], dict[tuple[int, str], list[Any]]] = {}
    for offer in offers:
        for span in offer:
            rank, doc_id, source, _, place, sentences = span
            unwanted = boilerplate.get(source)
            if doc_id not in left_out and not (unwanted and any("".join(words) in unwanted for words, *_ in sentences)):
                held.setdefault((source, place), {})[rank, doc_id] = list(span)
    return [span for where in sorted(held) for _, span in heapq.nsmallest(SPANS_PER_BIN, held[where].items())]


def offer_negatives(documents: Sequence[Document], max_seq_len: int, seed: int) -> list[list[Any]]:
    """Return the spans of the smallest hashes, SPANS_PER_BIN of each length bin, for `reduce_tables`.

    Args:
        documents: of one subset of one split.
        max_seq_len: longest row in tokens; half a row is the length of a span.
        seed: the recipe's seed.

    Returns:
        [hash, doc_id, source, work, length bin, sentences as JSON] each.
    """
    bins: dict[int, list[tuple[int, str, PoolSpan]]] = {}
    for document in documents:
        for i, span in enumerate(spans(document, max_seq_len)):
            bins.setdefault(length_bin(span.num_chars), []).append((key(seed, "pool", span.doc_id, i), span.doc_id, span))
    chosen = [(place, *ranked) for place in sorted(bins) for ranked in heapq.nsmallest(SPANS_PER_BIN, bins[place], key=lambda ranked: ranked[:2])]
    return [[rank, doc_id, span.source, span.work, place, [sentence_to_json(s) for s in span.sentences]] for place, rank, doc_id, span in chosen]


def length_bin(num_chars: int) -> int:
    """Return the length bin: 4 characters wide up to 64, then 8 bins for each doubling.

    Example: 7, 8, 64, 128 -> 1, 2, 16, 24.
    """
    return num_chars // 4 if num_chars < 64 else 16 + int(8 * log2(num_chars / 64))


class SpanPool:
    """Negatives by source and length bin, and there by work and by word (ernie_core.tasks.base.Pool)."""

    def __init__(self, held: Iterable[Sequence[Any]]) -> None:
        self._works: dict[tuple[str, int, str], list[PoolSpan]] = {}
        self._words: dict[tuple[str, int, str], list[PoolSpan]] = {}
        for _, doc_id, source, work, place, rows in held:
            span = PoolSpan(doc_id, source, work, tuple(map(sentence_from_json, rows)))
            for name in {"", work}:
                self._works.setdefault((source, place, name), []).append(span)
            for word in span.words:
                self._words.setdefault((source, place, word), []).append(span)

    def draw(self, source: str, num_chars: int, not_doc: str, draw_key: int, work: str = "", word: str = "") -> PoolSpan | None:
        """Return a span of the same source and length bin from another document, chosen by `draw_key`; None if there is none near.

        `work`: only of this work of the source, "" for any. `word`: only with this word of two characters or more, "" for any.
        """
        place = length_bin(num_chars)
        found = self._words.get((source, place, word), []) if word else self._works.get((source, place, work), [])
        for i in range(min(len(found), _PROBES)):
            span = found[(draw_key + i) % len(found)]
            if span.doc_id != not_doc and work in ("", span.work):
                return span
        return None


def load_pool(path: Path, subset: str) -> SpanPool:
    """Return the negatives of a subset from negatives.json.zst."""
    return SpanPool(unpack(path.read_bytes())[subset])
