"""IR relevance: how well does a passage answer a query (ERNIE 2.0, section 4.2.3; TASKS, Semantic-aware).

0 = of the query's own document (or an accepted answer, a clicked title), 1 = of another one that BM25 ranks as high (or another
answer, a title shown and not clicked), 2 = random. Retrieval works inside a split.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from ernie_core.schemas import Document, Sample, Sentence
from ernie_core.seeding import key
from ernie_core.tasks.base import BuildContext, PoolSpan, Task, encode_sentences
from ernie_core.tasks.bm25 import Bm25, Hit, top
from ernie_core.tasks.pairs import near_duplicates, pair_row
from ernie_core.tasks.passages import RELEVANT, SHOWN, VERBATIM, Passage, passages, query_of, shared_run
from ernie_core.tasks.token_document import is_scored

NAME = "ir_relevance"
STRONG, WEAK, IRRELEVANT = 0, 1, 2
LIST = 30  # hits of a query
NEAR = 5  # class 1 scores within 1 / NEAR of class 0
RUN = 20  # characters that class 0's document may not share with the others
BIN = 8  # characters of a length bin
PROBES = 16  # random passages looked at
SUBJECT = 5  # a fifth of a title or question, by weight of its words, makes another one of the same subject
SHARED = 2  # telling words that a found passage has of the query, or all of them: one common word makes nothing relevant


class Index:
    """The passages of one source in a split."""

    def __init__(self, documents: Sequence[Document], context: BuildContext, drops: Counter[str]) -> None:
        self.passages = [p for d in documents for p in passages(d, context, drops)]
        self.bm25 = Bm25([p.words for p in self.passages])
        self.of = np.array([int(p.span.doc_id, 16) for p in self.passages], np.uint64)
        self.bins = np.array([len(p.span.text) // BIN for p in self.passages], np.int64)
        self.subjects = {d.doc_id: telling_words(d) for d in documents}


def telling_words(document: Document) -> frozenset[str]:
    """Return the words of a title, or else of a question, that are scored as in token_document.

    Example: title 如何治好癫痫 -> 如何, 治好, 癫痫.
    """
    asked: tuple[Sentence, ...] = document.paragraphs[0] if document.kind in ("qa", "query") else ()
    return frozenset(word for s in ((document.heading,) if document.heading else asked) for word in s.words if is_scored(word))


class Search:
    """What one query finds: `hits`, the places of its own document, and for every passage how many words of the query it holds.

    The words are those of two characters or more.
    """

    def __init__(self, document: Document, query: PoolSpan, index: Index, context: BuildContext) -> None:
        self.index, self.query, self.context = index, query, context
        self.scores = index.bm25.scores(query.every_word)
        self.listed = top(self.scores, LIST)
        self.own: NDArray[np.bool_] = index.of == int(document.doc_id, 16)
        self.shares = index.bm25.holding(query.words)
        telling = [word for word in query.words if is_scored(word)]
        enough = index.bm25.holding(telling) >= min(SHARED, len(telling))
        self.hits = [hit for hit in self.listed if enough[hit.place]]
        self.whole = "".join("".join(s.text for p in document.paragraphs for s in p).split())
        self.title = "".join((document.title if document.heading else query.text).split())
        self.room = context.max_seq_len - 3 - len(encode_sentences(query.sentences, context.encode)[0])
        self.used: set[int] = set()
        self.subject = {word: index.bm25.weight(word) for word in telling_words(document)}

    def passage(self, place: int) -> Passage:
        return self.index.passages[place]

    def copies(self, place: int) -> bool:
        """Whether a passage holds 8 characters of the title or question verbatim."""
        return shared_run(self.title, self.passage(place).span.text, VERBATIM)

    def asks_alike(self, doc_id: str) -> bool:
        """Whether another document's title or question holds a fifth of the words of this one, by weight: what answers it may answer this one too."""
        shared = sum(self.subject[word] for word in self.index.subjects[doc_id] if word in self.subject)
        return shared > 0 and SUBJECT * shared >= sum(self.subject.values())

    def stranger(self, place: int, anchor: int) -> bool:
        """Whether a passage of another document is neither a copy of the query nor of anything in the query's document, nor of one that asks the same."""
        text = self.passage(place).span.text
        return not (
            self.own[place] or place in self.used or self.asks_alike(self.passage(place).span.doc_id) or self.copies(place) or shared_run(text, self.whole, RUN)
            or near_duplicates(text, self.passage(anchor).span.text)
        )  # fmt: skip

    def weak(self, anchor: Hit) -> int | None:
        """Return the hit most like the anchor in score and length, of another document, within a fifth of its score."""
        length = len(self.passage(anchor.place).span.text)

        def distance(hit: Hit) -> int:
            return abs(hit.score - anchor.score) * length + abs(len(self.passage(hit.place).span.text) - length) * anchor.score

        near = [hit for hit in self.hits if NEAR * abs(hit.score - anchor.score) <= anchor.score]
        return next((hit.place for hit in sorted(near, key=distance) if self.stranger(hit.place, anchor.place)), None)

    def random(self, anchor: int, draw_key: int) -> int | None:
        """Return a passage outside the list, as long as the anchor; half of the time with a word of the query, else without."""
        wanted = key(draw_key, "word") % 2 == 1
        listed = np.zeros(len(self.scores), np.bool_)
        listed[[hit.place for hit in self.listed]] = True
        found = np.flatnonzero((self.index.bins == self.index.bins[anchor]) & ((self.shares > 0) == wanted) & ~self.own & ~listed)
        for i in range(min(PROBES, len(found))):
            place = int(found[key(draw_key, i) % len(found)])
            if self.stranger(place, anchor):
                return place
        return None

    def graded(self, anchor: Hit, roles: frozenset[str]) -> int | None:
        """Return the passage of the query's document with one of `roles` that is most like the anchor in score, and not used before."""
        places = [int(i) for i in np.flatnonzero(self.own) if self.passage(int(i)).role in roles and int(i) not in self.used]
        places = [i for i in places if not near_duplicates(self.passage(i).span.text, self.passage(anchor.place).span.text)]
        return min(places, key=lambda i: (abs(int(self.scores[i]) - anchor.score), i), default=None)


