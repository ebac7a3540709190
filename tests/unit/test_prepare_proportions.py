from __future__ import annotations

from itertools import accumulate
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from prepare_helper import run_prepare, write_corpus

from corpus_prep.offers import DOCUMENT
from corpus_prep.proportions import beyond_weight, kept_shares
from ernie_core.seeding import combine, key

CORPORA = st.dictionaries(st.sampled_from("abcd"), st.integers(1, 10**6), min_size=1)


@given(CORPORA, st.dictionaries(st.sampled_from("abcd"), st.floats(0.01, 1.0)))
def test_no_corpus_is_more_than_its_weight_and_none_is_cut_without_need(chars: dict[str, int], weights: dict[str, float]) -> None:
    weights = {name: weight for name, weight in weights.items() if name in chars}
    assume(len(weights) < len(chars) or sum(weights.values()) >= 1)
    shares = kept_shares(chars, weights)
    kept = {name: chars[name] * share for name, share in shares.items()}
    total = sum(kept.values())
    for name, share in shares.items():
        assert 0 < share <= 1
        assert kept[name] <= weights.get(name, 1.0) * total * (1 + 1e-6)
        if share < 1:
            assert kept[name] == pytest.approx(weights[name] * total, rel=1e-6)


def test_shares_by_hand() -> None:
    assert kept_shares({"news": 70, "novels": 100}, {"novels": 0.3}) == {"news": 1.0, "novels": pytest.approx(0.3)}
    assert kept_shares({"news": 70, "novels": 20}, {"novels": 0.3}) == {"news": 1.0, "novels": 1.0}
    assert kept_shares({"a": 100, "b": 300}, {"a": 0.5, "b": 0.5}) == {"a": 1.0, "b": pytest.approx(1 / 3)}
    assert kept_shares({"a": 50, "b": 900, "c": 900}, {"b": 0.5, "c": 0.25}) == {"a": 1.0, "b": pytest.approx(1 / 9), "c": pytest.approx(1 / 18)}


@given(st.lists(st.tuples(st.integers(0, 2**63), st.integers(1, 50)), max_size=60, unique_by=lambda d: d[0]), st.integers(1, 5))
def test_which_documents_stay_does_not_depend_on_splits(documents: list[tuple[int, int]], size: int) -> None:
    def stay(chunks: list[list[tuple[int, int]]]) -> set[int]:
        tables = {i: np.array(chunk, DOCUMENT) for i, chunk in enumerate(chunks)} | {len(chunks): np.array([(1 << 63, 100)], DOCUMENT)}
        sources = dict.fromkeys(range(len(chunks)), "b") | {len(chunks): "a"}
        out, _ = beyond_weight(tables, sources, {i: np.zeros(0, np.int32) for i in tables}, {"b": 0.5})
        return {n for i, chunk in enumerate(chunks) for j, (n, _) in enumerate(chunk) if j not in out[i]}

    whole = stay([documents])
    assert stay([documents[i : i + size] for i in range(0, len(documents), size)]) == whole
    kept = sum(size for n, size in documents if n in whole)
    order = sorted(documents, key=lambda document: int(combine(key("weight"), np.array([document[0]], np.uint64))[0]))
    fitting = [n for (n, _), total in zip(order, accumulate(size for _, size in order), strict=True) if total <= 100]
    assert kept <= 100
    assert whole == set(fitting)


def test_documents_that_are_out_already_neither_count_nor_are_named_again() -> None:
    tables = {0: np.array([(i, 10) for i in range(20)], DOCUMENT), 1: np.array([(99, 50)], DOCUMENT)}
    out = {0: np.arange(10, dtype=np.int32), 1: np.zeros(0, np.int32)}
    beyond, shares = beyond_weight(tables, {0: "b", 1: "a"}, out, {"b": 0.5})
    assert shares == {"a": 1.0, "b": pytest.approx(0.5)}
    assert len(beyond[0]) == 5
    assert beyond[0].min() >= 10
    assert len(beyond[1]) == 0


def test_documents_beyond_a_corpus_s_weight_are_left_out_counted_and_lend_no_negative(tmp_path: Path) -> None:
    write_corpus(tmp_path / "in")
    facts = run_prepare(tmp_path / "in", tmp_path / "out", weights={"two": 0.25}).facts["documents"]
    assert facts["by_source"]["two"]["beyond_weight"] > 5
    assert facts["by_source"]["one"]["beyond_weight"] == 0
    assert 0.15 < facts["text_shares"]["two"] <= 0.25
    assert sum(facts["text_shares"].values()) == pytest.approx(1)
    dropped = np.load(tmp_path / "out" / "tables" / "duplicates.npy")
    assert len(dropped) == facts["beyond_weight"] + facts["duplicates"]
