"""IR relevance: an independent labeller cuts passages, ranks them and finds the classes again from raw pages; grades; the score gives nothing away."""

from __future__ import annotations

import functools
import math
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tasks_helper as toy
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score

from corpus_prep.segment import load_segmenter
from ernie_core.schemas import Document, Sample
from ernie_core.tasks.base import all_tasks
from ernie_core.tasks.bm25 import Bm25, Hit, top
from ernie_core.tasks.ir_relevance import Index, Search
from ernie_core.tasks.passages import passages, query_of, shared_run, thinned
from ernie_core.tasks.token_document import is_scored

TASK = all_tasks()["ir_relevance"]
SPLIT = 1600  # documents
ROOM = 93  # tokens of a passage in rows of 128


def words_of(text: str) -> tuple[str, ...]:
    return tuple(load_segmenter().words([text])[0])


class BruteForce:
    """A split's passages and BM25 from the text of its sentences, sums and ranks by plain loops."""

    def __init__(self, documents: list[Document]) -> None:
        self.passages: list[tuple[int, str, Counter[str]]] = []
        for number, document in enumerate(documents):
            self.passages += [
                (number, text, words)
                for text, words in list(self.cut(document))[1:]
                if len(text) >= 60 and (text.isascii() or any(c in "，。！？；：、,.!?;:…" for c in text[:-1]))
            ]
        self.holding = Counter(word for _, _, words in self.passages for word in words)
        self.lengths = [words.total() for _, _, words in self.passages]
        self.mean = sum(self.lengths) / len(self.passages)
        self.places: dict[str, list[int]] = {word: [] for word in self.holding}
        self.texts: dict[str, list[int]] = {}
        for i, (_, text, words) in enumerate(self.passages):
            self.texts.setdefault(text, []).append(i)
            for word in words:
                self.places[word].append(i)

    @staticmethod
    def cut(document: Document) -> list[tuple[str, Counter[str]]]:
        runs: list[list[tuple[str, tuple[str, ...]]]] = [[]]
        for sentence in (s for p in document.paragraphs for s in p):
            text = "".join(sentence.text.split())
            if runs[-1] and sum(len(t) for t, _ in runs[-1]) + len(text) > ROOM:
                runs.append([])
            if len(text) <= ROOM:
                runs[-1].append((text, sentence.words))
        return [("".join(t for t, _ in run), Counter(w for _, ws in run for w in ws if any(c.isalnum() for c in w))) for run in runs if run]

    @functools.cache  # noqa: B019 - lives as long as the module's rows
    def ranked(self, query: frozenset[str]) -> tuple[dict[int, int], list[int]]:
        """Scores, and the 30 best that share two telling words with the query (or all it has)."""
        scores = self.scores(query)
        best = sorted((i for i, score in scores.items() if score > 0), key=lambda i: (-scores[i], i))[:30]
        telling = {word for word in query if len(word) > 1 and is_scored(word)}
        return scores, [i for i in best if sum(word in self.passages[i][2] for word in telling) >= min(2, len(telling))]

    def scores(self, query: frozenset[str]) -> dict[int, int]:
        found: dict[int, int] = {}
        for word in query & self.places.keys():
            idf = math.log(1 + (len(self.passages) - self.holding[word] + 0.5) / (self.holding[word] + 0.5))
            for i in self.places[word]:
                words = self.passages[i][2]
                times = words[word]
                gained = round(1024 * idf * times * 2.2 / (times + 1.2 * (0.25 + 0.75 * self.lengths[i] / self.mean)))
                found[i] = found.get(i, 0) + gained
        return found

    def label(self, document: int, query: frozenset[str], passage: str) -> tuple[int, int]:
        """Return (class, score) of a row's passage."""
        scores, ranked = self.ranked(query)
        places = self.texts[passage]
        listed = [i for i in places if i in ranked]
        if not listed:
            assert all(self.passages[i][0] != document for i in places)
            return 2, scores.get(places[0], 0)
        if any(self.passages[i][0] == document for i in listed):
            return 0, scores[listed[0]]
        own = [scores[i] for i in ranked if self.passages[i][0] == document]
        assert any(abs(scores[listed[0]] - score) * 5 <= score for score in own)
        return 1, scores[listed[0]]


def kept_words(words: tuple[str, ...], text: str) -> set[str]:
    """The words of a title whose text, in order, is `text`."""
    if not words:
        assert not text
        return set()
    if text.startswith(word := "".join(words[0].split())):
        try:
            return {words[0]} | kept_words(words[1:], text[len(word) :])
        except AssertionError:
            pass
    return kept_words(words[1:], text)


def halves(row: Sample) -> tuple[str, str]:
    first, second = (toy.text_of(ids) for ids in toy.segments_of(row, row.token_ids))
    return first, second


@pytest.fixture(scope="module")
def found(test_data: Path) -> list[tuple[int, int, int, int]]:
    """(class in the row, class by brute force, score, characters of the passage) of rows of real news and technology articles."""
    articles, news = toy.segmented_articles(test_data), toy.segmented_news(test_data, 2 * SPLIT)
    rows: list[tuple[int, int, int, int]] = []
    for split, seeds in ((articles, (7, 8, 9, 10)), (news[:SPLIT], (7, 8)), (news[SPLIT:], (7,))):
        assert len({d.doc_id for d in split}) == len(split)
        force = BruteForce(split)
        for seed in seeds:
            for number, made in enumerate(rows_by_document(split, seed)):
                heading = split[number].heading
                assert heading is not None
                for row in made:
                    query, passage = halves(row)
                    label, score = force.label(number, frozenset(kept_words(heading.words, query)), passage)
                    rows.append((row.label, label, score, len(passage)))
    return rows


