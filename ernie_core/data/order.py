"""Which rows, when: the next global batch is a pure function of (row lengths, seed, cursor), never of the world size (DESIGN, Order).

Per epoch the row groups of a task are shuffled and cut into windows. Inside a window rows are shuffled, put into length bins of
8 tokens, cut into global batches by the token budget, and the batches shuffled. Every row comes once an epoch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ernie_core.data.batches import LENGTH_MULTIPLE
from ernie_core.errors import InputError
from ernie_core.seeding import generator

ANY_LENGTH = (0, 1 << 30)


class Cursor(NamedTuple):
    """Where a task stands: the batch to come is `batch` of `window` of `epoch`, all from 0."""

    epoch: int = 0
    window: int = 0
    batch: int = 0


@dataclass(frozen=True)
class GlobalBatch:
    """What all ranks consume in one step, in storage order: row `rows[i]` of row group `groups[i]`.

    Example: ``GlobalBatch(0, np.array([3, 3, 7]), np.array([10, 250, 4]))``.
    """

    epoch: int
    groups: NDArray[np.int64]
    rows: NDArray[np.int64]


@dataclass(frozen=True)
class _Window:
    """One window laid out: batch b is order[bounds[b]:bounds[b+1]] of (groups, rows); `rows_before` of the epoch come earlier."""

    groups: NDArray[np.int64]
    rows: NDArray[np.int64]
    bounds: NDArray[np.int64]
    rows_before: int


class TaskOrder:
    """The order of one task's rows.

    Args:
        group_lengths: tokens of each row, one integer array per row group, in storage order.
        seed: the recipe's seed.
        task: the task's name, part of every key.
        window_groups: row groups in a window; a reader holds that many in memory.
        lengths: (above, up to): only rows of more than `above` and at most `up to` tokens are read.
        batch_tokens: most padded tokens (rows x longest, the longest rounded up to a multiple of 8) in a global batch; a
            single longer row stands alone.

    Raises:
        InputError: E-TASK-EMPTY, the task has no rows.
    """

    def __init__(
        self,
        group_lengths: Sequence[NDArray[np.integer[Any]]],
        *,
        seed: int,
        task: str,
        window_groups: int,
        batch_tokens: int,
        lengths: tuple[int, int] = ANY_LENGTH,
    ) -> None:
        assert window_groups > 0, window_groups
        assert batch_tokens > 0, batch_tokens
        self._lengths = group_lengths
        self._seed, self._task = seed, task
        self._window_groups, self._batch_tokens = window_groups, batch_tokens
        self._above, self._up_to = lengths
        self._sizes = np.array([len(self._rows_of(g)) for g in range(len(group_lengths))], dtype=np.int64)
        self.num_rows = int(self._sizes.sum())
        if self.num_rows == 0:
            raise InputError("E-TASK-EMPTY", f"task {task!r} has no rows to train on", where=f"task {task}", expected="at least one row",
                             found="0 rows", fix="prepare more or longer documents, or take the task out of the recipe")  # fmt: skip
        self._cache: tuple[tuple[int, int], _Window] | None = None

    def next(self, cursor: Cursor) -> tuple[GlobalBatch, Cursor]:
        """Return the global batch at `cursor` and the cursor after it; costs one window, wherever the cursor stands."""
        window, cursor = self._window_at(cursor)
        start, end = window.bounds[cursor.batch], window.bounds[cursor.batch + 1]
        groups, rows = window.groups[start:end], window.rows[start:end]
        in_storage_order = np.lexsort((rows, groups))
        batch = GlobalBatch(cursor.epoch, groups[in_storage_order], rows[in_storage_order])
        if cursor.batch + 2 < len(window.bounds):
            return batch, cursor._replace(batch=cursor.batch + 1)
        return batch, self._after_window(cursor)

    def progress(self, cursor: Cursor) -> tuple[int, int]:
        """Return (rows of the cursor's epoch that come before it, rows of an epoch)."""
        window, at = self._window_at(cursor)
        done = window.rows_before + int(window.bounds[at.batch])
        return (self.num_rows if at.epoch > cursor.epoch else done), self.num_rows

    def tokens(self, batch: GlobalBatch) -> int:
        """Return the real tokens of a global batch."""
        return sum(int(self._lengths[g][batch.rows[batch.groups == g]].sum(dtype=np.int64)) for g in np.unique(batch.groups).tolist())

    def _rows_of(self, group: int) -> NDArray[np.int64]:
        lengths = self._lengths[group]
        return np.flatnonzero((lengths > self._above) & (lengths <= self._up_to))

    def _after_window(self, cursor: Cursor) -> Cursor:
        last = (cursor.window + 1) * self._window_groups >= len(self._sizes)
        return Cursor(cursor.epoch + 1, 0, 0) if last else Cursor(cursor.epoch, cursor.window + 1, 0)

    def _window_at(self, cursor: Cursor) -> tuple[_Window, Cursor]:
        """Return the laid-out window of `cursor`, passing over windows without rows."""
        while True:
            place = (cursor.epoch, cursor.window)
            if self._cache is None or self._cache[0] != place:
                self._cache = place, self._lay_out(*place)
            window = self._cache[1]
            if len(window.rows):
                assert cursor.batch + 1 < len(window.bounds), f"no batch {cursor} in task {self._task}"
                return window, cursor
            cursor = self._after_window(cursor)

    def _lay_out(self, epoch: int, window: int) -> _Window:
        shuffled = generator(self._seed, "groups", self._task, epoch).permutation(len(self._sizes))
        first = window * self._window_groups
        # Sorted, so that the layout depends on which groups are in the window only.
        members = np.sort(shuffled[first : first + self._window_groups])
        groups = np.repeat(members, self._sizes[members])
        read = {g: self._rows_of(g) for g in members.tolist()}
        rows = np.concatenate([read[g] for g in members.tolist()])
        lengths = np.concatenate([self._lengths[g][read[g]] for g in members.tolist()]).astype(np.int64)
        draws = generator(self._seed, "window", self._task, epoch, window)
        widths = -(-lengths // LENGTH_MULTIPLE) * LENGTH_MULTIPLE
        binned = np.lexsort((draws.permutation(len(rows)), widths))
        cuts = _cut(widths[binned], self._batch_tokens)
        batches = draws.permutation(len(cuts) - 1)
        order = [binned[cuts[b] : cuts[b + 1]] for b in batches]
        bounds = np.concatenate([[0], np.cumsum(np.diff(cuts)[batches])]).astype(np.int64)
        at = np.concatenate([*order, np.empty(0, np.int64)]).astype(np.int64)
        return _Window(groups[at].astype(np.int64), rows[at].astype(np.int64), bounds, int(self._sizes[shuffled[:first]].sum()))


def _cut(widths: NDArray[np.int64], batch_tokens: int) -> NDArray[np.int64]:
    """Return the borders of batches over ascending padded lengths, each batch as large as the budget allows.

    Example: ``_cut(np.array([8, 8, 16, 40]), 32)`` -> ``[0, 2, 3, 4]``.
    """
    cuts = [0]
    most = max(1, batch_tokens // LENGTH_MULTIPLE)
    while cuts[-1] < len(widths):
        ahead = widths[cuts[-1] : cuts[-1] + most]
        cost = ahead * np.arange(1, len(ahead) + 1)  # ascending, since the widths are
        cuts.append(cuts[-1] + max(1, int(np.searchsorted(cost, batch_tokens, side="right"))))
    return np.array(cuts, dtype=np.int64)


def rank_slice(n: int, rank: int, world: int) -> slice:
    """Return the contiguous part of a global batch of `n` rows that `rank` takes; sizes differ by at most one, and may be 0.

    Example: ``[rank_slice(5, r, 2) for r in range(2)]`` -> ``[slice(0, 2), slice(2, 5)]``.
    """
    return slice(n * rank // world, n * (rank + 1) // world)
