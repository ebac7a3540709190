"""What pass 1 offers of a split to the reduction, one file for each time that the reduction reads the splits through.

ids/NNNNN.npy (`document_table`), counts/NNNNN.json.zst (`offered_counts`), candidates/NNNNN.json.zst (`offer_candidates`, where a
task samples), negatives/NNNNN.json.zst (`offer_negatives` of each subset), phrases/NNNNN.json.zst (`phrases.offer_pairs`, where phrases are wanted).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import chain, count
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from corpus_prep.boilerplate import offered_lines
from corpus_prep.phrases import is_sampled, offer_pairs
from corpus_prep.segmented import Segmented
from corpus_prep.tables import SPANS_PER_BIN, SUBSETS, length_bin, subset_of
from ernie_core.schemas import BETWEEN_WORDS, Document, row_text
from ernie_core.seeding import combine, key
from ernie_core.tasks.base import all_tasks
from ernie_core.tasks.pairs import span_bounds, span_chars

Documents = Sequence[dict[str, Any]]
"""As `Document.to_json` gives them."""
DOCUMENT = np.dtype([("id", "<u8"), ("chars", "<u4")])


def document_table(documents: Documents) -> NDArray[np.void]:
    """Return DOCUMENT[documents]: the number that the id spells, and the characters."""
    rows = [(int(d["doc_id"], 16), sum(map(num_chars, chain.from_iterable(d["paragraphs"])))) for d in documents]
    return np.array(rows, DOCUMENT)


def num_chars(sentence: Sequence[Any]) -> int:
    """Return the characters of a sentence as `sentence_to_json` gives it."""
    joined: str = sentence[0]
    return len(joined) - joined.count(BETWEEN_WORDS)


def offered_counts(documents: Documents, tokens: Mapping[str, int], *, boilerplate: bool) -> dict[str, Any]:
    """Return "tokens" as given, "lines" (sentence -> documents that hold it, if two or more) and "paragraphs" (`offered_lines`, or none)."""
    lines: Counter[str] = Counter()
    for document in documents:
        lines.update(set(map(row_text, chain.from_iterable(document["paragraphs"]))))
    shared = {line: count for line, count in lines.items() if count > 1}
    return {"tokens": dict(tokens), "lines": shared, "paragraphs": offered_lines(documents) if boilerplate else {}}


def sampling_tasks(tasks: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return those of a recipe's tasks whose candidates are counted, with complete options."""
    known = all_tasks()
    return {name: known[name].complete(options) for name, options in sorted(tasks.items()) if known[name].candidates is not None}


def offer_candidates(documents: Documents, tasks: Mapping[str, Mapping[str, Any]]) -> dict[str, list[list[Any]]]:
    """Return for each of `sampling_tasks` [number of the document, class, bin, candidates], so that documents left out can be left out here.

    Example: ``{"discourse_relation": [[0, 2, "clauses 4 6", 1]]}``.
    """
    offers: dict[str, list[list[Any]]] = {}
    built = list(map(Document.from_json, documents)) if tasks else []
    for name, options in tasks.items():
        found = all_tasks()[name].candidates
        assert found is not None
        counts = [Counter(found(document, options)) for document in built]
        offers[name] = [[i, label, place, n] for i, counted in enumerate(counts) for (label, place), n in sorted(counted.items())]
    return offers


def offer_phrases(built: Segmented, share: float, seed: int) -> dict[str, Any]:
    """Return `offer_pairs` of a share of the documents, titles left out."""
    counted = np.zeros(len(built.units), bool)
    sizes = [sum(map(len, d["paragraphs"])) for d in built.documents]
    counted[: sum(sizes)] = np.repeat([is_sampled(d["doc_id"], share, seed) for d in built.documents], sizes)
    return offer_pairs(built.words, built.units, counted)


def offer_negatives(documents: Documents, max_seq_len: int, seed: int, valid_share: float) -> dict[str, list[list[Any]]]:
    """Return for each subset the spans (`pairs.spans`) of the smallest hashes, SPANS_PER_BIN of each length bin.

    Args:
        documents: of one split.
        max_seq_len: longest row in tokens; half a row is the length of a span.
        seed: the recipe's seed.
        valid_share: of the documents, see `subset_of`.

    Returns:
        [hash, number of the document, length bin, work, sentences as JSON] each, the last one a string, which is read only if it is used.
    """
    most = span_chars(max_seq_len)
    found: list[tuple[int, int, int, list[Any]]] = []  # number of the document, of the span in it, length bin, sentences
    for i, document in enumerate(documents):
        numbers = count()
        for paragraph in document["paragraphs"]:
            lengths = list(map(num_chars, paragraph))
            found += ((i, next(numbers), length_bin(sum(lengths[a:b])), paragraph[a:b]) for a, b in span_bounds(lengths, most))
    of, nth, bins = (np.array([row[column] for row in found], np.int64) for column in range(3))
    ranks = combine(combine(key(seed, "pool"), np.array([int(d["doc_id"], 16) for d in documents], np.uint64)[of]), nth.astype(np.uint64))
    subsets = np.array([SUBSETS.index(subset_of(d["doc_id"], valid_share, seed)) for d in documents], np.int64)[of]
    order = np.lexsort((ranks, bins, subsets))
    groups = (subsets << 32 | bins)[order]
    offers: dict[str, list[list[Any]]] = {subset: [] for subset in SUBSETS}
    for at in order[np.arange(len(order)) - np.searchsorted(groups, groups) < SPANS_PER_BIN].tolist():
        i, _, place, sentences = found[at]
        offers[SUBSETS[subsets[at]]].append([int(ranks[at]), i, place, documents[i]["work"], orjson.dumps(sentences).decode()])
    return offers
