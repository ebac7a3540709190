"""Spans, negatives and cuts: the ground of the tasks on pairs of texts."""

from __future__ import annotations

import itertools
from dataclasses import replace

import tasks_helper as toy
from hypothesis import given, settings
from hypothesis import strategies as st

from ernie_core.schemas import Document
from ernie_core.tasks.base import PoolSpan, encode_sentences
from ernie_core.tasks.pairs import head, near_duplicates, negative, rooms, ruled_out, spans, tail


@settings(max_examples=30)
@given(toy.documents(), st.integers(20, 200))
def test_spans_are_the_document_in_order_inside_paragraphs(document: Document, max_seq_len: int) -> None:
    by_paragraph = [spans(replace(document, paragraphs=(paragraph,)), max_seq_len) for paragraph in document.paragraphs]
    for paragraph, parts in zip(document.paragraphs, by_paragraph, strict=True):
        assert [s for part in parts for s in part.sentences] == list(paragraph)
        assert all(len(part.sentences) == 1 or part.num_chars <= (max_seq_len - 3) // 2 for part in parts)
        assert all(a.num_chars + len(b.sentences[0].original) > (max_seq_len - 3) // 2 for a, b in itertools.pairwise(parts))
    assert spans(document, max_seq_len) == [span for parts in by_paragraph for span in parts]


@given(st.integers(1, 200), st.integers(1, 200), st.integers(20, 130))
def test_rooms_fill_the_row_and_cut_no_side_that_has_its_half(first: int, second: int, limit: int) -> None:
    left, right = rooms(first, second, limit)
    assert left + right == min(first + second, limit)
    assert min(first, limit // 2) <= left <= first
    assert min(second, limit // 2) <= right <= second


def test_cuts_are_between_units_and_keep_every_column_alike() -> None:
    text = encode_sentences([toy.sentence("天哈尔滨地省会大雨", lambda _: ("天", "哈尔滨", "地", "省会", "大雨"))], toy.encode_characters)
    assert toy.text_of(head(text, 3)[0]) == "天"
    assert toy.text_of(head(text, 4)[0]) == "天哈尔滨"
    assert toy.text_of(tail(text, 3)[0]) == "大雨"
    assert toy.text_of(tail(text, 8)[0]) == "哈尔滨地省会大雨"
    assert toy.text_of(tail(text, 5, [ord("地")])[0]) == "省会大雨"
    assert toy.text_of(tail(text, 8, [ord("哈")])[0]) == "地省会大雨"
    assert tail(text, 99, [ord("天")]) == text
    assert head(text, 99) == tail(text, 99) == text
    assert (head(text, 4), tail(text, 8)[1:]) == (([*map(ord, "天哈尔滨")], [0, 0, 1, 1], [0, 0, 1, 1], [0, 2, 2, 2]),
                                                  ([0, 1, 1, 0, 0, 1, 0, 1], [0, 1, 1, 0, 0, 1, 0, 1], [2, 2, 2, 0, 0, 0, 0, 0]))  # fmt: skip
    assert head(text, 0)[0] == tail(text, 0)[0] == []


def test_a_negative_shares_as_many_words_with_the_anchor_as_the_true_text_does() -> None:
    def span(doc_id: str, *words: str) -> PoolSpan:
        return PoolSpan(doc_id, "toy", "", (toy.sentence("".join(words), lambda _: words),))

    anchor, true = span("a", "北京", "上海", "广州"), span("a", "北京", "上海", "天津", "大连")
    pool = [span(str(n), *(["北京", "上海", "广州"][:n]), *(f"词{c}" for c in "甲乙丙丁"[n:])) for n in range(4)]
    context = toy.context(toy.ListPool(pool))
    found = [negative(anchor, true, context, draw_key) for draw_key in range(40)]
    assert [f.doc_id for f in found if f].count("2") > 36
    assert negative(anchor, span("a", "短"), context, 1) is None


def test_what_rules_a_pair_out() -> None:
    def span(text: str) -> PoolSpan:
        return PoolSpan("", "toy", "", (toy.sentence(text),))

    first, second, other = span("天地玄黄。"), span("宇宙洪荒。"), span("日月盈昃。")
    whole = first.text + second.text + "日月盈昃，辰宿列张。"
    assert ruled_out((first, second), other, whole, toy.context()) == ""
    assert ruled_out((first, second), other, whole, toy.context(frequent_lines=frozenset(["宇宙洪荒。"]))) == "frequent_line"
    assert ruled_out((first, second), other, whole, toy.context(frequent_lines=frozenset(["日月盈昃。"]))) == "frequent_line"
    assert ruled_out((first, second), other, whole + other.text, toy.context()) == "near_duplicate"
    assert ruled_out((first, span("天地玄黄！")), other, whole, toy.context()) == "near_duplicate"
    assert ruled_out((first, second), span("天地玄黄！"), whole, toy.context()) == "near_duplicate"
    assert ruled_out((first, span("？？？？好。")), other, whole, toy.context()) == "short_text"
    assert ruled_out((first, second), span("1 2 3。。"), whole, toy.context()) == "short_text"
    assert ruled_out((first, span("2、天下太平。")), other, whole, toy.context()) == "enumeration"
    assert ruled_out((first, second), span("〔3〕天下太平。"), whole, toy.context()) == "enumeration"


@settings(max_examples=500)
@given(st.data(), st.sampled_from([2, 3, 20, 3000]))
def test_near_duplicates_are_what_the_definition_says(data: st.DataObject, num_letters: int) -> None:
    letters = st.integers(0x4E00, 0x4E00 + num_letters).map(chr)
    left = data.draw(st.text(letters, max_size=80))
    start, end = sorted((data.draw(st.integers(0, 80)), data.draw(st.integers(0, 80))))
    right = left[start:end] + data.draw(st.text(letters, max_size=40))
    pairs = [{text[i : i + 2] for i in range(len(text) - 1)} for text in (left, right)]
    shared, either = len(pairs[0] & pairs[1]), len(pairs[0] | pairs[1])
    assert near_duplicates(left, right) == (left == right or (either > 0 and 2 * shared >= either))


def test_near_duplicates_share_half_of_their_character_pairs() -> None:
    assert near_duplicates("本报讯昨日大雨", "本报讯昨日大雨。")
    assert near_duplicates("好", "好")
    assert not near_duplicates("好", "坏")
    assert not near_duplicates("天下雨了。", "地很湿。")
