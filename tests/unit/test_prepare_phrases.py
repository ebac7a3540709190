"""Phrases: counts and strengths found again by plain loops, the table does not depend on the cut into splits, runs become units."""

from __future__ import annotations

import json
from collections import Counter
from itertools import pairwise
from math import log
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tasks_helper as toy
from hypothesis import given
from hypothesis import strategies as st
from prepare_helper import run_prepare

from corpus_prep.phrases import MAX_WORDS, PairCounts, document_with_phrases, is_sampled, may_join, npmi, offer_pairs, share_of, with_phrases
from corpus_prep.words import words_of
from ernie_core.data.shards import ShardSet
from ernie_core.manifest import read_manifest
from ernie_core.schemas import ENTITY, PHRASE, Document, Sentence, Unit, sentence_to_json

WORDS = ["冰雪", "文化", "名城", "国际", "的", "，", " ", "new", "york", "the", "5"]
JOINING = list(filter(may_join, WORDS))


def sentence(words: list[str], *entities: tuple[int, int]) -> Sentence:
    return Sentence(tuple(words), tuple(Unit(a, b, ENTITY) for a, b in entities), "".join(words))


def document(sentences: list[Sentence], doc_id: str = "0" * 16) -> Document:
    return Document(doc_id, "c", "w", "", (tuple(sentences),))


def offered(sentences: list[Sentence]) -> dict[str, Any]:
    """The pairs of all these sentences; one that does not count stands behind them."""
    rows = [sentence_to_json(s) for s in [*sentences, sentence(JOINING)]]
    return offer_pairs(words_of([row[0] for row in rows]), [row[1] for row in rows], np.arange(len(rows)) < len(sentences))


def is_han(character: str) -> bool:
    return "\u4e00" <= character <= "\u9fff"


def brute_force(sentences: list[Sentence]) -> tuple[int, Counter[str], Counter[tuple[str, str]]]:
    """All words, words that may join, and pairs of these side by side, by plain loops."""
    total, words, pairs = 0, Counter[str](), Counter[tuple[str, str]]()
    for s in sentences:
        last, spaced = "", False
        inside = {i for u in s.units for i in range(u.start, u.end)}
        for i, word in enumerate(s.words):
            total += word.isalnum()
            if word.isspace():
                spaced = True
                continue
            if not may_join(word) or i in inside:
                last = ""
            else:
                words[word] += 1
                if last and not (spaced and (is_han(last[-1]) or is_han(word[0]))):
                    pairs[last, word] += 1
                last = word
            spaced = False
    return total, words, pairs


def check_offer(sentences: list[Sentence]) -> None:
    offer = offered(sentences)
    total, words, pairs = brute_force(sentences)
    named = offer["words"]
    assert offer["total"] == total
    assert {(named[a], named[b]): n for a, b, n in zip(offer["first"], offer["second"], offer["times"], strict=True)} == dict(pairs)
    assert named == sorted({w for pair in pairs for w in pair})
    assert dict(zip(named, offer["counts"], strict=True)) == {w: words[w] for w in named}


@st.composite
def sentences(draw: st.DrawFn) -> Sentence:
    words = draw(st.lists(st.sampled_from(WORDS), max_size=12))
    at = draw(st.integers(0, max(0, len(words) - 2)))
    return sentence(words, (at, at + 2)) if len(words) > 2 and draw(st.booleans()) else sentence(words)


@given(st.lists(sentences(), max_size=6))
def test_pairs_are_counted_as_plain_loops_count_them(made: list[Sentence]) -> None:
    check_offer(made)


def test_pairs_of_real_text_are_counted_as_plain_loops_count_them(test_data: Path) -> None:
    check_offer([s for d in toy.segmented_news(test_data, 300) for p in d.paragraphs for s in p])


@given(st.lists(sentences(), min_size=1, max_size=12), st.integers(1, 11))
def test_the_table_is_that_of_all_sentences_wherever_they_were_split(made: list[Sentence], at: int) -> None:
    whole, parts = PairCounts(), PairCounts()
    whole.add(offered(made))
    for part in (made[:at], made[at:]):
        parts.add(offered(part))
    assert parts.phrases(0.01) == whole.phrases(0.01)


def test_strengths_are_npmi_and_rare_pairs_are_none() -> None:
    made = [sentence(["冰雪", "文化"])] * 6 + [sentence(["国际", "名城"])] * 4 + [sentence(["文化", "名城", "，"])] * 10
    counts = PairCounts()
    counts.add(offered(made))
    table = counts.phrases(0.05)
    expected = {("冰雪", "文化"): log(6 * 40 / (6 * 16)) / -log(6 / 40), ("文化", "名城"): log(10 * 40 / (16 * 14)) / -log(10 / 40)}
    assert {(a, b): n for a, of in table.items() for b, n in of.items()} == {pair: round(1000 * n) for pair, n in expected.items()}
    assert npmi(10, 10, 10, 1000) == pytest.approx(1)
    assert npmi(10, 100, 100, 1000) == pytest.approx(0)


