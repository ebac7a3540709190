"""The reduction: bounded counting, the same tables whatever the splits' order and cut, and one file of one split in memory at a time."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpus_prep.bounded import BoundedCounts
from corpus_prep.offers import DOCUMENT, document_table, offer_negatives, offered_counts
from corpus_prep.reduction import SmallestSpans, reduce_tables
from corpus_prep.tables import SPANS_PER_BIN, subset_of, unpack_candidates
from ernie_core.schemas import Document, Sentence

COUNTS = st.lists(st.dictionaries(st.sampled_from("abcdefgh"), st.integers(1, 5)), max_size=8)


@given(COUNTS, st.integers(1, 4))
def test_bounded_counts_are_at_most_as_much_too_small_as_they_say(added: list[dict[str, int]], limit: int) -> None:
    bounded, exact = BoundedCounts(limit), Counter[str]()
    for counts in added:
        bounded.add(counts)
        exact.update(counts)
        assert len(bounded.counts) <= 2 * limit
        for string, n in exact.items():
            assert n - bounded.lost <= bounded.counts[string] <= n


@given(COUNTS)
def test_bounded_counts_are_exact_as_long_as_all_fit(added: list[dict[str, int]]) -> None:
    bounded = BoundedCounts(4)
    for counts in added:
        bounded.add(counts)
    assert (bounded.lost, bounded.counts) == (0, sum(map(Counter, added), Counter[str]()))


def part(num_documents: int, **changes: Any) -> dict[str, Any]:
    counts = {"tokens": {"好": 3}, "lines": {}, "paragraphs": {}} | changes
    return {"ids": np.array([(i, 1) for i in range(num_documents)], DOCUMENT), "counts": counts, "negatives": {"train": [], "valid": []}}


def test_frequent_lines_are_those_in_more_than_half_a_percent_of_documents() -> None:
    parts = [part(600, lines={"多": 4, "少": 3}), part(0, lines={"多": 2, "少": 2})]
    parts[1]["ids"] = np.array([(i, 1) for i in range(500, 1000)], DOCUMENT)  # 100 of them stand in the first
    assert reduce_tables(lambda number, place: parts[number][place], {0: "c", 1: "c"}, None, 100).lines == ("多",)


def spans_of(ranks: list[int], index: int = 0) -> list[list[Any]]:
    return [[rank, index, n, "work", json.dumps([[f"{n}\x7f{rank}", [], None]])] for n in (1, 2) for rank in ranks]


@settings(max_examples=8)
@given(st.permutations([list(range(i, 2000, 5)) for i in range(5)]))
def test_the_pool_keeps_so_many_spans_of_every_length_whatever_their_order(parts: list[list[int]]) -> None:
    pool = SmallestSpans()
    for ranks in parts:
        pool.add("c", spans_of(ranks), np.array([255], np.uint64), (), ())
    found = [[rank, "00000000000000ff", "c", "work", n, [[f"{n}\x7f{rank}", [], None]]] for n in (1, 2) for rank in range(SPANS_PER_BIN)]
    assert pool.spans() == found


def test_documents_left_out_and_boilerplate_lend_no_span() -> None:
    pool = SmallestSpans()
    ids = np.array([7, 8], np.uint64)
    pool.add("c", spans_of([1, 2], 0) + spans_of([3], 1), ids, {1}, {"12", "22"})
    assert [(span[0], span[1], span[4]) for span in pool.spans()] == [(1, f"{7:016x}", 1), (1, f"{7:016x}", 2)]


def made(number: int, texts: list[str]) -> Document:
    return Document(f"{number:016x}", "c", "w", "", tuple((Sentence(tuple(text), (), text),) for text in texts))


DOCUMENTS = [made(i * 7919, [f"甲乙{chr(0x4E00 + i % 40)}丙丁", "众所周知" if i % 3 else "人所共知"]) for i in range(60)]


@pytest.mark.parametrize("size", [60, 13, 1])
@pytest.mark.parametrize("weights", [{}, {"c": 0.5}])
def test_negatives_and_documents_that_stay_do_not_depend_on_how_the_corpus_is_cut(size: int, weights: dict[str, float]) -> None:
    def tables(size: int) -> Any:
        parts = []
        for start in range(0, 60, size):
            documents = [d.to_json() for d in DOCUMENTS[start : start + size]]
            parts.append({"ids": document_table(documents), "counts": offered_counts(documents, Counter({"甲": len(documents)}), boilerplate=False), "negatives": offer_negatives(documents, 16, 3, 0.2)})  # fmt: skip
        parts.append({**part(1), "ids": np.array([(1, 100)], DOCUMENT)})
        sources = dict.fromkeys(range(len(parts) - 1), "c") | {len(parts) - 1: "d"}
        return reduce_tables(lambda number, place: parts[number][place], sources, None, 100, weights=weights)

    whole, cut = tables(60), tables(size)
    assert cut.negatives == whole.negatives
    assert cut.chars == whole.chars
    assert whole.chars["c"] <= (100 if weights else 10_000)
    assert {subset_of(doc_id, 0.2, 3) for _, doc_id, *_ in whole.negatives["valid"]} == {"valid"}
    left_out = {f"{int(DOCUMENTS[size * n + i].doc_id, 16):016x}" for n, out in cut.duplicates.items() if n < 60 // size for i in out}
    assert not left_out & {doc_id for spans in cut.negatives.values() for _, doc_id, *_ in spans}


def test_one_file_of_one_split_is_asked_for_at_a_time_and_each_once() -> None:
    asked: list[tuple[str, int]] = []

    def load(number: int, place: str) -> Any:
        asked.append((place, number))
        return part(3)[place]

    tables = reduce_tables(load, {2: "c", 0: "c", 1: "d"}, None, 100)
    assert unpack_candidates(tables.files()["candidates.json"]) == {}
    assert asked == [(place, number) for place in ("ids", "counts", "negatives") for number in (0, 1, 2)]


def test_candidates_of_documents_that_stay_are_summed_by_source_class_and_bin() -> None:
    parts = [part(3), part(2), part(1)]
    parts[1]["ids"]["id"] = [9, 1]  # the second is the first split's
    parts[2]["ids"]["id"] = [7]
    for i, rows in enumerate([[[0, 1, "x", 5], [2, 0, "y", 2]], [[0, 1, "x", 7], [1, 1, "x", 100]], [[0, 1, "x", 1]]]):
        parts[i]["candidates"] = {"discourse_relation": rows}
    tables = reduce_tables(lambda n, place: parts[n][place], {0: "c", 1: "c", 2: "d"}, None, 100, sampling=["discourse_relation"])
    found = unpack_candidates(tables.files()["candidates.json"])
    assert found == {"discourse_relation": {("c", 1, "x"): 12, ("c", 0, "y"): 2, ("d", 1, "x"): 1}}
