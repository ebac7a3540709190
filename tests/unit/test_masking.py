"""Masking: whole units, 15 % of tokens, 80/10/10, keyed by (seed, epoch, sample, position) alone."""

from __future__ import annotations

import gzip
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ernie_core.data.masking import Masked, mask_rows, unit_boundaries, unit_code
from ernie_core.data.rows import Rows
from ernie_core.data.text_format import decode_text
from ernie_core.errors import InputError, RecipeError
from ernie_core.schemas import ENTITY, PHRASE, WORD, Sample
from ernie_core.seeding import mix

VOCAB_SIZE, NUM_SPECIAL, MASK_ID = 17964, 4, 3


@pytest.fixture(scope="module")
def reference(test_data: Path) -> Rows:
    raw = gzip.decompress((test_data / "ernie_reference" / "demo_train_set.gz").read_bytes())
    rows = decode_text(raw, "demo_train_set.gz")
    return rows_with_ids(rows, mix(np.arange(len(rows), dtype=np.uint64)))


def rows_with_ids(rows: Rows, ids) -> Rows:
    return rows.with_sample_ids(np.asarray(ids, np.uint64))


def masked(rows: Rows, *, unit="word", seed=7, epoch=0) -> Masked:
    return mask_rows(rows, unit=unit, seed=seed, epoch=epoch, vocab_size=VOCAB_SIZE, num_special=NUM_SPECIAL, mask_id=MASK_ID)


def sample(words: list[list[int]], kinds: list[int] | None = None, merged: list[list[int]] | None = None) -> Sample:
    """Words of token ids between [CLS] and [SEP]; `merged` groups word numbers into units."""
    ids = [1, *(i for w in words for i in w), 2]
    seg = [-1, *(int(k > 0) for w in words for k in range(len(w))), -1]
    unit, kind = [-1], [-1]
    for n, members in enumerate(merged or [[i] for i in range(len(words))]):
        size = sum(len(words[i]) for i in members)
        unit += [0] + [1] * (size - 1)
        kind += [(kinds or [WORD] * len(words))[n]] * size
    return Sample(ids, [0] * len(ids), list(range(len(ids))), seg, [*unit, -1], [*kind, -1], -1)


def rows_of(*samples: Sample) -> Rows:
    return rows_with_ids(Rows.from_samples(list(samples), ()), np.arange(100, 100 + len(samples)))


# 哈尔滨 | 是 | 黑龙江 | 的 | 省会 | 城市: two entities, and 省会城市 a phrase
HARBIN = sample([[10, 11, 12], [13], [14, 15, 16], [17], [18, 19], [20, 21]], [ENTITY, WORD, ENTITY, WORD, PHRASE], [[0], [1], [2], [3], [4, 5]])
# The entity 哈尔滨 made of two words
TWO_WORDS = sample([[10], [11, 12], [13]], [ENTITY, WORD], [[0, 1], [2]])


@pytest.mark.parametrize(
    ("unit", "expected"),
    [
        ("basic", [-1, 0, 0, 0, 0, -1, -1, *[0] * 12, -1]),
        ("word", [-1, 0, 0, 1, 0, -1, -1, 0, 1, 1, 0, 0, 1, 1, 0, 0, 1, 0, 1, -1]),
        ("phrase", [-1, 0, 0, 1, 0, -1, -1, 0, 1, 1, 0, 0, 1, 1, 0, 0, 1, 1, 1, -1]),
        ("entity", [-1, 0, 1, 1, 0, -1, -1, 0, 1, 1, 0, 0, 1, 1, 0, 0, 1, 1, 1, -1]),
    ],
)
def test_each_mask_unit_has_its_boundaries(unit, expected):
    rows = rows_of(TWO_WORDS, HARBIN)
    assert unit_boundaries(rows, np.full(2, unit_code(unit))).tolist() == expected


def test_rows_of_one_batch_may_be_masked_by_different_units():
    rows = rows_of(TWO_WORDS, TWO_WORDS)
    assert unit_boundaries(rows, np.array([0, 3])).tolist() == [-1, 0, 0, 0, 0, -1, -1, 0, 1, 1, 0, -1]


def test_text_rows_refuse_phrases_and_entities():
    rows = rows_of(HARBIN)
    text = replace(rows, unit_labels=None, unit_kind=None)
    for unit in ("phrase", "entity"):
        with pytest.raises(InputError) as error:
            masked(text, unit=unit)
        assert error.value.code == "E-MASK-UNIT"
        assert f"found text shards and mask_unit {unit}" in str(error.value)
    masked(text, unit="word")


def test_an_unknown_unit_names_the_closest():
    with pytest.raises(RecipeError, match="unknown mask_unit 'words'; expected one of word"):
        masked(rows_of(HARBIN), unit="words")


@st.composite
def batches(draw) -> Rows:
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    samples = [sample([list(range(5, 5 + k)) for k in rng.integers(1, 6, rng.integers(0, 30))]) for _ in range(draw(st.integers(1, 12)))]
    return rows_with_ids(Rows.from_samples(samples, ()), rng.integers(0, 2**63, len(samples)).astype(np.uint64))


