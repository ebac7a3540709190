"""Corpus tables: what the small reduction between the two passes makes of all splits together, each table with its hash.

vocab.txt (vocabulary), duplicates.npy (drop list), boilerplate.json (lines to take out), lines.json (frequent lines), candidates.json (for rows, by
task, source, class and bin), negatives.json.zst (a seeded pool of spans), phrases.json (pairs of words).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from math import log2
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa

from corpus_prep.phrases import Phrases, with_phrases
from ernie_core.manifest import canonical_json
from ernie_core.schemas import sentence_from_json
from ernie_core.seeding import key
from ernie_core.tasks.base import PoolSpan

Candidates = dict[tuple[str, int, str], int]
"""(source, class, bin) -> candidates of a task in all documents that stay."""

SUBSETS = ("train", "valid")
SPANS_PER_BIN = 500  # negatives kept per source, length bin and subset: those with the smallest hashes
_PROBES = 32


def pack(value: Any) -> bytes:
    """Return canonical JSON (`manifest.canonical_json`, here of anything without floats), zstd-compressed; equal values give equal bytes."""
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(orjson.dumps(value, option=orjson.OPT_SORT_KEYS))
    return bytes(sink.getvalue())


def unpack(data: bytes) -> Any:
    """Return the value of `pack`."""
    with pa.CompressedInputStream(pa.BufferReader(data), "zstd") as stream:
        return orjson.loads(stream.read())


def subset_of(doc_id: str, valid_share: float, seed: int) -> str:
    """Return "valid" for a share of documents chosen by hash, else "train"."""
    return "valid" if key(seed, "valid", doc_id) < int(valid_share * 2.0**64) else "train"


def has_long_rows(doc_id: str, share: float, seed: int) -> bool:
    """Return whether a document gives long rows where its task has them: a share of documents chosen by hash."""
    return key(seed, "long", doc_id) < int(share * 2.0**64)


def longest_row(settings: Mapping[str, Any]) -> int:
    """Return the tokens of the longest row that preparation's settings allow."""
    return int(settings["long_rows"]["max_seq_len"] if settings["long_rows"] else settings["max_seq_len"])


def length_bin(num_chars: int) -> int:
    """Return the length bin: 4 characters wide up to 64, then 8 bins for each doubling.

    Example: 7, 8, 64, 128 -> 1, 2, 16, 24.
    """
    return num_chars // 4 if num_chars < 64 else 16 + int(8 * log2(num_chars / 64))


class SpanPool:
    """Negatives by source and length bin, and there by work and by word (ernie_core.tasks.base.Pool)."""

    def __init__(self, held: Iterable[Sequence[Any]], phrases: Phrases | None = None) -> None:
        self._works: dict[tuple[str, int, str], list[PoolSpan]] = {}
        self._words: dict[tuple[str, int, str], list[PoolSpan]] = {}
        for _, doc_id, source, work, place, rows in held:
            span = PoolSpan(doc_id, source, work, tuple(with_phrases(sentence_from_json(row), phrases or {}) for row in rows))
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


def load_pool(path: Path, subset: str, phrases: Phrases) -> SpanPool:
    """Return the negatives of a subset from negatives.json.zst, their phrases marked."""
    return SpanPool(unpack(path.read_bytes())[subset], phrases)


def pack_candidates(candidates: Mapping[str, Candidates]) -> bytes:
    """Return the bytes of candidates.json: task -> [source, class, bin, count]."""
    return canonical_json({task: [[*where, n] for where, n in sorted(counts.items())] for task, counts in candidates.items()})


def unpack_candidates(data: bytes) -> dict[str, Candidates]:
    """Return what `pack_candidates` was given."""
    return {task: {(source, label, place): n for source, label, place, n in rows} for task, rows in json.loads(data).items()}
