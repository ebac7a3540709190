"""Metrics against scikit-learn, scipy, seqeval and brute force: at least 10,000 random cases each, counts exact, figures within 1e-12."""

from __future__ import annotations

import functools
import gzip
import itertools
import json
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import sklearn
from scipy import stats
from seqeval.metrics import f1_score as seqeval_f1
from seqeval.metrics.sequence_labeling import get_entities
from sklearn.metrics import accuracy_score, average_precision_score, f1_score, matthews_corrcoef, multilabel_confusion_matrix

from ernie_core.benchmarks.metrics import reading
from ernie_core.benchmarks.metrics.bootstrap import Difference, paired_difference
from ernie_core.benchmarks.metrics.chunks import CHUNK_F1, chunk_counts
from ernie_core.benchmarks.metrics.classification import ACCURACY, ACCURACY_F1, F1, MCC, classification_counts
from ernie_core.benchmarks.metrics.correlation import PEARSON, PEARSON_SPEARMAN, SPEARMAN, correlation_counts
from ernie_core.benchmarks.metrics.ranking import MAP, MRR, RANKING_F1, ranking_counts
from ernie_core.benchmarks.metrics.reading import EM, EM_F1, chinese_scores, reading_counts, squad_scores
from ernie_core.seeding import generator

TIGHT = 1e-12
TAGS = ("B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC", "O")


def near(found: object, expected: object) -> bool:
    """Whether both are the same figures, undefined ones (None, nan) at the same places."""
    one, other = np.asarray(found, np.float64), np.asarray(expected, np.float64)
    return one.shape == other.shape and np.allclose(one, other, rtol=0, atol=TIGHT, equal_nan=True)


@pytest.fixture(autouse=True)
def quick_sklearn() -> Iterator[None]:
    with sklearn.config_context(assume_finite=True, skip_parameter_validation=True):
        yield


@functools.cache
def sklearn_says(tn: int, fp: int, fn: int, tp: int) -> tuple[float, float, float]:
    """Return scikit-learn's accuracy, F1 and Matthews' correlation of a two-class table."""
    gold, found = np.repeat([0, 0, 1, 1], [tn, fp, fn, tp]), np.repeat([0, 1, 0, 1], [tn, fp, fn, tp])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn warns of a table with one class
        return accuracy_score(gold, found), f1_score(gold, found, zero_division=0), matthews_corrcoef(gold, found)


def test_accuracy_f1_and_mcc_equal_scikit_learn() -> None:
    rng = generator("two classes")
    for rows, cases in (*((n, 1250) for n in range(1, 9)), (5000, 50)):  # few rows have few tables: scikit-learn is asked once for each
        gold, found = (rng.random((2, rows, cases)) < rng.random((2, 1, cases))).astype(np.int64)
        sums = np.stack([classification_counts(gold[:, i], found[:, i]).sum(axis=0) for i in range(cases)])
        correct, total, predicted, positive, both = sums.T
        table = np.stack([total - predicted - positive + both, predicted - both, positive - both, both], axis=1)
        if cases > 1:
            np.testing.assert_array_equal(table, multilabel_confusion_matrix(gold, found).reshape(cases, 4))
        accuracy, f1, mcc = np.array([sklearn_says(*row) for row in table.tolist()]).T
        f1 = np.where(positive > 0, f1, np.nan)  # scikit-learn's 0 is None in our reports (reliability F65)
        assert near(ACCURACY.score(sums), accuracy)
        assert near(F1.score(sums), f1)
        assert near(ACCURACY_F1.score(sums), (accuracy + f1) / 2)
        assert near(MCC.score(sums), mcc)
        np.testing.assert_array_equal(correct, (gold == found).sum(axis=0))