@pytest.mark.parametrize(
    ("words", "entities", "expected"),
    [
        (["国际", "冰雪", "文化", "名城", "。"], [], [(1, 4)]),
        (["国际", "冰雪", "，", "文化", "名城"], [], [(3, 5)]),
        (["冰雪", "文化", "名城"], [(2, 3)], [(0, 2)]),
        (["冰雪", "文化", "名城"], [(1, 2)], []),
        (["冰雪", " ", "文化", "名城"], [], [(2, 4)]),
        (["new", " ", "york", " ", "times", "!"], [], [(0, 5)]),
        (["a", "b", "c", "d", "e", "f"], [], [(0, 3), (3, 6)]),
        (["a", "b", "c", "d"], [], [(0, 4)]),
        ([], [], []),
    ],
)
def test_runs_of_pairs_become_units(words: list[str], entities: list[tuple[int, int]], expected: list[tuple[int, int]]) -> None:
    """a to f is a run of six words, cut where it is weakest, between c and d."""
    phrases = {
        "冰雪": {"文化": 700}, "文化": {"名城": 600}, "new": {"york": 900}, "york": {"times": 500},
        "a": {"b": 500}, "b": {"c": 500}, "c": {"d": 450}, "d": {"e": 500}, "e": {"f": 500},
    }  # fmt: skip
    found = with_phrases(sentence(words, *entities), phrases)
    assert [(u.start, u.end) for u in found.units if u.kind == PHRASE] == expected
    assert [(u.start, u.end) for u in found.units if u.kind == ENTITY] == entities
    assert [u.start for u in found.units] == sorted(u.start for u in found.units)


@given(sentences(), st.dictionaries(st.sampled_from(JOINING), st.dictionaries(st.sampled_from(JOINING), st.integers(1, 999))))
def test_units_never_overlap_and_no_phrase_is_long(made: Sentence, phrases: dict[str, dict[str, int]]) -> None:
    found = with_phrases(made, phrases)
    assert (found.words, found.original) == (made.words, made.original)
    covered = [i for u in found.units for i in range(u.start, u.end)]
    assert covered == sorted(set(covered))
    for unit in found.units:
        inside = [w for w in made.words[unit.start : unit.end] if not w.isspace()]
        assert unit.kind == ENTITY or 2 <= len(inside) <= MAX_WORDS
        assert unit.kind == ENTITY or all(b in phrases[a] for a, b in pairwise(inside))


def test_real_phrases_are_found(test_data: Path) -> None:
    documents = toy.segmented_news(test_data, 2000)
    counts = PairCounts()
    counts.add(offered([s for d in documents for p in d.paragraphs for s in p]))
    table = counts.phrases(0.45)
    assert table["乡村"]["振兴"] > 450
    assert table["犯罪"]["情节"] > 450
    assert not any(word in table for word in ("的", "在", "我们", "2018"))
    words, covered = 0, 0
    for s in (s for d in documents for p in document_with_phrases(d, table).paragraphs for s in p):
        words += sum(w.isalnum() for w in s.words)
        covered += sum(w.isalnum() for u in s.units if u.kind == PHRASE for w in s.words[u.start : u.end])
    assert 0.05 < covered / words < 0.15


def test_of_a_large_input_a_share_of_documents_is_counted() -> None:
    assert [share_of(n) for n in (0, 256_000_000, 256_000_001, 10**9, 10**12)] == [1, 1, 0.5, 0.25, 2.0**-12]
    documents = [f"{i:016x}" for i in range(4000)]
    some = [d for d in documents if is_sampled(d, 0.25, 7)]
    assert len(some) == pytest.approx(1000, abs=90)
    assert [d for d in documents if is_sampled(d, 0.125, 7)] == [d for d in some if is_sampled(d, 0.125, 7)]
    assert all(is_sampled(d, 1.0, 7) for d in documents)


@pytest.mark.parametrize("split_bytes", [4000, 20_000])
def test_rows_hold_phrases_and_the_table_is_the_same_for_other_splits(corpus: Path, whole: Path, tmp_path: Path, split_bytes: int) -> None:
    run_prepare(corpus, tmp_path / "other", split_bytes=split_bytes)
    table = (tmp_path / "other" / "tables" / "phrases.json").read_bytes()
    assert table == (whole / "tables" / "phrases.json").read_bytes()
    assert len(json.loads(table)) > 10
    manifest = read_manifest(whole)
    assert manifest.facts["phrase_pairs"] == sum(map(len, json.loads(table).values()))
    shards = ShardSet.open(whole, manifest, "knowledge_masking", "train", "parquet")
    assert np.mean(shards.read_group(0).unit_kind == PHRASE) > 0.02


def test_without_phrases_nothing_is_counted(corpus: Path, tmp_path: Path) -> None:
    run_prepare(corpus, tmp_path / "out", phrases=None)
    assert (tmp_path / "out" / "tables" / "phrases.json").read_bytes() == b"{}"
    assert not (tmp_path / "out" / "phrases").exists()
