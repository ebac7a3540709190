"""Next sentence: an independent labeller finds the labels again, and no half tells them."""

from __future__ import annotations

from pathlib import Path

import pytest
import tasks_helper as toy
from hypothesis import given, settings

from ernie_core.schemas import Sample
from ernie_core.tasks.base import PoolSpan, all_tasks

TASK = all_tasks()["next_sentence"]


def context(pool: toy.ListPool, classes: int = 2, **changes: object) -> toy.BuildContext:
    return toy.context(pool, options={"classes": classes}, **changes)


def halves(row: Sample) -> tuple[str, str]:
    first, second = (toy.text_of(ids) for ids in toy.segments_of(row, row.token_ids))
    return first, second


def brute_force(raw: str, first: str, second: str) -> int:
    """1 = the second stands right behind the first in the raw page, 2 = right before it, 0 = one of them does not stand there."""
    if first + second in raw:
        return 1
    if second + first in raw:
        return 2
    assert (first in raw) + (second in raw) == 1
    return 0


@pytest.mark.parametrize("classes", [2, 3])
def test_labels_are_found_again_in_ten_thousand_raw_rows(test_data: Path, classes: int) -> None:
    pages = toy.news_pages(test_data, 1100 if classes == 3 else 680)
    documents = [toy.document("news", p["title"], p["paragraphs"], toy.by_jieba) for p in pages]
    ctx = context(toy.ListPool(toy.spans_of(documents)), classes)
    expected, found, dropped, replaced_first = [], [], 0, 0
    for page, document in zip(pages, documents, strict=True):
        raw = toy.lower("".join("".join(page["paragraphs"]).split()))
        rows, drops = toy.built(TASK, [document], ctx)
        expected += [brute_force(raw, *halves(row)) for row in rows]
        found += [row.label for row in rows]
        replaced_first += sum(halves(row)[0] not in raw for row in rows)
        anyway = ("single_span", "short_text", "enumeration", *(["too_long"] if classes == 3 else []))  # whatever the negative
        dropped += sum(drops.values()) - sum(drops[reason] for reason in anyway)
    assert len(found) >= 10_000
    assert expected == found
    assert {c: found.count(c) / len(found) for c in range(classes)} == {c: pytest.approx(1 / classes, abs=0.02) for c in range(classes)}
    assert replaced_first / found.count(0) == pytest.approx(0.5 if classes == 3 else 0.0, abs=0.03)
    assert dropped < 0.03 * len(found)


@settings(max_examples=30)
@given(toy.documents())
def test_a_row_is_never_too_long_and_its_texts_are_of_the_document_or_the_pool(document: toy.Document) -> None:
    others = [toy.document("toy", "", [f"{c}风{d}云。" * 4]) for c in "东西南北" for d in "春夏秋冬"]
    pool = toy.spans_of([document, *others], 40)
    texts = {"".join(s.text for s in span.sentences) for span in pool}
    for classes in (2, 3):
        for row in toy.built(TASK, [document], context(toy.ListPool(pool), classes, max_seq_len=40))[0]:
            assert len(row.token_ids) <= 40
            first, second = halves(row)
            assert any(text.endswith(first) for text in texts)
            assert any(text.startswith(second) for text in texts)
            if classes == 3:
                assert {first, second} <= texts


def test_a_negative_is_of_the_same_source_and_length_and_of_another_document() -> None:
    documents = [toy.document(source, str(i), [f"{c}{d}{e}" * 19 + "。" for e in "甲乙丙丁"]) for source in ("one", "two")
                 for i, (c, d) in enumerate(zip("天地玄黄", "日月星辰", strict=True))]  # fmt: skip
    rows, _ = toy.built(TASK, documents, context(toy.ListPool(toy.spans_of(documents))))
    assert len(rows) == 24
    assert {r.label for r in rows} == {0, 1}
    assert all((a[:2] == b[:2]) == bool(r.label) for r in rows for a, b in [halves(r)])


def test_a_pair_is_dropped_whatever_its_label_when_no_negative_will_do() -> None:
    page = toy.document("toy", "", ["天" * 49 + "。", "地玄黄宇宙洪荒日月盈昃辰宿列张。", "寒" * 62 + "。"])
    for other, reasons in (
        ("地玄黄宇宙洪荒日月盈昃辰宿列呀。", {"near_duplicate": 1, "no_negative": 1}),
        ("寒" * 90 + "。", {"no_negative": 2}),
        ("寒" * 62 + "。", {"near_duplicate": 1, "no_negative": 1}),
    ):
        pool = toy.ListPool([PoolSpan("f" * 16, "toy", "", (toy.sentence(other),))])
        for seed in range(8):
            rows, drops = toy.built(TASK, [page], context(pool, seed=seed))
            assert rows == []
            assert +drops == reasons


def test_a_longer_pair_loses_its_outer_ends_or_is_dropped_where_they_would_tell_the_order() -> None:
    documents = [toy.document("toy", "", ["天地。" * 20, "玄黄。" * 19]), toy.document("toy", "", ["一句。"])]
    pool = toy.ListPool([PoolSpan("f" * 16, "toy", "", (toy.sentence("寒来暑往" * 14 + "。"),))])
    (row,), drops = toy.built(TASK, documents, context(pool, max_seq_len=129))
    assert (len(row.token_ids), +drops) == (120, {"single_span": 1})
    documents = [toy.document("toy", "", ["天" * 59 + "。", "地" * 57 + "。"]), documents[1]]
    (row,), _ = toy.built(TASK, documents, context(pool, max_seq_len=80))
    assert halves(row) in {("天" * 37 + "。", "地" * 39), ("天" * 37 + "。", ("寒来暑往" * 14)[:39])}
    rows, drops = toy.built(TASK, documents, context(pool, 3, max_seq_len=80))
    assert (rows, +drops) == ([], {"single_span": 1, "too_long": 1})


def test_texts_of_under_four_letters_are_counted() -> None:
    pool = toy.ListPool([PoolSpan("f" * 16, "toy", "", (toy.sentence("寒来暑往。"),))])
    page = toy.document("toy", "", ["好？！！！！", "天地玄黄。", "宇宙洪荒。"])
    rows, drops = toy.built(TASK, [page], context(pool))
    assert (len(rows), +drops) == (1, {"short_text": 1})


def test_other_kinds_of_documents_are_counted() -> None:
    text = toy.document("toy", "", ["天地。", "玄黄。"])
    dialogue = toy.Document(text.doc_id, "toy", "", "", text.paragraphs, "dialogue", ("", ""))
    assert toy.built(TASK, [dialogue], context(toy.ListPool([]))) == ([], {"not_text": 1})


def test_rows_depend_on_the_seed_and_on_nothing_else(test_data: Path) -> None:
    documents = [toy.document("news", p["title"], p["paragraphs"]) for p in toy.news_pages(test_data, 30)]
    pool = toy.ListPool(toy.spans_of(documents))
    first, again, other = (toy.built(TASK, documents, context(pool, seed=seed))[0] for seed in (7, 7, 8))
    assert first == again
    assert first != other
    alone = [row for d in documents for row in toy.built(TASK, [d], context(pool))[0]]
    assert alone == first
