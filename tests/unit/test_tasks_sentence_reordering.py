"""Sentence reordering: classes, the permutation at read time and its inverse, and what is left out."""

from __future__ import annotations

import re
from collections import Counter
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
import tasks_helper as toy
from hypothesis import given, settings
from hypothesis import strategies as st

from ernie_core.schemas import Document, Sample
from ernie_core.seeding import key
from ernie_core.tasks.base import all_tasks
from ernie_core.tasks.sentence_reordering import class_offset, order_of, permute

TASK = all_tasks()["sentence_reordering"]
COLUMNS = ("token_ids", "seg_labels", "unit_labels", "unit_kind")


def context(max_segments: int = 3, **changes: object) -> toy.BuildContext:
    return toy.context(options={"max_segments": max_segments}, **changes)


@st.composite
def samples(draw: st.DrawFn) -> Sample:
    """Rows of 2 to 4 segments with unlike columns everywhere and a token-level label."""
    segments = draw(st.lists(st.integers(1, 6), min_size=2, max_size=4))
    types = [0] + [i for i, n in enumerate(segments) for _ in range(n + 1)]
    seg = [-1] + [v for n in segments for v in [0] * n + [-1]]
    ids = list(range(100, 100 + len(seg)))
    return Sample(
        ids, types, list(range(len(seg))), seg, [s if s < 0 else i % 2 for i, s in enumerate(seg)],
        [s if s < 0 else i % 3 for i, s in enumerate(seg)], class_offset(len(segments)), {"token_document": [i % 3 - 1 for i in range(len(seg))]},
    )  # fmt: skip


def test_classes_count_the_orders_of_one_to_m_segments_lexicographically() -> None:
    orders = [order for n in range(1, 5) for order in permutations(range(n))]
    assert len(orders) == 33 == TASK.classes({"max_segments": 4})
    assert [order_of(label) for label in range(33)] == orders
    assert [class_offset(n) for n in (1, 2, 3, 4)] == [0, 1, 3, 9]


def test_accuracy_is_told_apart_by_the_number_of_segments_and_by_pairs() -> None:
    labels, predicted = np.array([1, 2, 3, 3, 8]), np.array([1, 1, 3, 4, 2])
    assert TASK.figures is not None
    assert TASK.figures(labels, predicted) == {"acc_2": 0.5, "acc_3": pytest.approx(1 / 3), "acc_pairs": pytest.approx((1 + 0 + 3 + 2 + 0) / 11)}


@given(samples(), st.integers(0, 2**64 - 1))
def test_undoing_a_reordering_restores_every_column(sample: Sample, draw_key: int) -> None:
    read = permute(sample, draw_key)
    order = order_of(read.label)
    n = sample.seg_labels.count(-1) - 1
    assert len(order) == n
    for name in COLUMNS:
        shuffled = list(toy.segments_of(read, getattr(read, name)))
        restored = [shuffled[order.index(i)] for i in range(n)]
        assert restored == list(toy.segments_of(sample, getattr(sample, name)))
    moved = list(toy.segments_of(read, read.token_labels["token_document"]))
    assert [moved[order.index(i)] for i in range(n)] == list(toy.segments_of(sample, sample.token_labels["token_document"]))
    assert read.position_ids == sample.position_ids
    assert sorted(read.token_ids) == sorted(sample.token_ids)
    assert read.sentence_type_ids == [0] + [i for i, part in enumerate(toy.segments_of(read, read.token_ids)) for _ in range(len(part) + 1)]


@pytest.mark.parametrize("num_segments", [2, 3, 4])
def test_all_orders_come_equally_often_the_identity_included(num_segments: int) -> None:
    seg = [-1] + [0, -1] * num_segments
    row = Sample(list(range(len(seg))), [0] * len(seg), list(range(len(seg))), seg, seg, seg, 0)
    labels = Counter(permute(row, key(7, epoch)).label for epoch in range(6000))
    first, size = class_offset(num_segments), class_offset(num_segments + 1) - class_offset(num_segments)
    assert set(labels) == set(range(first, first + size))
    expected = 6000 / size
    assert sum((count - expected) ** 2 / expected for count in labels.values()) < {2: 10.8, 6: 20.5, 24: 49.7}[size]  # chi squared, p = 0.001


