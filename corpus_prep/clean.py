"""Cleaning: a raw document's paragraphs normalised, empty ones left out, and its identity from its content."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise, repeat

from corpus_prep.paragraphs import is_prompt, is_whole
from corpus_prep.readers.base import RawDocument, join_words
from ernie_core.normalise import Normaliser
from ernie_core.seeding import key

_ESCAPE, _LINE_ESCAPE = re.compile(r"\\[nrt]"), re.compile(r"(?:\\[nr])+")
_NEED_FIRST = ("qa", "query", "pair")
"""Kinds whose first paragraph is what the others answer: nothing without it, nor alone."""


@dataclass(frozen=True)
class CleanDocument:
    """A document after normalisation. `doc_id`: 16 hex digits of its paragraphs alone, so equal texts have equal ids.

    `paragraphs` and `heading`, the title, are (lower-cased, original case) pairs, equal in length code point for code point; `kind`, `roles` and `label` are
    those of `schemas.Document`; `words` are a paragraph's words where its file had them cut, joining to the lower-cased text, or (); `cut_lines` are paragraphs left out
    as no whole lines, `prompt_lines` those that speak of the page.
    """

    doc_id: str
    work: str
    heading: tuple[str, str]
    paragraphs: tuple[tuple[str, str], ...]
    kind: str = "text"
    roles: tuple[str, ...] = ()
    label: str = ""
    words: tuple[tuple[str, ...], ...] = ()
    cut_lines: tuple[str, ...] = ()
    prompt_lines: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        return self.heading[0]

    @property
    def lowered(self) -> list[str]:
        """Return the paragraphs, lower-cased."""
        return [lower for lower, _ in self.paragraphs]


def clean(
    raw: RawDocument, normaliser: Normaliser, *, html_entities: bool, escapes: bool = False, whole_lines: bool = False, prompt_lines: bool = False
) -> CleanDocument | None:
    """Return the document normalised, or None if no text is left (of a question, query or pair: nothing to go with it).

    Args:
        raw: as read.
        normaliser: of the run.
        html_entities: replace entities such as ``&nbsp;`` and ``&#20320;`` by their characters first.
        escapes: let a written-out ``\\n`` or ``\\r`` end a paragraph of running text first, and replace others, and ``\\t``, by a space.
        whole_lines: leave out paragraphs of running text that do not begin and end as text does, see `paragraphs.is_whole`.
        prompt_lines: leave out short ones of those left that speak of the page and not of its subject, see `paragraphs.is_prompt`.

    Example: paragraphs ("　Ａ股上涨。", "") -> (("a股上涨。", "A股上涨。"),).
    """

    def unescape(text: str) -> str:
        text = html.unescape(text) if html_entities else text
        return _ESCAPE.sub(" ", text) if escapes else text

    is_text = raw.kind == "text"
    texts = [t for p in raw.paragraphs for t in _LINE_ESCAPE.split(p)] if escapes and is_text and not raw.words else raw.paragraphs
    given = zip(texts, raw.words or repeat(()), strict=False)
    found = [_paragraph(unescape(text), tuple(map(unescape, words)), normaliser) for text, words in given]
    kept = [i for i, (pair, _) in enumerate(found) if pair[0]]
    cut = [i for i in kept if not is_whole(found[i][0][0])] if whole_lines and is_text else []
    prompts = [i for i in kept if i not in cut and is_prompt(found[i][0][0])] if prompt_lines and is_text else []
    kept = sorted({*kept}.difference(cut, prompts))
    if not kept or (raw.kind in _NEED_FIRST and (kept[0] > 0 or len(kept) < 2)):
        return None
    paragraphs = tuple(found[i][0] for i in kept)
    roles, words = (tuple(raw.roles[i] for i in kept) if raw.roles else ()), (tuple(found[i][1] for i in kept) if raw.words else ())
    doc_id = content_id([lower for lower, _ in paragraphs])
    left_out = (tuple(found[i][0][0] for i in places) for places in (cut, prompts))
    return CleanDocument(doc_id, raw.work, normaliser(unescape(raw.title)), paragraphs, raw.kind, roles, raw.label, words, *left_out)


def _paragraph(text: str, words: tuple[str, ...], normaliser: Normaliser) -> tuple[tuple[str, str], tuple[str, ...]]:
    """Return a paragraph normalised, and its given words cut from the lower-cased text.

    Words that normalise together otherwise than one by one (a word that is a combining mark) keep their lengths, the last one the rest.
    """
    pairs = [pair for pair in map(normaliser, words) if pair[0]]
    if not pairs:
        return normaliser(text), ()
    originals = join_words([original for _, original in pairs])
    lower, original = normaliser("".join(originals))
    ends = list(accumulate(map(len, originals)))
    bounds = [0, *(min(end, len(lower)) for end in ends[:-1]), len(lower)]
    return (lower, original), tuple(lower[a:b] for a, b in pairwise(bounds) if a < b)


def content_id(paragraphs: Sequence[str]) -> str:
    """Return 16 hex digits of the text; paragraph breaks count as white space, which does not count."""
    return f"{key('document', ''.join(paragraphs).replace(' ', '')):016x}"