@given(batches(), st.sampled_from(["basic", "word"]), st.integers(0, 2**60), st.integers(0, 9))
@settings(max_examples=60)
def test_targets_are_whole_units_and_nothing_else_changes(rows, unit, seed, epoch):
    made = mask_rows(rows, unit=unit, seed=seed, epoch=epoch, vocab_size=50, num_special=4, mask_id=3, probability=0.4)
    hidden = np.zeros(len(rows.token_ids), bool)
    hidden[made.targets] = True
    for i in range(len(rows)):
        start, end = int(rows.offsets[i]), int(rows.offsets[i + 1])
        for t in range(start, end):
            goes_on = rows.seg_labels[t] == 1 and unit == "word"
            assert rows.seg_labels[t] >= 0 or not hidden[t]
            assert not goes_on or hidden[t] == hidden[t - 1]
    assert (made.token_ids[~hidden] == rows.token_ids[~hidden]).all()
    assert (made.target_ids == rows.token_ids[made.targets]).all()
    assert ((made.token_ids[hidden] >= 3) & (made.token_ids[hidden] < 50)).all()


@given(batches(), st.randoms(use_true_random=False))
@settings(max_examples=40)
def test_a_sample_is_masked_alike_in_any_batch(rows, random):
    together = masked(rows)
    order = random.sample(range(len(rows)), len(rows))
    shuffled = masked(rows.take(np.array(order)))
    expected = [together.token_ids[rows.offsets[i] : rows.offsets[i + 1]] for i in order]
    assert shuffled.token_ids.tolist() == np.concatenate(expected).tolist()
    for i in range(len(rows)):
        assert masked(rows.take(np.array([i]))).token_ids.tolist() == together.token_ids[rows.offsets[i] : rows.offsets[i + 1]].tolist()


def test_later_tokens_without_a_first_one_are_never_hidden():
    broken = sample([[10, 11], [12]])
    broken.seg_labels = [-1, 1, 1, 0, 0]  # the last token is a word, which the next row's first tokens must not join
    headless = sample([[13], [14]])
    headless.seg_labels = [1, 1, 0, -1]
    hidden = masked(rows_of(*[broken, headless] * 200), epoch=1).target_ids
    assert set(hidden.tolist()) == {12, 2, 14}


def test_the_reference_rows_are_masked_at_fifteen_percent_eighty_ten_ten(reference: Rows):
    assert len(reference) == 10000
    for unit in ("basic", "word"):
        made = masked(reference, unit=unit)
        assert abs(len(made.targets) / np.count_nonzero(reference.seg_labels >= 0) - 0.15) < 0.002
        seen = made.token_ids[made.targets]
        share_mask, share_kept = np.mean(seen == MASK_ID), np.mean(seen == made.target_ids)
        assert abs(share_mask - 0.8) < 0.01
        assert abs(share_kept - 0.1) < 0.01
        assert abs(1 - share_mask - share_kept - 0.1) < 0.01


def test_the_reference_rows_hide_whole_words_each_with_the_same_chance(reference: Rows):
    hidden = np.zeros(len(reference.token_ids), bool)
    hidden[masked(reference).targets] = True
    later = np.flatnonzero(reference.seg_labels == 1)
    assert len(later) == 272_912
    assert (hidden[later] == hidden[later - 1]).all()
    first = reference.seg_labels == 0
    for size in (1, 2, 3):  # words of each length
        starts = np.flatnonzero(first)
        ends = np.append(np.flatnonzero(reference.seg_labels != 1), len(first))
        lengths = ends[np.searchsorted(ends, starts, side="right")] - starts
        chosen = hidden[starts[lengths == size]]
        assert abs(chosen.mean() - 0.15) < 4 * np.sqrt(0.15 * 0.85 / len(chosen))


def test_masks_repeat_for_an_equal_key_and_are_independent_of_another_epochs(reference: Rows):
    made, again, other_epoch, other_seed = masked(reference), masked(reference), masked(reference, epoch=1), masked(reference, seed=8)
    assert (made.token_ids == again.token_ids).all()
    assert (made.targets == again.targets).all()
    for other in (other_epoch, other_seed):
        share = len(np.intersect1d(made.targets, other.targets)) / len(made.targets)
        assert abs(share - 0.15) < 0.01


def test_random_tokens_are_spread_over_the_vocabulary_without_specials(reference: Rows):
    made = masked(reference)
    seen = made.token_ids[made.targets]
    random = seen[(seen != MASK_ID) & (seen != made.target_ids)]
    assert random.min() >= NUM_SPECIAL
    assert random.max() < VOCAB_SIZE
    counts = np.histogram(random, bins=10, range=(NUM_SPECIAL, VOCAB_SIZE))[0]
    assert np.all(np.abs(counts - counts.mean()) < 5 * np.sqrt(counts.mean()))
