"""Knowledge masking: rows hold the document's text, its words and its units, and nothing else."""

from __future__ import annotations

import re
from pathlib import Path

import jieba
import tasks_helper as toy
from hypothesis import given, settings
from hypothesis import strategies as st

from ernie_core.schemas import ENTITY, Document, Sentence, Unit
from ernie_core.tasks.base import all_tasks

TASK = all_tasks()["knowledge_masking"]


@settings(max_examples=30)
@given(toy.documents(), st.integers(12, 60))
def test_rows_hold_the_whole_text_in_order_but_for_short_runs(document: Document, max_seq_len: int) -> None:
    rows, drops = toy.built(TASK, [document], toy.context(max_seq_len=max_seq_len))
    text = "".join(s.text for p in document.paragraphs for s in p)
    kept = [toy.text_of(next(toy.segments_of(r, r.token_ids))) for r in rows]
    assert drops["word_longer_than_row"] == 0
    at = 0
    for part in kept:
        at = text.index(part, at) + len(part)
    assert len(text) - sum(map(len, kept)) <= 7 * drops["short_run"]
    assert all(8 <= len(part) <= max_seq_len - 2 for part in kept)
    assert all(r.label == -1 and set(r.sentence_type_ids) == {0} and r.position_ids == list(range(len(r.token_ids))) for r in rows)


def test_on_real_text_runs_are_greedy_and_boundaries_are_the_segmenters(test_data: Path) -> None:
    """An independent labeller: raw paragraph -> sentences -> jieba; the row's text must be found there with the same boundaries."""
    checked = 0
    for page in toy.news_pages(test_data, 30):
        document = toy.document("news", page["title"], page["paragraphs"], toy.by_jieba)
        rows, _ = toy.built(TASK, [document], toy.context())
        sentences = [s for p in page["paragraphs"] for s in re.findall(r".+?(?:[。！？!?…]+[”’」』）\"']*|$)", p)]
        words = [w for s in sentences for w in jieba.cut(toy.lower(s)) if not w.isspace()]
        flat = "".join("".join(w.split()) for w in words)
        starts = {0}
        for w in words:
            starts.add(max(starts) + len("".join(w.split())))
        at = 0
        for row in rows:
            text = toy.text_of(next(toy.segments_of(row, row.token_ids)))
            at = flat.index(text, at)
            found = [i for i, seg in enumerate(next(toy.segments_of(row, row.seg_labels))) if seg == 0]
            assert found == [i - at for i in sorted(starts) if at <= i < at + len(text)]
            at += len(text)
            checked += len(text)
    assert checked > 20_000


def test_a_longer_sentence_is_cut_between_units() -> None:
    words = (*"天地玄黄宇宙洪荒", "中华人民", "共和国", *"日月盈昃")
    s = Sentence(words, (Unit(8, 10, ENTITY),), "".join(words))
    rows, drops = toy.built(TASK, [Document("0" * 16, "toy", "", "", ((s,),))], toy.context(max_seq_len=14))
    assert [toy.text_of(next(toy.segments_of(r, r.token_ids))) for r in rows] == ["天地玄黄宇宙洪荒", "中华人民共和国日月盈昃"]
    assert rows[1].unit_labels == [-1, 0, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, -1]
    assert not +drops


def test_what_is_left_out_is_counted() -> None:
    long_word = Sentence(("天地玄黄宇宙洪荒", "日" * 40, "月盈昃辰宿列张呀"), (), "天地玄黄宇宙洪荒" + "日" * 40 + "月盈昃辰宿列张呀")
    documents = [toy.document("toy", "", ["太短。"]), toy.document("toy", "", ["  "]), Document("1" * 16, "toy", "", "", ((long_word,),))]
    rows, drops = toy.built(TASK, documents, toy.context(max_seq_len=32))
    assert +drops == {"short_run": 1, "empty_document": 1, "word_longer_than_row": 1}
    assert [toy.text_of(next(toy.segments_of(r, r.token_ids))) for r in rows] == ["天地玄黄宇宙洪荒月盈昃辰宿列张呀"]


def test_sentences_are_not_split_where_they_fit() -> None:
    document = toy.document("toy", "", ["天" * 29 + "。" + "地" * 19 + "。", "玄" * 39 + "。"])
    rows, _ = toy.built(TASK, [document], toy.context(max_seq_len=62))
    assert [len(r.token_ids) for r in rows] == [52, 42]
