"""Cleaning: a raw document's paragraphs normalised, empty ones left out, and its identity from its content."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass

from corpus_prep.readers import RawDocument
from ernie_core.normalise import normalise
from ernie_core.seeding import key


@dataclass(frozen=True)
class CleanDocument:
    """A document after normalisation. `doc_id`: 16 hex digits of its paragraphs alone, so equal texts have equal ids.

    `paragraphs` are (lower-cased, original case) pairs, equal in length code point for code point.
    """

    doc_id: str
    work: str
    title: str
    paragraphs: tuple[tuple[str, str], ...]


def clean(raw: RawDocument, html_entities: bool) -> CleanDocument | None:
    """Return the document normalised, or None if no text is left.

    Args:
        raw: as read.
        html_entities: replace entities such as ``&nbsp;`` and ``&#20320;`` by their characters first.

    Example: paragraphs ("　Ａ股上涨。", "") -> (("a股上涨。", "A股上涨。"),).
    """
    texts, title = (raw.paragraphs, raw.title) if not html_entities else (tuple(map(html.unescape, raw.paragraphs)), html.unescape(raw.title))
    paragraphs = tuple(pair for pair in map(normalise, texts) if pair[0])
    if not paragraphs:
        return None
    return CleanDocument(content_id([lower for lower, _ in paragraphs]), raw.work, normalise(title)[0], paragraphs)


def content_id(paragraphs: Sequence[str]) -> str:
    """Return 16 hex digits of the text; paragraph breaks count as white space, which does not count."""
    return f"{key('document', ''.join(paragraphs).replace(' ', '')):016x}"
