"""Corpus tables: what the small reduction between the two passes makes of all splits together, each table with its hash.

vocab.txt (vocabulary), duplicates.json (drop list), lines.json (frequent lines), negatives.json.zst (a seeded pool of spans).
"""

from __future__ import annotations

import heapq
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import log2
from pathlib import Path
from typing import Any

import pyarrow as pa

from corpus_prep.dedup import cross_split_duplicates
from corpus_prep.vocab_build import build_vocab
from ernie_core.manifest import canonical_json
from ernie_core.schemas import Document, sentence_from_json, sentence_to_json
from ernie_core.seeding import key
from ernie_core.tasks.base import PoolSpan
from ernie_core.vocab import Vocab

SUBSETS = ("train", "valid")
FREQUENT_SHARE = 0.005  # of documents (TASKS, token-document relation)
FREQUENT_AT_LEAST = 4  # documents: in a small corpus a line found twice is no boilerplate
POOL_SPANS = 6000  # negatives kept per source and subset: those with the smallest hashes
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
    """The reduction's result. `duplicates`: split number -> indexes of documents to leave out."""

    vocab: Vocab
    duplicates: dict[int, list[int]]
    lines: tuple[str, ...]
    negatives: dict[str, list[list[Any]]]

    def files(self) -> dict[str, bytes]:
        """Return the tables' bytes by file name."""
        return {
            "vocab.txt": self.vocab.to_bytes(),
            "duplicates.json": canonical_json({str(n): v for n, v in self.duplicates.items()}),
            "lines.json": canonical_json(list(self.lines)),
            "negatives.json.zst": pack(self.negatives),
        }


def subset_of(doc_id: str, valid_share: float, seed: int) -> str:
    """Return "valid" for a share of documents chosen by hash, else "train"."""
    return "valid" if key(seed, "valid", doc_id) < int(valid_share * 2.0**64) else "train"


def reduce_tables(parts: Mapping[int, Mapping[str, Any]], vocab: Vocab | None, vocab_size: int) -> Tables:
    """Make the tables of all splits' parts (`pass_one`).

    Vocabulary counts are over the documents that pass 1 kept, those that a later split repeats included.

    Args:
        parts: split number -> {"doc_ids", "tokens", "lines", "negatives"}.
        vocab: a vocabulary brought along, or None to build one.
        vocab_size: bound of the built one.
    """
    tokens: Counter[str] = Counter()
    lines: Counter[str] = Counter()
    for number in sorted(parts):
        tokens.update(parts[number]["tokens"])
        lines.update(parts[number]["lines"])
    duplicates = cross_split_duplicates({number: part["doc_ids"] for number, part in parts.items()})
    num_documents = sum(len(part["doc_ids"]) - len(duplicates[number]) for number, part in parts.items())
    bound = max(FREQUENT_SHARE * num_documents, FREQUENT_AT_LEAST)
    frequent = tuple(sorted(line for line, count in lines.items() if count > bound))
    negatives = {subset: _pool(part["negatives"][subset] for part in parts.values()) for subset in SUBSETS}
    return Tables(vocab or build_vocab(tokens, vocab_size), duplicates, frequent, negatives)


def _pool(offers: Iterable[Sequence[Sequence[Any]]]) -> list[list[Any]]:
    by_source: dict[str, dict[tuple[int, str], list[Any]]] = {}
    for offer in offers:
        for rank, doc_id, source, sentences in offer:
            by_source.setdefault(source, {})[rank, doc_id] = [rank, doc_id, source, sentences]
    return [span for source in sorted(by_source) for _, span in heapq.nsmallest(POOL_SPANS, by_source[source].items())]


def offer_negatives(documents: Sequence[Document], spans: Sequence[Sequence[tuple[Any, ...]]], seed: int) -> list[list[Any]]:
    """Return the POOL_SPANS spans of the smallest hashes as [hash, doc_id, source, sentences as JSON], for `reduce_tables`.

    Args:
        documents: of one subset of one split.
        spans: the candidate spans of each document.
        seed: the recipe's seed.
    """
    ranked = ((key(seed, "pool", document.doc_id, i), d, i) for d, document in enumerate(documents) for i in range(len(spans[d])))
    chosen = heapq.nsmallest(POOL_SPANS, ranked)
    return [[rank, documents[d].doc_id, documents[d].source, [sentence_to_json(s) for s in spans[d][i]]] for rank, d, i in chosen]


def length_bin(num_chars: int) -> int:
    """Return the length bin: 4 characters wide up to 64, then 8 bins for each doubling.

    Example: 7, 8, 64, 128 -> 1, 2, 16, 24.
    """
    return num_chars // 4 if num_chars < 64 else 16 + int(8 * log2(num_chars / 64))


class SpanPool:
    """Negatives by source and length bin (ernie_core.tasks.base.Pool)."""

    def __init__(self, spans: Iterable[Sequence[Any]]) -> None:
        self._bins: dict[tuple[str, int], list[PoolSpan]] = {}
        for _, doc_id, source, rows in spans:
            sentences = tuple(map(sentence_from_json, rows))
            place = (source, length_bin(sum(len(s.original) for s in sentences)))
            self._bins.setdefault(place, []).append(PoolSpan(doc_id, source, sentences))

    def draw(self, source: str, num_chars: int, not_doc: str, draw_key: int) -> PoolSpan | None:
        """Return a span of the same source and length bin from another document, chosen by `draw_key`; None if there is none near."""
        held = self._bins.get((source, length_bin(num_chars)), [])
        for i in range(min(len(held), _PROBES)):
            span = held[(draw_key + i) % len(held)]
            if span.doc_id != not_doc:
                return span
        return None


def load_pool(path: Path, subset: str) -> SpanPool:
    """Return the negatives of a subset from negatives.json.zst."""
    return SpanPool(unpack(path.read_bytes())[subset])
