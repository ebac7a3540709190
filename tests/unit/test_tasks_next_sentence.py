"""Next sentence: an independent labeller finds the labels again, and no half tells them."""

from __future__ import annotations

from pathlib import Path

import tasks_helper as toy
from hypothesis import given, settings

from ernie_core.schemas import Document
from ernie_core.tasks.base import PoolSpan, all_tasks
from ernie_core.tasks.next_sentence import groups, near_duplicates

TASK = all_tasks()["next_sentence"]


def test_labels_are_found_again_in_ten_thousand_raw_rows(test_data: Path) -> None:
    """The labeller knows a row's raw page only: 1 = both halves stand together in it, 0 = the first half alone."""
    pages = toy.news_pages(test_data, 800)
    documents = [toy.document("news", p["title"], p["paragraphs"]) for p in pages]
    context = toy.context(toy.ListPool(toy.spans_of(documents)))
    expected, found, without_negative = [], [], 0
    for page, document in zip(pages, documents, strict=True):
        raw = toy.lower("".join("".join(page["paragraphs"]).split()))
        rows, drops = toy.built(TASK, [document], context)
        for row in rows:
            first, second = (toy.text_of(ids) for ids in toy.segments_of(row, row.token_ids))
            assert first in raw
            expected.append(int(first + second in raw))
            found.append(row.label)
        without_negative += drops["no_negative"]
    assert len(found) >= 10_000
    assert expected == found
    assert abs(sum(found) / len(found) - 0.5) < 0.02
    assert without_negative < 0.02 * len(found)


@settings(max_examples=30)
@given(toy.documents())
def test_groups_are_the_document_in_order_inside_paragraphs(document: Document) -> None:
    for paragraph in document.paragraphs:
        parts = groups(Document("", "", "", "", (paragraph,)))
        assert [s for part in parts for s in part] == list(paragraph)
        assert all(len(part) == 1 or sum(len(s.original) for s in part) <= 60 for part in parts)
    assert groups(document) == [g for p in document.paragraphs for g in groups(Document("", "", "", "", (p,)))]


def test_a_negative_is_of_the_same_source_and_length_and_of_another_document() -> None:
    documents = [toy.document(source, str(i), [f"{c}{d}{e}" * 19 + "。" for e in "甲乙丙丁"]) for source in ("one", "two")
                 for i, (c, d) in enumerate(zip("天地玄黄", "日月星辰", strict=True))]  # fmt: skip
    rows, _ = toy.built(TASK, documents, toy.context(toy.ListPool(toy.spans_of(documents))))
    halves = [[toy.text_of(ids) for ids in toy.segments_of(r, r.token_ids)] for r in rows]
    assert len(rows) == 24
    assert {r.label for r in rows} == {0, 1}
    assert all((a[:2] == b[:2]) == bool(r.label) for (a, b), r in zip(halves, rows, strict=True))


def test_a_pair_is_dropped_whatever_the_coin_says_when_no_negative_will_do() -> None:
    page = toy.document("toy", "", ["天" * 29 + "。", "地玄黄宇宙洪荒日月盈昃辰宿列张。"])
    for other, reason in (("地玄黄宇宙洪荒日月盈昃辰宿列呀。", "near_duplicate"), ("寒" * 90 + "。", "no_negative")):
        pool = toy.ListPool([PoolSpan("f" * 16, "toy", (toy.sentence(other),))])
        for seed in range(8):
            rows, drops = toy.built(TASK, [page], toy.context(pool, seed=seed))
            assert rows == []
            assert +drops == {reason: 1}


def test_a_pair_too_long_for_a_row_and_a_single_group_are_counted() -> None:
    documents = [toy.document("toy", "", ["天地。" * 20, "玄黄。" * 19]), toy.document("toy", "", ["一句。"])]
    pool = toy.ListPool([PoolSpan("f" * 16, "toy", (toy.sentence("寒来暑往" * 14 + "。"),))])
    rows, drops = toy.built(TASK, documents, toy.context(pool, max_seq_len=80))
    assert (len(rows), +drops) == (0, {"too_long": 1, "single_group": 1})


def test_near_duplicates_share_half_of_their_character_pairs() -> None:
    assert near_duplicates("本报讯昨日大雨", "本报讯昨日大雨。")
    assert near_duplicates("好", "好")
    assert not near_duplicates("好", "坏")
    assert not near_duplicates("天下雨了。", "地很湿。")


def test_rows_depend_on_the_seed_and_on_nothing_else(test_data: Path) -> None:
    documents = [toy.document("news", p["title"], p["paragraphs"]) for p in toy.news_pages(test_data, 30)]
    pool = toy.ListPool(toy.spans_of(documents))
    first, again, other = (toy.built(TASK, documents, toy.context(pool, seed=seed))[0] for seed in (7, 7, 8))
    assert first == again
    assert first != other
    alone = [row for d in documents for row in toy.built(TASK, [d], toy.context(pool))[0]]
    assert alone == first