def test_on_real_text_segments_are_balanced_whole_sentences_of_one_raw_paragraph(test_data: Path) -> None:
    pages = toy.news_pages(test_data, 400)
    documents = [toy.document("news", p["title"], p["paragraphs"]) for p in pages]
    rows, _ = toy.built(TASK, documents, context())
    raw = "\n".join(toy.lower("".join(paragraph.split())) for p in pages for paragraph in p["paragraphs"])
    for row in rows:
        segments = [toy.text_of(ids) for ids in toy.segments_of(row, row.token_ids)]
        assert "".join(segments) in raw
        assert max(map(len, segments)) <= 2 * min(map(len, segments))
        assert all(s.rstrip("”’」』）》\"')]")[-1] in "。！？!?…." for s in segments)
        for s in segments:
            assert s.count("“") == s.count("”")
            assert s.count("（") + s.count("(") == s.count("）") + s.count(")")
            assert s.count('"') % 2 == 0
        assert not any(re.match(r"首先|其次|最后|一、|二、|（一）|（1）|1、|2\.(?!\d)", s) for s in segments)
        assert row.label == class_offset(len(segments))
        assert len(row.token_ids) <= 128
    per_n = Counter(r.seg_labels.count(-1) - 1 for r in rows)
    assert len(rows) > 800
    assert set(per_n) == {2, 3}
    assert abs(per_n[2] - per_n[3]) <= 4


@settings(max_examples=30)
@given(st.lists(toy.documents(), min_size=1, max_size=3), st.sampled_from([3, 4]))
def test_rows_of_any_text_stand_in_their_document_in_order(documents: list[Document], max_segments: int) -> None:
    rows, _ = toy.built(TASK, documents, context(max_segments, max_seq_len=64))
    flat = "|".join("".join(s.text for s in p) for d in documents for p in d.paragraphs)
    for row in rows:
        segments = [toy.text_of(ids) for ids in toy.segments_of(row, row.token_ids)]
        assert "".join(segments) in flat
        assert 2 <= len(segments) <= max_segments
        assert len(set(segments)) == len(segments)


@pytest.mark.parametrize(
    ("paragraph", "reason"),
    [
        ("一、天地玄黄宇宙洪荒。二、日月盈昃辰宿列张。", "enumeration"),
        ("首先天地玄黄宇宙洪荒。最后日月盈昃辰宿列张。", "enumeration"),
        ("（1）天地玄黄宇宙洪荒。（2）日月盈昃辰宿列张。", "enumeration"),
        ("①天地玄黄宇宙洪荒。②日月盈昃辰宿列张。", "enumeration"),
        ("1.天地玄黄宇宙洪荒。2.日月盈昃辰宿列张。", "enumeration"),
        ("1998年天地玄黄宇宙洪荒。1999年日月盈昃辰宿列张。", "dates_in_series"),
        ("“天地玄黄宇宙洪荒。日月盈昃辰宿列张。", "unclosed"),
        ("天地玄黄宇宙洪荒。日月盈昃辰宿列张", "unclosed"),
        ("天地玄黄宇宙洪荒日月盈昃辰宿列张寒来暑往。秋收。", "no_balanced_cut"),
        ("天地玄黄宇宙洪荒。天地玄黄宇宙洪荒。", "repeated_segment"),
        ("天地玄黄宇宙洪荒。", "short_paragraph"),
    ],
)
def test_what_gives_the_order_away_is_left_out_and_counted(paragraph: str, reason: str) -> None:
    rows, drops = toy.built(TASK, [toy.document("toy", "", [paragraph])], context())
    assert rows == []
    assert set(+drops) == {reason}


@pytest.mark.parametrize(
    "paragraph",
    ["一天天地玄黄宇宙洪荒。日月盈昃辰宿列张呀。", "1.5吨天地玄黄宇宙洪荒。日月盈昃辰宿列张呀。", "1998年天地玄黄宇宙洪荒。日月盈昃辰宿列张呀呀。"],
)
def test_sentences_that_only_look_like_an_enumeration_are_kept(paragraph: str) -> None:
    rows, _ = toy.built(TASK, [toy.document("toy", "", [paragraph])], context())
    assert [r.label for r in rows] == [1]


def test_a_closed_quotation_of_several_sentences_stays_in_one_segment() -> None:
    document = toy.document("toy", "", ["他说：“天地玄黄。宇宙洪荒。”日月盈昃辰宿列张寒来呀。"])
    rows, _ = toy.built(TASK, [document], context())
    assert [toy.text_of(ids) for ids in toy.segments_of(rows[0], rows[0].token_ids)] == ["他说：“天地玄黄。宇宙洪荒。”", "日月盈昃辰宿列张寒来呀。"]
