"""Sentence distance: an independent labeller finds the classes again from raw pages; gaps are uniform, orders equally frequent."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import tasks_helper as toy
from hypothesis import given, settings
from hypothesis import strategies as st

from ernie_core.schemas import Document, Sample
from ernie_core.tasks.base import all_tasks
from ernie_core.tasks.sentence_distance import far

TASK = all_tasks()["sentence_distance"]


def halves(row: Sample) -> tuple[str, str]:
    first, second = (toy.text_of(ids) for ids in toy.segments_of(row, row.token_ids))
    return first, second


def brute_force(raw: str, first: str, second: str) -> tuple[int, bool]:
    """Return (class, whether the text that comes first, or is of this page, stands first) from the raw page alone."""
    if first + second in raw:
        return 0, True
    if first in raw and second in raw:
        assert second + first not in raw
        return 1, raw.index(first) < raw.index(second)
    assert (first in raw) + (second in raw) == 1
    return 2, first in raw


def test_labels_are_found_again_in_ten_thousand_raw_rows(test_data: Path) -> None:
    pages = toy.news_pages(test_data, 740)
    documents = [toy.document("news", p["title"], p["paragraphs"], toy.by_jieba) for p in pages]
    ctx = toy.context(toy.ListPool(toy.spans_of(documents)))
    raws = [toy.lower("".join("".join(page["paragraphs"]).split())) for page in pages]
    expected, found, in_order, lengths, dropped = [], [], Counter[int](), Counter[int](), 0
    for raw, document in zip(raws, documents, strict=True):
        rows, drops = toy.built(TASK, [document], ctx)
        for row in rows:
            first, second = halves(row)
            label, forward = brute_force(raw, first, second)
            expected.append(label)
            found.append(row.label)
            in_order[row.label] += forward
            lengths[row.label] += len(first) - len(second)
            if row.label == 2 and len(found) % 10 == 0:
                assert sum((second if forward else first) in other for other in raws) >= 1
        dropped += sum(drops[reason] for reason in ("no_negative", "near_duplicate", "too_long"))
    assert len(found) >= 10_000
    assert expected == found
    count = Counter(found)
    assert all(n / len(found) == pytest.approx(1 / 3, abs=0.02) for n in count.values())
    assert in_order[0] == count[0]
    assert all(in_order[c] / count[c] == pytest.approx(0.5, abs=0.03) for c in (1, 2))
    assert all(abs(lengths[c] / count[c]) < 3 for c in count)
    assert dropped < 0.03 * len(found)


@given(st.integers(3, 60), st.data())
def test_the_far_text_is_in_the_document_and_not_adjacent(num_parts: int, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, num_parts - 1))
    gap = far(num_parts, place, data.draw(st.integers(0, 2**63)))
    assert (gap == 0) == (num_parts == 3 and place == 1)
    assert gap == 0 or (abs(gap) >= 2 and 0 <= place + gap < num_parts)


def test_gaps_are_uniform_and_sides_equally_frequent_where_both_are_there() -> None:
    found = Counter(far(10, 3, k) for k in range(7000))
    assert set(found) == {-3, -2, 2, 3, 4, 5, 6}
    gaps = Counter(abs(step) for step in found.elements())
    assert all(n / 7000 == pytest.approx(1 / 5, abs=0.03) for n in gaps.values())
    assert found[2] / gaps[2] == pytest.approx(0.5, abs=0.05)


def test_half_of_the_other_documents_are_of_the_same_work() -> None:
    def chapter(work: str, n: int) -> Document:
        letters = [chr(0x4E00 + 97 * i + 7 * n + 1009 * "甲乙丙".index(work)) for i in range(200)]
        return toy.document("novels", f"{work}{n}", ["".join(letters[i : i + 39]) + "。" for i in range(0, 195, 39)], work=work)

    documents = [chapter(work, n) for work in "甲乙丙" for n in range(120)]
    home = {"".join(s.text for s in paragraph): d for d in documents for paragraph in d.paragraphs}
    rows, _ = toy.built(TASK, documents, toy.context(toy.ListPool(toy.spans_of(documents))))
    pairs = [[home[half] for half in halves(row)] for row in rows if row.label == 2]
    assert all(a.doc_id != b.doc_id for a, b in pairs)
    same = sum(a.work == b.work for a, b in pairs) / len(pairs)
    assert same == pytest.approx(1 / 2 + 1 / 2 * 1 / 3, abs=0.08)
    assert all(a.doc_id == b.doc_id for row in rows if row.label < 2 for a, b in [[home[half] for half in halves(row)]])


@settings(max_examples=30)
@given(toy.documents())
def test_a_row_is_never_too_long_and_says_what_it_leaves_out(document: Document) -> None:
    others = [toy.document("toy", "", [f"{c}风{d}云。" * 4]) for c in "东西南北" for d in "春夏秋冬"]
    pool = toy.ListPool(toy.spans_of([document, *others], 40))
    rows, drops = toy.built(TASK, [document], toy.context(pool, max_seq_len=40))
    assert all(len(row.token_ids) <= 40 and row.label in (0, 1, 2) for row in rows)
    num_parts = len(toy.spans_of([document], 40))
    assert len(rows) + sum(drops.values()) == (1 if num_parts < 3 else num_parts - 1)


def test_what_cannot_make_all_three_classes_is_counted() -> None:
    pages = [toy.document("toy", "", ["天地。" * 20, "玄黄。" * 20]), toy.document("toy", "", ["天" * 40, "地玄黄宇宙", "洪" * 20])]
    dialogue = Document("0" * 16, "toy", "", "", pages[0].paragraphs, "dialogue", ("", ""))
    assert toy.built(TASK, [*pages, dialogue], toy.context())[1] == {"short_document": 1, "no_far_span": 1, "no_negative": 1, "not_text": 1}


def test_a_text_that_stands_beside_the_anchor_too_is_no_class_1() -> None:
    page = toy.document("toy", "", ["天地玄黄，宇宙洪荒。", "日月盈昃，辰宿列张。" * 5, "日月盈昃，"])
    pool = toy.ListPool([span for c in "甲乙丙" for span in toy.spans_of([toy.document("toy", "", [f"{c}寒来暑往", f"秋收{c}冬藏闰余"])])])
    rows, drops = toy.built(TASK, [page], toy.context(pool))
    assert (rows, +drops) == ([], {"near_duplicate": 1, "no_far_span": 1})
