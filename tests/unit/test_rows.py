"""Rows: samples in, samples out, in any order."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rows_helper import same, samples, toy_rows

from ernie_core.data.rows import Rows


@settings(max_examples=25)
@given(st.lists(samples(("one", "two")), max_size=6))
def test_samples_come_back_as_they_went_in(made: list) -> None:
    rows = Rows.from_samples(made, ("one", "two"))
    assert [rows.sample(i) for i in range(len(rows))] == made
    assert rows.lengths.tolist() == [len(s.token_ids) for s in made]


@settings(max_examples=25)
@given(st.lists(samples(), min_size=1, max_size=6), st.data())
def test_take_equals_taking_samples_one_by_one(made: list, data: st.DataObject) -> None:
    index = data.draw(st.lists(st.integers(0, len(made) - 1), max_size=8))
    taken = Rows.from_samples(made).take(np.array(index, np.int64))
    assert [taken.sample(i) for i in range(len(taken))] == [made[i] for i in index]


@settings(max_examples=25)
@given(st.lists(st.lists(samples(("one",)), max_size=3), max_size=4))
def test_concat_equals_the_samples_in_order(parts: list) -> None:
    names = ("one",) if parts else ()
    joined = Rows.concat([Rows.from_samples(p, names) for p in parts])
    assert same(joined, Rows.from_samples([s for p in parts for s in p], names)) or not parts
    assert len(joined) == sum(map(len, parts))


def test_concat_drops_units_unless_every_part_has_them() -> None:
    rows = toy_rows(3)
    bare = Rows(rows.offsets, rows.token_ids, rows.sentence_type_ids, rows.position_ids, rows.seg_labels, rows.labels, rows.sample_ids)
    assert Rows.concat([rows, bare]).unit_labels is None
    assert Rows.concat([rows, rows]).unit_labels is not None


def test_without_units_every_word_is_its_own_unit() -> None:
    rows = toy_rows(1)
    bare = Rows(rows.offsets, rows.token_ids, rows.sentence_type_ids, rows.position_ids, rows.seg_labels, rows.labels, rows.sample_ids)
    assert bare.sample(0) == rows.sample(0)


def test_the_content_hash_sees_the_five_columns_and_nothing_else() -> None:
    rows = toy_rows(4, names=("one",))
    first = rows.content_sha256()
    assert rows.take(np.array([1, 0, 2, 3])).content_sha256() != first
    assert rows.with_sample_ids(np.arange(4, dtype=np.uint64)).content_sha256() == first
    for column in ("token_ids", "sentence_type_ids", "position_ids", "seg_labels", "labels"):
        changed = rows.take(np.arange(4))
        getattr(changed, column)[0] += 1
        assert changed.content_sha256() != first, column
    for column in ("unit_labels", "unit_kind"):
        changed = rows.take(np.arange(4))
        getattr(changed, column)[0] += 1
        assert changed.content_sha256() == first, column


def test_a_value_that_does_not_fit_is_refused() -> None:
    sample = toy_rows(1).sample(0)
    sample.position_ids[0] = 40_000
    with pytest.raises(OverflowError):
        Rows.from_samples([sample])
