"""From cleaned documents to documents of sentences, words and entities: all sentences of a split together, in the form in which they are written."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, islice, pairwise, repeat
from typing import Any

from corpus_prep.clean import CleanDocument
from corpus_prep.entities import Entities
from corpus_prep.segment import Segmenter, joined_words
from corpus_prep.sentences import split_sentences
from corpus_prep.stages import Stages
from corpus_prep.words import Words, merge_runs, words_of
from ernie_core.schemas import BETWEEN_WORDS, Document


@dataclass(frozen=True)
class Segmented:
    """Some documents, cut.

    Args:
        documents: as `Document.to_json` gives them.
        words: of all sentences of their paragraphs in order, then of all titles.
        units: of the same sentences, see `Entities.of`.
    """

    documents: list[dict[str, Any]]
    words: Words
    units: list[list[int]]


def segment_documents(
    documents: Sequence[CleanDocument], source: str, segmenter: Segmenter, entities: Entities, stages: Stages | None = None
) -> Segmented:
    """Return the documents cut into sentences, words and entities; words that their files had cut are kept. Many at once are faster.

    A title is cut as one sentence, whatever its marks.
    """
    stages = stages or Stages()
    cut = [[list(_sentences(*p, w)) for p, w in zip(d.paragraphs, d.words or repeat(()), strict=False)] for d in documents]
    flat = [sentence for paragraphs in cut for sentences in paragraphs for sentence in sentences]
    flat += [(*d.heading, "") for d in documents if d.title]
    uncut = [lower for lower, _, joined in flat if not joined]
    stages.ends("units")
    found = iter(joined_words(segmenter, uncut))
    stages.ends("segment")
    words = words_of(merge_runs([joined or next(found) for _, _, joined in flat]))
    originals = [None if original == lower else original for lower, original, _ in flat]
    units = entities.of(words, originals)
    rows = iter(list(map(list, zip(words.joined, units, originals, strict=True))))  # of `sentence_to_json`
    bodies = [[list(islice(rows, len(sentences))) for sentences in paragraphs] for paragraphs in cut]
    built = [
        Document(d.doc_id, source, d.work, d.title, (), d.kind, d.roles, d.label).to_json()
        | {"paragraphs": paragraphs, "heading": next(rows) if d.title else None}
        for d, paragraphs in zip(documents, bodies, strict=True)
    ]
    stages.ends("units")
    return Segmented(built, words, units)


def _sentences(lower: str, original: str, words: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    """Return a paragraph's sentences: normalised, with its case, and their words, joined by BETWEEN_WORDS, where these are given, else ""."""
    shown = split_sentences(original)
    if lower == original and not words:
        return zip(shown, shown, repeat(""), strict=False)
    bounds = [*accumulate(map(len, shown), initial=0)]
    texts = [lower[a:b] for a, b in pairwise(bounds)]
    return zip(texts, shown, _given(lower, bounds, words) if words else repeat(""), strict=False)


def _given(lower: str, bounds: Sequence[int], words: Sequence[str]) -> Iterator[str]:
    """Yield the given words of each sentence, joined by BETWEEN_WORDS; one that reaches over a sentence's end is cut there."""
    ends = [*accumulate(map(len, words))]
    for start, end in pairwise(bounds):
        places = [start, *ends[bisect_right(ends, start) : bisect_left(ends, end)], end]
        yield BETWEEN_WORDS.join(lower[a:b] for a, b in pairwise(places))