def rows_by_document(split: list[Document], seed: int) -> list[list[Sample]]:
    """The task's rows of each document, found by the title that a row's query is made of."""
    rows, _ = toy.built(TASK, split, toy.context(seed=seed))
    made: list[list[Sample]] = [[] for _ in split]
    at = 0
    for row in rows:  # rows stand in the order of documents
        query = halves(row)[0]
        while not _of(split[at], query):
            at += 1
        made[at].append(row)
    return made


def _of(document: Document, query: str) -> bool:
    assert document.heading is not None
    try:
        words = kept_words(document.heading.words, query)
    except AssertionError:
        return False
    named = [w for w in document.heading.words if any(c.isalnum() for c in w)]
    return len(named) - len([w for w in named if w in words]) <= round(0.3 * len(named))


@pytest.mark.timeout(300)
def test_classes_are_found_again_from_raw_pages(found: list[tuple[int, int, int, int]]) -> None:
    differences = [row for row in found if row[0] != row[1]]
    print(len(found), Counter(label for label, *_ in found))
    assert not differences
    assert len(found) >= 10_000
    shares = Counter(label for label, *_ in found)
    assert all(abs(shares[label] / len(found) - 1 / 3) < 0.03 for label in range(3))


def test_score_and_length_do_not_tell_own_from_retrieved(found: list[tuple[int, int, int, int]]) -> None:
    pairs = np.array([(label, score, length) for label, _, score, length in found if label < 2], np.float64)
    features = (pairs[:, 1:] - pairs[:, 1:].mean(0)) / pairs[:, 1:].std(0)
    accuracy = cross_val_score(LogisticRegression(), features, pairs[:, 0], cv=5).mean()
    print(f"score and length: {accuracy:.3f} of {len(pairs)} rows of classes 0 and 1")
    assert accuracy <= 0.60


def test_the_audit_s_bars_stay_low(test_data: Path) -> None:
    bars = toy.audited(TASK, toy.segmented_news(test_data, 2500))["bars"]
    print(bars)
    assert bars["length"] <= 0.42
    assert bars["punctuation"] <= 0.45
    assert bars["second_half"] <= 0.45


def test_an_accepted_answer_is_0_and_another_is_1(test_data: Path) -> None:
    pages = toy.segmented_news(test_data, 120)
    made = []
    for page in pages:
        texts = [p for p in BruteForce.cut(page) if len(p[0]) >= 60][:2]
        if len(texts) == 2 and page.title:
            document = toy.document("qa", "", [page.title, texts[0][0], texts[1][0]], words_of)
            made.append(replace(document, kind="qa", roles=("question", "accepted", "answer"), heading=None))
    rows, drops = toy.built(TASK, made, toy.context())
    assert len(rows) > 20, drops
    seen = set()
    for row in rows:
        question, passage = halves(row)
        (document,) = [d for d in made if "".join("".join(s.text for s in d.paragraphs[0]).split()) == question]
        answers = ["".join("".join(s.text for s in p).split()) for p in document.paragraphs[1:]]
        expected = answers.index(passage) if passage in answers else 2
        assert row.label == expected
        seen.add(row.label)
    assert seen == {0, 1, 2}


def test_ranks_of_equal_scores_follow_the_order_of_passages() -> None:
    assert top(np.array([3, 0, 5, 3]), 2) == [Hit(2, 5), Hit(0, 3)]
    assert Bm25([["雨", "大"], ["雪"]]).scores(["雨"]).tolist()[1] == 0


def test_thinning_takes_a_share_of_the_words_and_keeps_their_order() -> None:
    title = toy.sentence("今天哈尔滨下了一场大雨，道路积水", toy.by_jieba)
    words = [w for w in title.words if w.isalnum()]
    for draw_key in range(50):
        thin = thinned(title, draw_key)
        assert len(title.words) - len(thin.words) == round(0.3 * len(words))
        assert "".join(thin.words) == thin.original
        left = iter(title.words)
        assert all(word in left for word in thin.words)
        assert all("".join(thin.words[u.start : u.end]) in title.text for u in thin.units)


def test_shared_runs() -> None:
    assert shared_run("今天下雨", "昨天下雨", 3)
    assert not shared_run("今天下雨", "昨天下雨", 4)


def test_a_heap_of_searches_is_no_passage() -> None:
    heap = "嘴唇肿了怎么办" * 15
    texts = ["标题行在这里，" + "前文" * 40 + "。", heap + "。", "他说，" + heap + "。", "a heap of words without a mark " * 3]
    drops: Counter[str] = Counter()
    found = passages(toy.document("web", "", texts), toy.context(max_seq_len=200), drops)
    assert [p.span.text[:3] for p in found] == ["他说，", "ahe"]
    assert drops == {"lead": 1, "no_marks": 1}


def test_a_document_that_asks_alike_gives_no_passage() -> None:
    titles = ["癫痫病如何治疗", "治疗癫痫病有哪些办法", "冬天怎样预防感冒"]
    made = [toy.document("web", title, [f"{title}，" + "正文内容" * 20 + "。"] * 2, words_of) for title in titles]
    index = Index(made, toy.context(max_seq_len=400), Counter())
    query = query_of(made[0], 7)
    assert query is not None
    search = Search(made[0], query, index, toy.context(max_seq_len=400))
    assert [search.asks_alike(document.doc_id) for document in made] == [True, True, False]
