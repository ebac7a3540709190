"""The order of rows: every row once an epoch, the budget kept, the same for every world size and after a resume."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ernie_core.data.order import Cursor, GlobalBatch, TaskOrder, rank_slice
from ernie_core.errors import InputError

GROUPS = st.lists(st.lists(st.integers(1, 140), max_size=30), min_size=1, max_size=9).filter(any)


def order_of(groups, *, seed=7, task="next_sentence", window_groups=3, batch_tokens=256):
    return TaskOrder([np.array(g, dtype=np.uint16) for g in groups], seed=seed, task=task, window_groups=window_groups, batch_tokens=batch_tokens)


def epoch_of(order: TaskOrder, epoch: int = 0) -> list[tuple[Cursor, GlobalBatch]]:
    out, cursor = [], Cursor(epoch, 0, 0)
    while cursor.epoch == epoch:
        batch, after = order.next(cursor)
        if batch.epoch != epoch:
            break
        out.append((cursor, batch))
        cursor = after
    return out


def rows_of(batches) -> list[tuple[int, int]]:
    return [pair for _, b in batches for pair in zip(b.groups.tolist(), b.rows.tolist(), strict=True)]


def cost(groups, batch) -> int:
    longest = max(groups[g][r] for g, r in zip(batch.groups.tolist(), batch.rows.tolist(), strict=True))
    return len(batch.rows) * -(-longest // 8) * 8


@given(GROUPS, st.integers(1, 5), st.integers(8, 2000), st.integers(0, 3))
@settings(max_examples=60)
def test_every_row_comes_exactly_once_an_epoch(groups, window_groups, batch_tokens, epoch):
    order = order_of(groups, window_groups=window_groups, batch_tokens=batch_tokens)
    seen = Counter(rows_of(epoch_of(order, epoch)))
    assert seen == Counter({(g, r): 1 for g, rows in enumerate(groups) for r in range(len(rows))})


@given(GROUPS, st.integers(1, 5), st.integers(8, 2000))
@settings(max_examples=40)
def test_a_batch_costs_at_most_the_budget_or_is_a_single_row(groups, window_groups, batch_tokens):
    order = order_of(groups, window_groups=window_groups, batch_tokens=batch_tokens)
    assert all(len(b.rows) == 1 or cost(groups, b) <= batch_tokens for _, b in epoch_of(order))


@given(GROUPS, st.integers(1, 5), st.data())
@settings(max_examples=40)
def test_a_fresh_order_goes_on_at_any_cursor_as_the_old_one_did(groups, window_groups, data):
    walked = epoch_of(order_of(groups, window_groups=window_groups)) + epoch_of(order_of(groups, window_groups=window_groups), 1)
    start = data.draw(st.integers(0, len(walked) - 1))
    fresh, cursor = order_of(groups, window_groups=window_groups), walked[start][0]
    for _, expected in walked[start:]:
        batch, cursor = fresh.next(cursor)
        assert (batch.epoch, batch.groups.tolist(), batch.rows.tolist()) == (expected.epoch, expected.groups.tolist(), expected.rows.tolist())


@given(GROUPS)
@settings(max_examples=50)
def test_rows_of_a_batch_stand_in_storage_order(groups):
    for _, b in epoch_of(order_of(groups)):
        pairs = list(zip(b.groups.tolist(), b.rows.tolist(), strict=True))
        assert pairs == sorted(pairs)


@given(GROUPS, st.integers(1, 5))
@settings(max_examples=50)
def test_a_window_reads_no_more_groups_than_it_was_given(groups, window_groups):
    batches = epoch_of(order_of(groups, window_groups=window_groups))
    for _, window in itertools.groupby(batches, key=lambda pair: pair[0].window):
        assert len({g for _, b in window for g in b.groups.tolist()}) <= window_groups


@given(st.integers(0, 50), st.integers(1, 8))
def test_rank_slices_cut_a_batch_into_contiguous_parts_of_near_equal_size(n, world):
    parts = [list(range(n))[rank_slice(n, rank, world)] for rank in range(world)]
    assert list(itertools.chain(*parts)) == list(range(n))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@given(GROUPS)
@settings(max_examples=50)
def test_progress_counts_the_rows_that_came_before_the_cursor(groups):
    order, before = order_of(groups), 0
    for cursor, batch in epoch_of(order):
        assert order.progress(cursor) == (before, order.num_rows)
        before += len(batch.rows)


@given(GROUPS)
@settings(max_examples=50)
def test_tokens_are_the_real_lengths_of_the_rows(groups):
    order = order_of(groups)
    assert sum(order.tokens(b) for _, b in epoch_of(order)) == sum(map(sum, groups))


def toy_lengths() -> list[list[int]]:
    return np.random.default_rng(0).integers(10, 129, size=(40, 512)).tolist()


def test_another_epoch_seed_or_task_gives_another_order():
    groups = toy_lengths()
    orders = [rows_of(epoch_of(order_of(groups), 0)), rows_of(epoch_of(order_of(groups), 1))]
    orders += [rows_of(epoch_of(order_of(groups, seed=8))), rows_of(epoch_of(order_of(groups, task="knowledge_masking")))]
    assert all(a != b for a, b in itertools.combinations(orders, 2))


def test_batches_of_short_and_of_long_rows_come_mixed():
    groups = toy_lengths()
    longest = [max(groups[g][r] for g, r in zip(b.groups, b.rows, strict=True)) for _, b in epoch_of(order_of(groups, batch_tokens=2048))]
    assert np.corrcoef(longest[:-1], longest[1:])[0, 1] < 0.1


def test_length_bins_leave_at_most_eight_percent_of_positions_to_padding():
    groups = toy_lengths()
    order = order_of(groups, window_groups=16, batch_tokens=2048)
    batches = [b for _, b in epoch_of(order)]
    assert sum(map(sum, groups)) / sum(cost(groups, b) for b in batches) > 0.92


def test_a_window_without_rows_is_passed_over():
    order = order_of([[], [], [], [9], []], window_groups=1)
    first, after = order.next(Cursor())
    second, _ = order.next(after)
    assert (first.epoch, second.epoch, first.groups.tolist(), second.groups.tolist()) == (0, 1, [3], [3])


def test_a_task_without_rows_is_named():
    with pytest.raises(InputError) as error:
        order_of([[], []], task="sentence_reordering")
    assert error.value.code == "E-TASK-EMPTY"
    assert "'sentence_reordering' has no rows" in str(error.value)


def test_a_batch_takes_as_many_rows_as_the_budget_allows():
    batches = [b for _, b in epoch_of(order_of([[8] * 10, [8] * 10], batch_tokens=32))]
    assert sorted(len(b.rows) for b in batches) == [4] * 5


def test_windows_hold_other_groups_in_another_epoch():
    order = order_of([[9] * 4] * 30)
    first_windows = [{g for c, b in epoch_of(order, epoch) if c.window == 0 for g in b.groups.tolist()} for epoch in (0, 1)]
    assert [len(w) for w in first_windows] == [3, 3]
    assert first_windows[0] != first_windows[1]