def test_mcc_is_0_of_one_class_undefined_of_no_rows_and_right_past_the_range_of_int64() -> None:
    gold, ones = np.array([0, 1, 1]), np.ones(3, np.int64)
    assert MCC.of(classification_counts(gold, ones)) == 0.0
    assert MCC.of(classification_counts(ones, gold)) == 0.0
    assert MCC.of(classification_counts(gold, gold)) == 1.0
    assert MCC.of(classification_counts(gold, 1 - gold)) == -1.0
    assert MCC.of(np.zeros((0, 5), np.int64)) is None
    assert ACCURACY_F1.of(classification_counts(np.zeros(3), gold)) is None  # no row of class 1
    half = 300_000
    assert MCC.score(np.array([half, 2 * half, half, half, half // 2])) == 0.0  # the product of the four sums is 8.1e21


def test_pearson_and_spearman_equal_scipy_with_and_without_ties() -> None:
    rng = generator("correlation")
    cases = 25
    for i in range(400):
        rows = int(rng.integers(2, 30))
        gold, found = rng.normal(size=(2, rows, cases)) if i % 2 else rng.integers(0, 5, size=(2, rows, cases)).astype(np.float64)
        gold[0], found[1] = gold[1] - 1, found[0] + 1  # neither is constant
        sums = np.stack([correlation_counts(gold[:, k], found[:, k]).sum(axis=0) for k in range(cases)])
        pearson = stats.pearsonr(gold, found, axis=0).statistic
        spearman = stats.spearmanr(gold, found).statistic[np.arange(cases), cases + np.arange(cases)]  # of every column with every other
        assert near(PEARSON.score(sums), pearson)
        assert near(SPEARMAN.score(sums), spearman)
        assert near(PEARSON_SPEARMAN.score(sums), (pearson + spearman) / 2)


def test_correlation_does_not_cancel_far_from_zero_nor_overflow() -> None:
    gold, found = generator("far").normal(size=(2, 1000))
    found += gold
    expected = np.array([stats.pearsonr(gold, found).statistic, stats.spearmanr(gold, found).statistic])
    for scale, shift in ((1.0, 1e6), (1e-200, 0.0), (1e200, 0.0), (-1.0, 3.0)):
        counts = correlation_counts(gold, found * scale + shift)
        assert [PEARSON.of(counts), SPEARMAN.of(counts)] == pytest.approx(np.sign(scale) * expected, abs=1e-9)


def test_correlation_is_undefined_where_one_side_does_not_vary() -> None:
    gold = np.array([1.0, 2.0, 4.0])
    for found in (np.full(3, 5.0), np.full(3, 0.1), np.array([1.0, np.nan, 2.0])):
        assert [m.of(correlation_counts(gold, found)) for m in (PEARSON, SPEARMAN, PEARSON_SPEARMAN)] == [None] * 3
        assert PEARSON.of(correlation_counts(found, gold)) is None
    assert PEARSON.of(correlation_counts(gold, np.array([1.0, np.inf, 2.0]))) is None
    for size in (0, 1):
        assert SPEARMAN.of(correlation_counts(gold[:size], gold[:size])) is None
    rows = correlation_counts(*generator("one row").normal(size=(2, 300)))
    for times in (2, 7, 300):  # a bootstrap draw of one row, again and again: rounding is no variance
        assert np.isnan(PEARSON.score(np.stack([np.tile(row, (times, 1)).sum(axis=0) for row in rows]))).all()
    assert PEARSON.of(correlation_counts(gold[:2], gold[:2])) == 1.0
    level = np.full(1000, 0.1)
    assert level.mean() != 0.1
    assert PEARSON.of(correlation_counts(np.arange(1000.0), level)) is None


def test_a_draw_of_rows_has_scipys_pearson_of_that_draw_and_ranks_of_the_whole_sample() -> None:
    rng = generator("draw")
    gold, found = rng.integers(0, 20, size=(2, 200)).astype(np.float64)
    counts = correlation_counts(gold, found)
    for _ in range(200):
        rows = rng.integers(0, 200, size=200)
        assert near(PEARSON.of(counts[rows]), stats.pearsonr(gold[rows], found[rows]).statistic)
        assert near(SPEARMAN.of(counts[rows]), stats.pearsonr(stats.rankdata(gold)[rows], stats.rankdata(found)[rows]).statistic)


def test_the_paired_bootstrap_reads_counts_that_are_no_whole_numbers() -> None:
    rng = generator("floats")
    gold = rng.normal(size=400)
    good, bad = (np.stack([correlation_counts(gold, gold + rng.normal(scale=noise, size=400)) for _ in range(3)]) for noise in (0.5, 1.0))
    assert paired_difference(good, good, PEARSON_SPEARMAN, seed=1, draws=200) == Difference(0.0, 0.0, 0.0, 200)
    found = paired_difference(good, bad, PEARSON_SPEARMAN, seed=1, draws=200)
    assert found.low is not None
    assert found.median is not None
    assert 0.05 < found.low < found.median < 0.4


def test_average_precision_equals_scikit_learn_without_ties_and_brute_force_with_them() -> None:
    rng = generator("ranking")
    size, cases = 7, 10_000
    gold = rng.integers(0, 2, size=(size, cases))
    plain, tied = rng.permuted(np.tile(np.arange(size) - 3.0, (cases, 1)), axis=1).T, rng.integers(-1, 2, size=(size, cases)).astype(float)
    names = [str(i) for i in range(cases)] * size  # the rows of a group do not stand together
    counts = ranking_counts(gold.ravel(), plain.ravel(), names)
    ranked, which = np.unique(np.take_along_axis(gold, np.argsort(-plain, axis=0), axis=0), axis=1, return_inverse=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn warns where a group has no right row, and gives 0 as we do
        falling = np.broadcast_to(-np.arange(size)[:, None], ranked.shape)
        assert near(counts[:, 2], average_precision_score(ranked, falling, average=None)[which])  # asked once for each order of right and wrong
    for scores in (plain, tied):
        counts = ranking_counts(gold.ravel(), scores.ravel(), names)
        expected = np.array([brute_force(gold[:, i].tolist(), scores[:, i].tolist()) for i in range(cases)])
        assert near(counts[:, 1:3], expected)
        assert near([MRR.of(counts), MAP.of(counts)], expected.mean(axis=0))
        table = [np.ones(cases), (scores > 0).sum(axis=0), gold.sum(axis=0), ((scores > 0) & (gold == 1)).sum(axis=0)]
        np.testing.assert_array_equal(counts[:, [0, 3, 4, 5]], np.stack(table, axis=1))
        assert near(RANKING_F1.of(counts), f1_score(gold.ravel(), scores.ravel() > 0))


def brute_force(gold: list[int], scores: list[float]) -> tuple[float, float]:
    """Return (reciprocal rank, average precision) of one group."""
    ranked = [gold[i] for i in sorted(range(len(gold)), key=lambda i: -scores[i])]  # stable, as ties must be
    places = [i for i, right in enumerate(ranked, start=1) if right]
    if not places:
        return 0.0, 0.0
    return 1 / places[0], sum(k / place for k, place in enumerate(places, start=1)) / len(places)


def test_groups_keep_their_order_and_one_without_a_right_row_counts_as_0() -> None:
    counts = ranking_counts(np.array([0, 1, 0, 1, 0]), np.array([0.5, 0.5, 3.0, -2.0, 0.0]), ["b", "b", "a", "c", "a"])
    assert counts.tolist() == [[1, 0.5, 0.5, 2, 1, 1], [1, 0, 0, 1, 0, 0], [1, 1, 1, 0, 1, 0]]  # a tie keeps file order
    assert MRR.of(counts) == MAP.of(counts) == 0.5
    assert RANKING_F1.of(counts) == pytest.approx(2 / 5)
    assert RANKING_F1.of(counts[1:2]) is None  # no right row at all
    assert MRR.of(ranking_counts(np.zeros(0, np.int64), np.zeros(0), [])) is None


def test_chunk_counts_and_f1_equal_seqeval() -> None:
    rng = generator("chunks")
    cases = 10_000
    sentences = rng.integers(1, 4, size=cases)  # of each case
    offsets = np.concatenate([[0], np.cumsum(rng.integers(1, 10, size=sentences.sum()))])
    gold = rng.integers(0, 7, size=offsets[-1])
    found = np.where(rng.random(offsets[-1]) < 0.6, gold, rng.integers(0, 7, size=offsets[-1]))
    of_sentence = chunk_counts(gold, found, offsets, TAGS)
    sums = np.add.reduceat(of_sentence, np.cumsum(sentences) - sentences, axis=0)
    figures = CHUNK_F1.score(sums)
    names = [[[TAGS[t] for t in tags[a:b]] for a, b in itertools.pairwise(offsets.tolist())] for tags in (gold, found)]
    peers = [tuple(set(get_entities(tags)) for tags in pair) for pair in zip(*names, strict=True)]
    np.testing.assert_array_equal(of_sentence, [[len(p), len(g), len(p & g)] for g, p in peers])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # seqeval warns where it sets an undefined figure to 0
        cuts = np.concatenate([[0], np.cumsum(sentences)]).tolist()
        expected = [seqeval_f1(names[0][a:b], names[1][a:b]) for a, b in itertools.pairwise(cuts)]
    assert near(figures, np.where(sums[:, 1] > 0, expected, np.nan))


@pytest.mark.parametrize(
    ("prediction", "golds", "exact", "f1"),
    [
        ("北京", ["北京"], 1, 1),
        ("《北京》。", ["“北京”"], 1, 1),  # punctuation is deleted from both
        ("在北京", ["北京"], 0, 4 / 5),  # 2 of 3 units, 2 of 2
        ("北京大学的校长", ["校长北京大学"], 0, 2 * 4 / 13),  # one run of units, not a bag: 北京大学
        ("北上京", ["北京"], 0, 2 / 5),  # nor a subsequence
        ("上海", ["北京"], 0, 0),
        ("", ["北京"], 0, 0),
        ("北京", ["上海", "北京市", "北大"], 0, 4 / 5),  # the best of the golds
        ("北京", ["上海", "北京"], 1, 1),
        ("IPhone 4S手机", ["iphone 4s"], 0, 2 * 2 / 6),  # lower case; iphone, 4s, 手, 机
        ("1999年", ["1999年12月"], 0, 2 * 2 / 6),  # a number is one unit: 1999, 年 | 1999, 年, 12, 月
        ("199年", ["1999年"], 0, 2 / 4),  # 199 is no part of 1999
        ("COVID-19", ["covid19"], 1, 1),  # a deleted mark leaves one run
        ("50%", ["50"], 0, 2 / 3),  # NLTK: 50, %
        ("a……b", ["ab"], 0, 0),  # an ellipsis is none of the script's marks: a……b is one word
        (" 北京 ", ["北京"], 1, 1),
        ("，北京", [" 北京"], 1, 1),
        ("“ 北京", ["北京"], 0, 1),  # stripped before the mark goes: a space is left, which is no unit
        ("，", ["。"], 1, 0),  # nothing left on either side
        ("", [""], 1, 0),
        ("龥龦", ["龥"], 0, 2 / 3),  # the last character of the script's range, and one beyond it
    ],
)
def test_chinese_answers_score_as_worked_by_hand(prediction: str, golds: list[str], exact: float, f1: float) -> None:
    assert chinese_scores(prediction, golds) == (exact, pytest.approx(f1, abs=TIGHT))


@pytest.mark.parametrize(
    ("prediction", "golds", "exact", "f1"),
    [
        ("The Denver  Broncos!", ["denver broncos"], 1, 1),
        ("Denver", ["Denver Broncos"], 0, 2 / 3),
        ("Broncos of Denver", ["Denver Broncos"], 0, 4 / 5),  # a bag: order does not matter
        ("to to be", ["to be to be"], 0, 6 / 7),  # each word as often as on both sides
        ("Carolina", ["Denver", "Denver Broncos"], 0, 0),
        ("Broncos", ["Denver", "Denver Broncos", "the Broncos"], 1, 1),  # the best of the golds
        ("a an the", ["the"], 1, 0),  # nothing left on either side
        ("", ["Denver"], 0, 0),
        ("theory", ["ory"], 0, 0),  # an article is a whole word
        ("U.S.", ["us"], 1, 1),
        ("the-art", ["theart"], 1, 1),  # punctuation goes before articles
        ("“Denver”", ["Denver"], 0, 0),  # only ASCII's punctuation goes
        ("50\t%", ["50"], 1, 1),
    ],
)
def test_english_answers_score_as_worked_by_hand(prediction: str, golds: list[str], exact: float, f1: float) -> None:
    assert squad_scores(prediction, golds) == (exact, pytest.approx(f1, abs=TIGHT))


def test_the_longest_shared_run_equals_brute_force() -> None:
    rng = generator("runs")
    alphabet = "北京大学的"
    for _ in range(10_000):
        one, two = ("".join(alphabet[i] for i in rng.integers(0, 5, size=size)) for size in rng.integers(0, 9, size=2))
        runs = {one[i:j] for i, j in itertools.combinations(range(len(one) + 1), 2)}
        shared = max((len(run) for run in runs if run in two), default=0)
        exact, f1 = chinese_scores(one, [two])
        assert exact == (one == two)
        assert f1 == pytest.approx(2 * shared / max(1, len(one) + len(two)), abs=TIGHT)


def test_a_reading_benchmarks_figures_are_means_over_questions() -> None:
    counts = reading_counts([(1.0, 1.0), (0.0, 0.5), (0.0, 0.0)])
    assert counts.tolist() == [[1, 1, 1], [0, 0.5, 1], [0, 0, 1]]
    assert [m.of(counts) for m in (EM, reading.F1, EM_F1)] == pytest.approx([1 / 3, 1 / 2, 5 / 12])
    assert reading_counts([]).shape == (0, 3)
    assert EM_F1.of(reading_counts([])) is None


def test_third_answers_of_cmrc2018_score_what_the_official_script_gives_them(test_data: Path) -> None:
    """The pinned sums are those of the script's v5 rules, run apart with quadratic search; third answers against the first two of each question."""
    with gzip.open(test_data / "cmrc2018" / "cmrc2018_dev.json.gz") as file:
        data = json.load(file)["data"]
    answers = [[a["text"] for a in q["answers"]] for text in data for p in text["paragraphs"] for q in p["qas"]]
    sums = reading_counts([chinese_scores(third, [first, second]) for first, second, third in answers]).sum(axis=0)
    assert sums.tolist() == pytest.approx([2504, 3007.8488073188296, 3219], abs=1e-9)
