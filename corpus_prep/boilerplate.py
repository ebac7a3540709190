"""Boilerplate: lines that stand in many documents of a corpus (menus, licences, bylines), left out of all of them.

Pass 1 offers the lines that stand in two documents of a split or more, so a line that no split holds twice is never found, and one that a
split holds once is not counted there: where splits hold few documents, choose a smaller share.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from corpus_prep.sentences import split_sentences
from ernie_core.schemas import Document, Sentence, row_text

MAX_CHARS = 200  # a longer line that stands in many documents is their text, and near-duplicates are another rule's business
AT_LEAST = 4  # documents: in a small corpus a line found twice is no boilerplate


def offered_lines(documents: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Return the lines (paragraphs of running text, lower-cased) that stand in two of the documents (as JSON) or more, with how many."""
    counts: Counter[str] = Counter()
    for document in documents:
        if document["kind"] == "text":
            counts.update({"".join(map(row_text, p)) for p in document["paragraphs"]})
    return {line: count for line, count in counts.items() if count > 1 and len(line) <= MAX_CHARS}


def _text(paragraph: Sequence[Sentence]) -> str:
    return "".join(s.text for s in paragraph)


def boilerplate_lines(documents: Mapping[str, int], counts: Mapping[str, Mapping[str, int]], share: float) -> dict[str, list[str]]:
    """Return, for each corpus, the lines that stand in more than `share` of its documents, sorted.

    Args:
        documents: corpus -> how many there are.
        counts: corpus -> line -> how many documents hold it, of `offered_lines`.
        share: of the corpus's documents.
    """
    bounds = {source: max(share * number, AT_LEAST) for source, number in documents.items()}
    return {source: sorted(line for line, count in counts[source].items() if count > bounds[source]) for source in sorted(counts)}


def sentences_of(lines: Mapping[str, Sequence[str]]) -> dict[str, frozenset[str]]:
    """Return, for each corpus, the sentences of its boilerplate: a negative that holds one would give itself away."""
    return {source: frozenset(s for line in found for s in split_sentences(line)) for source, found in lines.items()}


def without_lines(document: Document, lines: Collection[str]) -> tuple[Document | None, int]:
    """Return the document without the lines (None if nothing is left), and how many paragraphs were taken out.

    Example: paragraphs (首页 登录, 正文。), lines {"首页 登录"} -> the second paragraph alone, 1.
    """
    if document.kind != "text" or not lines:
        return document, 0
    kept = tuple(p for p in document.paragraphs if _text(p) not in lines)
    taken = len(document.paragraphs) - len(kept)
    return (replace(document, paragraphs=kept) if taken else document) if kept else None, taken
