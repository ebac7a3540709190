"""What pass 1 offers of a split to the reduction, one file for each time that the reduction reads the splits through.

ids/NNNNN.npy (`document_table`), counts/NNNNN.json.zst (`offered_counts`), candidates/NNNNN.json.zst (`offer_candidates`, where a
task samples), negatives/NNNNN.json.zst (`offer_negatives` of each subset), phrases/NNNNN.json.zst (`phrases.offer_pairs`, where phrases are wanted).
"""

from __future__ import annotations

import heapq
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from corpus_prep.boilerplate import offered_lines
from corpus_prep.tables import SPANS_PER_BIN, SUBSETS, length_bin, subset_of
from ernie_core.schemas import Document, Sentence, sentence_to_json
from ernie_core.seeding import combine, key
from ernie_core.tasks.base import all_tasks
from ernie_core.tasks.pairs import spans

DOCUMENT = np.dtype([("id", "<u8"), ("chars", "<u4")])
_as_text = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode


def document_table(documents: Sequence[Document]) -> NDArray[np.void]:
    """Return DOCUMENT[documents]: the number that the id spells, and the characters."""
    rows = [(int(d.doc_id, 16), sum(len(s.original) for p in d.paragraphs for s in p)) for d in documents]
    return np.array(rows, DOCUMENT)


def offered_counts(documents: Sequence[Document], tokens: Mapping[str, int], *, boilerplate: bool) -> dict[str, Any]:
    """Return "tokens" as given, "lines" (sentence -> documents that hold it, if two or more) and "paragraphs" (`offered_lines`, or none)."""
    lines: Counter[str] = Counter()
    for document in documents:
        lines.update({s.text for p in document.paragraphs for s in p})
    shared = {line: count for line, count in lines.items() if count > 1}
    return {"tokens": dict(tokens), "lines": shared, "paragraphs": offered_lines(documents) if boilerplate else {}}


def sampling_tasks(tasks: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return those of a recipe's tasks whose candidates are counted, with complete options."""
    known = all_tasks()
    return {name: known[name].complete(options) for name, options in sorted(tasks.items()) if known[name].candidates is not None}


def offer_candidates(documents: Sequence[Document], tasks: Mapping[str, Mapping[str, Any]]) -> dict[str, list[list[Any]]]:
    """Return for each of `sampling_tasks` [number of the document, class, bin, candidates], so that documents left out can be left out here.

    Example: ``{"discourse_relation": [[0, 2, "clauses 4 6", 1]]}``.
    """
    offers: dict[str, list[list[Any]]] = {}
    for name, options in tasks.items():
        found = all_tasks()[name].candidates
        assert found is not None
        counts = [Counter(found(document, options)) for document in documents]
        offers[name] = [[i, label, place, n] for i, counted in enumerate(counts) for (label, place), n in sorted(counted.items())]
    return offers


class SentenceRows(dict[int, list[Any]]):
    """`sentence_to_json` of sentences that stay alive, each made once: documents and negatives hold the same ones."""

    def __call__(self, sentence: Sentence) -> list[Any]:
        row = self.get(id(sentence))
        if row is None:
            row = self[id(sentence)] = sentence_to_json(sentence)
        return row


def offer_negatives(
    documents: Sequence[Document], max_seq_len: int, seed: int, valid_share: float, row_of: Callable[[Sentence], list[Any]] = sentence_to_json
) -> dict[str, list[list[Any]]]:
    """Return for each subset the spans of the smallest hashes, SPANS_PER_BIN of each length bin.

    Args:
        documents: of one split.
        max_seq_len: longest row in tokens; half a row is the length of a span.
        seed: the recipe's seed.
        valid_share: of the documents, see `subset_of`.
        row_of: `sentence_to_json`, or what remembers its results.

    Returns:
        [hash, number of the document, length bin, work, sentences as JSON] each, the last one a string, which is read only if it is used.
    """
    found = [(i, k, span) for i, document in enumerate(documents) for k, span in enumerate(spans(document, max_seq_len))]
    ids = document_table(documents)["id"]
    of, nth = (np.array([row[column] for row in found], np.uint64) for column in (0, 1))
    ranks = combine(combine(key(seed, "pool"), ids[of.astype(np.int64)]), nth).tolist()
    subsets = [subset_of(document.doc_id, valid_share, seed) for document in documents]
    bins: dict[tuple[str, int], list[tuple[int, int]]] = {}
    for at, (i, _, span) in enumerate(found):
        bins.setdefault((subsets[i], length_bin(span.num_chars)), []).append((ranks[at], at))
    offers: dict[str, list[list[Any]]] = {subset: [] for subset in SUBSETS}
    for subset, place in sorted(bins):
        for rank, at in heapq.nsmallest(SPANS_PER_BIN, bins[subset, place]):
            i, _, span = found[at]
            offers[subset].append([rank, i, place, span.work, _as_text(list(map(row_of, span.sentences)))])
    return offers
