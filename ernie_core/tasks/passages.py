"""Queries and passages of documents: what IR relevance retrieves with, and what it finds."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

from ernie_core.schemas import Document, Sentence, Unit
from ernie_core.seeding import key
from ernie_core.tasks.base import BuildContext, PoolSpan, encode_sentences

SHORTEST, LONGEST = 60, 200  # characters of a passage
DROPPED = 0.3  # share of a title's words that half of the queries lose
VERBATIM = 8  # a passage with so long a run of the query's characters is found by copying
_MARK = re.compile("[，。！？；：、,.!?;:…]")
RELEVANT, SHOWN = frozenset({"accepted", "clicked"}), frozenset({"answer", "shown"})


@dataclass(frozen=True)
class Passage:
    """A run of sentences with its role in its document ("" in running text) and its number of tokens."""

    span: PoolSpan
    role: str
    num_tokens: int

    @property
    def words(self) -> list[str]:
        """The words that retrieval counts: those with a letter or a digit."""
        return [w for s in self.span.sentences for w in s.words if any(map(str.isalnum, w))]


def passage_tokens(max_seq_len: int) -> int:
    """Return the tokens that a passage may have: three quarters of a row, the rest is the query's.

    Example: ``passage_tokens(128)`` -> ``93``.
    """
    return 3 * (max_seq_len - 3) // 4


def passages(document: Document, context: BuildContext, drops: Counter[str]) -> list[Passage]:
    """Return the document's passages: consecutive whole sentences, as many as have at most 200 characters and three quarters of a row.

    Running text is cut across paragraphs, and its first passage (the lead, mostly a summary as the title is) left out; answers are
    cut one by one; the titles of a query's results are passages as they stand. Those under 60 characters (short rows: under two
    thirds of what fits) are none.
    Without a mark inside, Chinese text is a heap of headings or searches.
    Drops: "lead", "short_passage", "no_marks", "long_sentence", "frequent_line".
    """
    groups: Sequence[tuple[str, Sequence[Sentence]]] = [("", [s for p in document.paragraphs for s in p])]
    if document.kind != "text":
        groups = list(zip(document.roles[1:], document.paragraphs[1:], strict=True))
    most = passage_tokens(context.max_seq_len)
    least = 1 if document.kind == "query" else min(SHORTEST, 2 * most // 3)
    found: list[Passage] = []
    for role, sentences in groups:
        runs = list(_runs(sentences, context, most, drops))
        drops["lead"] += document.kind == "text" and bool(runs)
        for run, num_tokens in runs[document.kind == "text" :]:
            span = PoolSpan(document.doc_id, document.source, document.work, tuple(run))
            if len(span.text) < least:
                drops["short_passage"] += 1
            elif least > 1 and not span.text.isascii() and not _MARK.search(span.text, 0, len(span.text) - 1):
                drops["no_marks"] += 1
            elif any(s.text in context.frequent_lines for s in run):
                drops["frequent_line"] += 1
            else:
                found.append(Passage(span, role, num_tokens))
    return found


def _runs(sentences: Sequence[Sentence], context: BuildContext, most: int, drops: Counter[str]) -> Iterator[tuple[list[Sentence], int]]:
    """Yield consecutive sentences that fit together, with their tokens; a sentence that fits nowhere ends a run."""
    run: list[Sentence] = []
    chars = tokens = 0
    for sentence in sentences:
        length, num_tokens = len("".join(sentence.text.split())), len(encode_sentences((sentence,), context.encode)[0])
        if run and (chars + length > LONGEST or tokens + num_tokens > most):
            yield run, tokens
            run, chars, tokens = [], 0, 0
        if length > LONGEST or num_tokens > most:
            drops["long_sentence"] += 1
            continue
        run.append(sentence)
        chars, tokens = chars + length, tokens + num_tokens
    if run:
        yield run, tokens


def query_of(document: Document, seed: int) -> PoolSpan | None:
    """Return the title, in half of the documents without 30 % of its words, or else the question; None without either.

    Example: title 哈尔滨 今天 下 大雨 -> itself, or e.g. 哈尔滨 今天 大雨.
    """
    sentences: tuple[Sentence, ...] = document.paragraphs[0] if document.kind in ("qa", "query") else ()
    if document.heading is not None:
        draw_key = key(seed, "query", document.doc_id)
        sentences = (thinned(document.heading, draw_key) if key(draw_key, "thin") % 2 else document.heading,)
    return PoolSpan(document.doc_id, document.source, document.work, sentences) if sentences else None


def thinned(sentence: Sentence, draw_key: int) -> Sentence:
    """Return the sentence without 30 % of its words (rounded), and without the units that held one of them.

    Example: words 哈尔滨 | 今天 | 下 | 大雨 -> e.g. 哈尔滨 | 今天 | 大雨.
    """
    words = [i for i, word in enumerate(sentence.words) if any(map(str.isalnum, word))]
    gone = set(sorted(words, key=lambda i: key(draw_key, i))[: round(DROPPED * len(words))])
    left = [i for i in range(len(sentence.words)) if i not in gone]
    place = {old: new for new, old in enumerate(left)}
    ends = list(accumulate(map(len, sentence.words), initial=0))
    units = [Unit(place[u.start], place[u.end - 1] + 1, u.kind) for u in sentence.units if gone.isdisjoint(range(u.start, u.end))]
    original = "".join(sentence.original[ends[i] : ends[i + 1]] for i in left)
    return Sentence(tuple(sentence.words[i] for i in left), tuple(units), original)


def shared_run(text: str, other: str, length: int) -> bool:
    """Whether `text` holds a run of `length` characters of `other`.

    Example: ``shared_run("今天下雨", "昨天下雨", 3)`` -> ``True``.
    """
    return any(text[i : i + length] in other for i in range(len(text) - length + 1))
