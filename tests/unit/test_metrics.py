"""Metrics and the paired bootstrap: parity with seqeval on any tags (test_metric_parity has the rest), and intervals that cover what they claim."""

from __future__ import annotations

import itertools
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from seqeval.metrics import f1_score as seqeval_f1
from seqeval.metrics.sequence_labeling import get_entities

from ernie_core.benchmarks.metrics.bootstrap import Difference, paired_difference
from ernie_core.benchmarks.metrics.chunks import CHUNK_F1, chunk_counts, find_chunks
from ernie_core.benchmarks.metrics.classification import ACCURACY
from ernie_core.seeding import generator

TAGS = ("B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC", "O")
sentence = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=12)


def _flat(sentences: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
    offsets = np.cumsum([0, *(len(s) for s in sentences)]).astype(np.int64)
    return np.array([t for s in sentences for t in s], dtype=np.int64), offsets


@given(st.lists(sentence, min_size=1, max_size=8))
@settings(max_examples=150)
def test_chunk_f1_equals_seqeval_on_any_tags(pairs: list[list[tuple[int, int]]]) -> None:
    gold, offsets = _flat([[g for g, _ in s] for s in pairs])
    found, _ = _flat([[p for _, p in s] for s in pairs])
    counts = chunk_counts(gold, found, offsets, TAGS)
    names = [[[TAGS[t] for t in x[a:b]] for a, b in itertools.pairwise(offsets)] for x in (gold, found)]
    assert counts[:, 1].tolist() == [len(get_entities(s)) for s in names[0]]
    assert counts[:, 0].tolist() == [len(get_entities(s)) for s in names[1]]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # seqeval warns where it sets an undefined figure to 0
        expected = seqeval_f1(names[0], names[1])
    assert CHUNK_F1.of(counts) == (pytest.approx(expected) if counts[:, 1].sum() else None)


def test_a_chunk_never_crosses_a_sentence_end_even_beside_empty_sentences() -> None:
    tags, offsets = _flat([[0, 1], [], [1, 1], []])
    assert find_chunks(tags, offsets, TAGS).tolist() == [[0, 2, 2], [2, 4, 2]]
    assert chunk_counts(tags, tags, offsets, TAGS).tolist() == [[1, 1, 1], [0, 0, 0], [1, 1, 1], [0, 0, 0]]


def test_no_sentences_and_no_tags_have_no_chunks() -> None:
    assert chunk_counts(np.array([], np.int64), np.array([], np.int64), np.array([0]), TAGS).shape == (0, 3)


def test_an_undefined_figure_is_none_and_not_zero() -> None:
    all_outside = np.full(4, TAGS.index("O"))
    assert CHUNK_F1.of(chunk_counts(all_outside, all_outside, np.array([0, 4]), TAGS)) is None
    assert ACCURACY.of(np.zeros((0, 5), np.int64)) is None
    assert CHUNK_F1.of(chunk_counts(np.array([0, 6]), np.array([6, 6]), np.array([0, 2]), TAGS)) == 0.0


def _arm(share: float, seeds: int, rows: int, *names: int | str) -> np.ndarray:
    correct = (generator(*names).random((seeds, rows)) < share).astype(np.int64)
    return np.stack([correct, np.ones_like(correct)], axis=-1)


def test_equal_arms_differ_by_exactly_nothing() -> None:
    arm = _arm(0.7, 3, 200, "a")
    assert paired_difference(arm, arm, ACCURACY, seed=1) == Difference(0.0, 0.0, 0.0, 2000)


def test_the_difference_is_that_of_the_two_medians_and_lies_in_its_interval() -> None:
    a, b = _arm(0.8, 3, 2000, "a"), _arm(0.7, 3, 2000, "b")
    found = paired_difference(a, b, ACCURACY, seed=1)
    expected = np.median(a[..., 0].mean(axis=1)) - np.median(b[..., 0].mean(axis=1))
    assert found.median == pytest.approx(expected)
    assert found.low is not None
    assert found.high is not None
    assert 0.05 < found.low < expected < found.high < 0.15
    assert found == paired_difference(a, b, ACCURACY, seed=1)
    assert found != paired_difference(a, b, ACCURACY, seed=2)


def test_pairing_makes_the_interval_of_correlated_arms_narrow() -> None:
    a = _arm(0.7, 3, 1000, "a")
    better = a.copy()
    better[:, :20, 0] = 1
    paired = paired_difference(better, a, ACCURACY, seed=1)
    apart = paired_difference(better, _arm(0.7, 3, 1000, "b"), ACCURACY, seed=1)
    assert (paired.high or 0) - (paired.low or 0) < 0.5 * ((apart.high or 0) - (apart.low or 0))


def test_two_arms_of_one_quality_are_called_different_about_one_time_in_twenty() -> None:
    calls = 0
    for i in range(100):
        d = paired_difference(_arm(0.7, 5, 300, "a", i), _arm(0.7, 5, 300, "b", i), ACCURACY, seed=i, draws=200)
        calls += not (d.low or 0) <= 0 <= (d.high or 0)
    assert calls <= 12


def test_a_metric_without_gold_gives_an_undefined_difference() -> None:
    nothing = np.zeros((2, 10, 3), np.int64)
    assert paired_difference(nothing, nothing, CHUNK_F1, seed=1) == Difference(None, None, None, 0)
