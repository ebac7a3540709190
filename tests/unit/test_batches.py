"""Padding and micro-batches."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from ernie_core.data.batches import collate, round_up, split_rows
from ernie_core.data.masking import Masked
from ernie_core.data.rows import Rows
from ernie_core.schemas import Sample


def sample(ids: list[int], label: int = -1, scored: list[int] | None = None) -> Sample:
    n = len(ids)
    seg = [-1, *[0] * (n - 2), -1]
    sentence_types = [0] * (n // 2) + [1] * (n - n // 2)
    labels = {} if scored is None else {"token_document": scored}
    return Sample(ids, sentence_types, list(range(n)), seg, seg, [-1, *[0] * (n - 2), -1], label, labels)


ROWS = replace(
    Rows.from_samples([sample([2, 5, 3], 1, [-1, 1, -1]), sample([2, 6, 7, 3], 0, [-1, 0, 1, -1])], ("token_document",)),
    sample_ids=np.array([11, 22], np.uint64),
)


def test_unmasked_rows_are_padded_to_a_multiple_of_eight():
    batch = collate(ROWS, None, task_id=7, pad_id=9)
    assert batch.token_ids.tolist() == [[2, 5, 3, 9, 9, 9, 9, 9], [2, 6, 7, 3, 9, 9, 9, 9]]
    assert batch.sentence_type_ids.tolist() == [[0, 1, 1, 0, 0, 0, 0, 0], [0, 0, 1, 1, 0, 0, 0, 0]]
    assert batch.position_ids.tolist() == [[0, 1, 2, 0, 0, 0, 0, 0], [0, 1, 2, 3, 0, 0, 0, 0]]
    assert (batch.lengths.tolist(), batch.labels.tolist(), batch.task_id) == ([3, 4], [1, 0], 7)
    assert batch.token_labels["token_document"].tolist() == [[-1, 1, -1, -1, -1, -1, -1, -1], [-1, 0, 1, -1, -1, -1, -1, -1]]
    assert (batch.target_positions.tolist(), batch.target_ids.tolist(), batch.sample_ids.tolist()) == ([], [], [11, 22])


def test_masking_targets_move_to_the_padded_grid_and_lose_their_token_labels():
    masked = Masked(np.array([2, 5, 3, 2, 4, 7, 3], np.int32), np.array([1, 4]), np.array([5, 6], np.int32))
    batch = collate(ROWS, masked, task_id=2, pad_id=0)
    assert batch.token_ids[1].tolist() == [2, 4, 7, 3, 0, 0, 0, 0]
    assert (batch.target_positions.tolist(), batch.target_ids.tolist()) == ([1, 9], [5, 6])
    assert batch.token_labels["token_document"].tolist() == [[-1] * 8, [-1, -1, 1, -1, -1, -1, -1, -1]]


def test_every_integer_array_of_a_batch_is_int64():
    batch = collate(ROWS, None, task_id=2, pad_id=0)
    arrays = [batch.token_ids, batch.sentence_type_ids, batch.position_ids, batch.lengths, batch.target_positions, batch.target_ids, batch.labels]
    assert {a.dtype for a in [*arrays, *batch.token_labels.values()]} == {np.dtype(np.int64)}


@given(st.lists(st.integers(1, 200), max_size=40), st.integers(8, 1000))
def test_micro_batches_keep_order_and_budget(lengths, device_tokens):
    parts = split_rows(np.array(lengths, dtype=np.int64), device_tokens)
    assert [i for part in parts for i in range(part.start, part.stop)] == list(range(len(lengths)))
    for part in parts:
        rows = lengths[part]
        assert len(rows) == 1 or len(rows) * round_up(max(rows)) <= device_tokens


@given(st.lists(st.integers(1, 60), min_size=1, max_size=30), st.integers(8, 400))
def test_a_micro_batch_ends_only_where_the_next_row_would_not_fit(lengths, device_tokens):
    parts = split_rows(np.array(lengths, dtype=np.int64), device_tokens)
    for part in parts[:-1]:
        longer = lengths[part.start : part.stop + 1]
        assert len(longer) * round_up(max(longer)) > device_tokens


@given(st.lists(st.integers(2, 40), min_size=1, max_size=12))
@settings(max_examples=40)
def test_collating_loses_no_token(lengths):
    rows = Rows.from_samples([sample(list(range(2, 2 + n))) for n in lengths], ())
    rows = replace(rows, sample_ids=np.arange(len(lengths), dtype=np.uint64))
    batch = collate(rows, None, task_id=0, pad_id=0)
    assert batch.token_ids.shape == (len(lengths), round_up(max(lengths)))
    assert [row[:n].tolist() for row, n in zip(batch.token_ids, lengths, strict=True)] == [list(range(2, 2 + n)) for n in lengths]
    assert all((row[n:] == 0).all() for row, n in zip(batch.token_ids, lengths, strict=True))