def build(documents: Sequence[Document], context: BuildContext, drops: Counter[str]) -> Iterator[Sample]:
    """Yield one row for every passage of the query's own document that is in the query's list of 30, of a class drawn uniformly.

    Of the list only passages count that hold two words of the query which are scored as in token_document (or all it has): one is mostly chance.
    No passage is taken of a document whose title or question holds a fifth of this one's words, by weight: it may answer as well.
    The three candidates are found before the class is drawn, so what rules out one drops the row whatever its class. Where a
    question has accepted answers and others, or a query clicked titles and others, these are classes 0 and 1, in the list or not.
    Drops: "no_query" (neither title nor question), "no_relevant" (none of the own passages is in the list, or accepted),
    "verbatim" (the passage holds 8 characters of the title), "no_weak", "no_random", "too_long", and those of `passages`.

    Example: title 哈尔滨大雪 -> 哈 尔 滨 大 雪 | a passage of the page, label 0, or of another page on snow, 1, or of any page, 2.
    """
    for source in sorted({d.source for d in documents}):
        mine = [d for d in documents if d.source == source]
        index = Index([d for d in mine if d.kind in ("text", "qa", "query")], context, drops)
        for document in mine:
            query = query_of(document, context.seed)
            if query is None or not query.words:
                drops["no_query"] += 1
                continue
            search = Search(document, query, index, context)
            yield from _rows(document, search, drops)


def _rows(document: Document, search: Search, drops: Counter[str]) -> Iterator[Sample]:
    own = [Hit(int(i), int(search.scores[i])) for i in np.flatnonzero(search.own)]
    roles = {search.passage(hit.place).role for hit in own}
    graded = bool(roles & RELEVANT) and bool(roles & SHOWN)
    allowed = own if graded else search.hits
    anchors = [hit for hit in allowed if search.own[hit.place] and search.passage(hit.place).role not in SHOWN]
    drops["no_relevant"] += not anchors
    for anchor in anchors:
        draw_key = key(search.context.seed, NAME, document.doc_id, anchor.place - int(np.argmax(search.own)))
        if not graded and search.copies(anchor.place):
            drops["verbatim"] += 1
            continue
        weak = search.graded(anchor, SHOWN) if graded else search.weak(anchor)
        other = search.random(anchor.place, draw_key)
        if weak is None or other is None:
            drops["no_weak" if weak is None else "no_random"] += 1
            continue
        places = (anchor.place, weak, other)
        if max(search.passage(place).num_tokens for place in places) > search.room:
            drops["too_long"] += 1
            continue
        search.used.update(places)
        label = key(draw_key, "label") % 3
        row = pair_row(search.query, search.passage(places[label]).span, search.context, label)
        assert row is not None, "both have words and fit"
        yield row


TASK = Task(
    NAME, 11, "sentence", 3, build, "Sun et al. 2020 (ERNIE 2.0), section 4.2.3; BM25 in the place of a search log",
    label_names=("own", "retrieved", "random"),
)  # fmt: skip
