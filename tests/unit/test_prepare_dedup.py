from __future__ import annotations

from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from corpus_prep.dedup import Contamination, benchmark_texts, cross_split_duplicates
from corpus_prep.dedup import contamination_table as table_of
from corpus_prep.token_stream import token_stream
from ernie_core.normalise import normalise

BENCHMARK = "一二三四五六七八九十百千万亿兆"


def contamination_table(texts: dict[str, list[str]]) -> Contamination:
    return table_of(texts, normalise)


def owners(table: Contamination, texts: list[str]) -> list[str | None]:
    return table.owners_of(token_stream([[t] for t in texts]))


def test_thirteen_shared_tokens_are_found_and_twelve_are_not() -> None:
    table = contamination_table({"b": [BENCHMARK]})
    assert owners(table, ["前" + BENCHMARK[1:14] + "后", "前" + BENCHMARK[1:13] + "后", "无关"]) == ["b", None, None]


def test_a_short_benchmark_text_is_found_as_a_whole_only() -> None:
    table = contamination_table({"b": ["很好"]})
    assert owners(table, ["很好", "很好！", "好", ""]) == ["b", None, None, None]


def test_a_run_does_not_go_over_the_border_of_two_documents() -> None:
    table = contamination_table({"b": [BENCHMARK]})
    assert owners(table, [BENCHMARK[:7], BENCHMARK[7:]]) == [None, None]


@given(st.lists(st.text(st.sampled_from("甲乙"), max_size=30), max_size=8), st.lists(st.text(st.sampled_from("甲乙"), max_size=30), max_size=4))
def test_owners_equal_those_of_a_plain_search(texts: list[str], benchmark: list[str]) -> None:
    def shares(text: str) -> bool:
        if len(text) < 13:
            return bool(text) and text in benchmark
        return any(text[i : i + 13] in b for b in benchmark for i in range(len(text) - 12))

    assert owners(contamination_table({"b": benchmark}), texts) == ["b" if shares(t) else None for t in texts]


def test_the_table_survives_its_file() -> None:
    table = contamination_table({"b": [BENCHMARK], "a": ["很好"]})
    back = Contamination.from_bytes(table.to_bytes(), table.names)
    assert back.names == ("a", "b")
    assert np.array_equal(back.hashes, table.hashes)
    assert owners(back, [BENCHMARK, "很好"]) == ["b", "a"]


def test_short_paragraphs_count_by_themselves_only_where_asked() -> None:
    table = contamination_table({"b": ["天气怎么样"]})
    documents = [["天气怎么样", "很好。"], ["很好。", "天气怎么样"], ["今天", "天气怎么样呢"], [], ["", "天气怎么样"]]
    assert table.owners_of(token_stream(documents)) == [None, None, None, None, "b"]
    assert table.owners_of(token_stream(documents), {0, 1, 2, 3}) == ["b", "b", None, None, "b"]
    assert table.owners_of(token_stream(documents), {1}) == [None, "b", None, None, "b"]


def test_a_run_goes_over_the_paragraphs_of_one_document() -> None:
    table = contamination_table({"b": [BENCHMARK]})
    assert table.owners_of(token_stream([[BENCHMARK[:7], BENCHMARK[7:]]])) == ["b"]


def test_of_several_benchmarks_the_first_is_named() -> None:
    table = contamination_table({"b": [BENCHMARK], "a": [BENCHMARK[1:]]})
    assert owners(table, [BENCHMARK, BENCHMARK[2:]]) == ["a", "a"]


def test_no_benchmark_leaves_everything() -> None:
    assert owners(contamination_table({}), ["文"]) == [None]


def test_texts_of_rows_pairs_and_tagged_characters_are_read(tmp_path: Path) -> None:
    rows = [
        '{"id": "0", "texts": ["甲甲", "乙"]}',
        '{"id": "1", "texts": ["丙\u2028丁"]}',
        '{"id": "2", "texts": ["戊", "己"]}',
        '{"id": "3", "texts": ["a", "bc", "d"]}',
    ]
    (tmp_path / "a.jsonl").write_text("\n".join(rows) + "\n")
    assert benchmark_texts(tmp_path / "a.jsonl") == ["甲甲", "乙", "丙\u2028丁", "戊己", "abcd"]


def duplicates(doc_ids: dict[int, list[str]], at_once: int = 100) -> dict[int, list[int]]:
    ids = {number: np.array([int(doc_id, 16) for doc_id in found], np.uint64) for number, found in doc_ids.items()}
    return {number: found.tolist() for number, found in cross_split_duplicates(ids, at_once).items()}


def test_the_first_of_equal_documents_stays() -> None:
    assert duplicates({1: ["b", "c", "a"], 0: ["a", "b"], 2: ["c", "d"]}) == {0: [], 1: [0, 2], 2: [0]}


@given(st.dictionaries(st.integers(0, 9), st.lists(st.sampled_from("0123456789abcdef"), unique=True)), st.integers(1, 20))
def test_exactly_the_first_of_each_text_stays_however_many_are_sorted_at_once(doc_ids: dict[int, list[str]], at_once: int) -> None:
    dropped = duplicates(doc_ids, at_once)
    kept = [(number, i) for number in sorted(doc_ids) for i in range(len(doc_ids[number])) if i not in dropped[number]]
    texts = [doc_ids[number][i] for number, i in kept]
    assert sorted(texts) == sorted({t for found in doc_ids.values() for t in found})
    for (number, _), text in zip(kept, texts, strict=True):
        assert number == min(n for n, found in doc_ids.items() if text in found)
