"""Token-document relation: an independent labeller finds every token's label again from raw text."""

from __future__ import annotations

import re
from pathlib import Path

import jieba
import pytest
import tasks_helper as toy
from hypothesis import given, settings

from ernie_core.schemas import Document
from ernie_core.tasks.base import all_tasks
from ernie_core.tasks.token_document import is_scored, windows

TASK = all_tasks()["token_document"]
NUMBER_FIRST = re.compile("[约近超逾第]?[0-9一二三四五六七八九十百千万亿两几数多余零〇]")
NUMERAL = re.compile(r"[0-9０-９〇零一二三四五六七八九十百千万亿兆两几数余多第点壹贰叁肆伍陆柒捌玖拾.,%‰/:：·\-]+")


def labels(rows: list[toy.Sample]) -> list[list[int]]:
    return [r.token_labels["token_document"] for r in rows]


def brute_force(page: dict[str, list[str]]) -> list[list[int]] | None:
    """Label a raw page sentence by sentence; None where a sentence is too long for a row."""
    sentences = [s for p in page["paragraphs"] for s in re.findall(r".+?(?:[。！？!?…]+[”’」』）\"']*|$)", p)]
    segments: list[list[str]] = [[]]
    for s in sentences:
        length = len("".join(s.split()))
        if length > 126:
            return None
        if sum(len("".join(x.split())) for x in segments[-1]) + length > 126:
            segments.append([])
        segments[-1].append(s)
    words = [[w for s in segment for w in jieba.cut(toy.lower(s)) if not w.isspace()] for segment in segments]
    count = -(-len(words) // 8)
    found: list[list[int]] = []
    for i, segment in enumerate(words if len(words) >= 3 else []):
        window = next(w for w in ([*range(len(words) * k // count, len(words) * (k + 1) // count)] for k in range(count)) if i in w)
        others = {w for j in window if j != i for w in words[j]}
        row: list[int] = []
        for w in segment:
            cjk = len(re.findall(r"[\u3400-\u9fff]", w))
            scored = (len(w) >= 2 and cjk > 0 and not NUMERAL.fullmatch(w)) or re.fullmatch(r"[a-z]{5,}", w)
            unsure = (not scored and re.search(r"[a-z]", w)) or (scored and NUMBER_FIRST.match(w))  # 十个月 is none, 一起 is one: a list says
            row += [-2 if unsure else int(w in others) if scored else -1] * len("".join(w.split()))
        found.append(row)
    return found


def test_labels_of_ten_thousand_tokens_are_found_again_from_raw_text(test_data: Path) -> None:
    scored = 0
    for page in toy.news_pages(test_data, 150):
        expected = brute_force(page)
        if expected is None:
            continue
        rows, drops = toy.built(TASK, [toy.document("news", page["title"], page["paragraphs"], toy.by_jieba)], toy.context())
        if drops["nothing_scored"]:
            continue
        assert len(rows) == len(expected)
        for row, want in zip(labels(rows), expected, strict=True):
            assert (row[0], row[-1]) == (-1, -1)
            assert [a for a, b in zip(row[1:-1], want, strict=True) if b != -2] == [b for b in want if b != -2]
            scored += sum(v >= 0 for v in row)
    assert scored >= 10_000


@pytest.mark.parametrize(("carrier", "enough"), [("sentence_reordering", 3_000), ("discourse_relation", 3_000)])
def test_rows_of_other_tasks_carry_labels_that_are_found_again_from_raw_text(carrier: str, enough: int, test_data: Path) -> None:
    scored = 0
    for page in toy.news_pages(test_data, 150):
        expected = brute_force(page)
        if expected is None:
            continue
        document = toy.document("news", page["title"], page["paragraphs"], toy.by_jieba)
        want = [label for segment in expected for label in segment] or [-1] * sum(len("".join(p.split())) for p in page["paragraphs"])
        text = toy.lower("".join("".join(p.split()) for p in page["paragraphs"]))
        assert len(text) == len(want)
        for row in toy.carrying(all_tasks()[carrier], [document], TASK, toy.context()):
            column = row.token_labels["token_document"]
            for ids, found in zip(toy.segments_of(row, row.token_ids), toy.segments_of(row, column), strict=True):
                part = toy.text_of(ids)
                if text.count(part) != 1:
                    continue  # where it stands is not sure, or a marker was taken out of its middle
                at = text.index(part)
                if carrier == "discourse_relation":  # what lost its first words has no label on the first one left
                    while found and found[0] == -1:
                        found, at = found[1:], at + 1
                assert [a for a, b in zip(found, want[at:], strict=False) if b != -2] == [b for b in want[at : at + len(found)] if b != -2]
                scored += sum(v >= 0 for v in found)
    assert scored >= enough


@settings(max_examples=30)
@given(toy.documents())
def test_a_label_is_one_value_per_word_and_rows_are_segments_of_the_document(document: Document) -> None:
    rows, _ = toy.built(TASK, [document], toy.context(max_seq_len=40))
    text = "".join(s.text for p in document.paragraphs for s in p)
    for row in rows:
        assert toy.text_of(next(toy.segments_of(row, row.token_ids))) in text
        column = row.token_labels["token_document"]
        assert len(column) == len(row.token_ids)
        assert all(column[i] == column[i - 1] for i, seg in enumerate(row.seg_labels) if seg == 1)
        assert row.label == -1


@pytest.mark.parametrize("num_segments", range(40))
def test_windows_of_three_to_eight_segments_cover_the_document(num_segments: int) -> None:
    found = windows(num_segments)
    assert [i for w in found for i in w] == (list(range(num_segments)) if num_segments >= 3 else [])
    assert all(3 <= len(w) <= 8 for w in found)


@pytest.mark.parametrize("word", ["北京", "一些", "十分", "一起", "百姓", "三亚", "五星级", "iphone6", "york", "t恤"])
def test_words_that_are_scored(word: str) -> None:
    # t恤 has two letters, one of them CJK
    assert is_scored(word)


@pytest.mark.parametrize(
    "word",
    [
        "的",
        "，",
        "……",
        "2018",
        "三千",
        "第一",
        "3.5%",
        "十个月",
        "20万元",
        "几万人",
        "二十一世纪",
        "第三届",
        "两次",
        "7岁",
        "the",
        "two",
        "million",
        "third",
        "unless",
        "ab",
        "其1",
        "——",
        " ",
    ],
)
def test_words_that_are_not_scored(word: str) -> None:
    assert not is_scored(word)


def test_a_frequent_line_is_not_scored_though_its_words_count_as_occurrences() -> None:
    line = "责任编辑北京。"
    paragraphs = [line + "今天北京晴朗呀。", "上海下雨下雨下雨下雨。", "广州刮风刮风刮风刮风。", "北京还是晴朗还是晴朗。"]
    document = toy.document("toy", "", paragraphs, toy.by_jieba)
    rows, _ = toy.built(TASK, [document], toy.context(max_seq_len=20, frequent_lines=frozenset([line])))
    assert labels(rows)[0][1 : 1 + len(line)] == [-1] * len(line)
    assert labels(rows)[0][10:12] == [1, 1]
    assert labels(rows)[3][1:3] == [1, 1]


def test_short_documents_and_segments_without_a_scored_word_are_counted() -> None:
    numbers = "一二三四五六七八九十。"
    documents = [toy.document("toy", "", ["太短了。"]), toy.document("toy", "", ["北京下雨下雨下雨。", numbers, "上海下雨下雨下雨。"], toy.by_jieba)]
    rows, drops = toy.built(TASK, documents, toy.context(max_seq_len=16))
    assert +drops == {"short_document": 1, "nothing_scored": 1}
    assert len(rows) == 2
