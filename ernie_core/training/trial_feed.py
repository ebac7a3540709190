"""What each step of a fine-tuning trial consumes: rows of similar length, in an order that follows from the seed; of each batch every rank its slice."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ernie_core.data.batches import Batch, collate
from ernie_core.data.rows import Rows
from ernie_core.seeding import generator

TASK_ID = 0
"""Row of the task embedding that benchmarks use: Baidu's default (ernie.md 7.6)."""
WINDOW_BATCHES = 16
"""Batches among which rows are sorted by length: enough for batches of nearly one length, few enough to keep the order random."""


def epoch_batches(lengths: NDArray[np.integer[Any]], batch_size: int, seed: int, epoch: int) -> list[NDArray[np.int64]]:
    """Return the rows of each batch of an epoch: every row once, rows of a batch of similar length, batches in random order.

    Example: 5 rows in batches of 2 -> ``[array([3, 0]), array([2]), array([1, 4])]`` or the like.
    """
    draw = generator(seed, "fine-tuning order", epoch)
    order = draw.permutation(len(lengths))
    window = batch_size * WINDOW_BATCHES
    batches: list[NDArray[np.int64]] = []
    for start in range(0, len(order), window):
        rows = order[start : start + window]
        rows = rows[np.argsort(lengths[rows], kind="stable")]
        batches += [rows[i : i + batch_size] for i in range(0, len(rows), batch_size)]
    return [batches[i] for i in draw.permutation(len(batches))]


@dataclass(frozen=True)
class TrialStep:
    """This rank's micro-batch of a step, none where its slice is empty; and uint64[n], the ids of all ranks' rows."""

    batches: list[Batch]
    global_sample_ids: NDArray[np.uint64]
    task: str = "fine-tuning"


class TrialFeed:
    """Batches of step 0, 1, 2, … of a trial: of `batch_size` rows over all of `world` ranks, cut into as many contiguous slices."""

    def __init__(
        self, rows: Rows, batch_size: int, seed: int, pad_id: int, values: NDArray[np.float32] | None = None, *, rank: int = 0, world: int = 1
    ) -> None:
        self.rows, self.batch_size, self.seed, self.pad_id, self.values = rows, batch_size, seed, pad_id, values
        self.rank, self.world = rank, world
        self.epoch, self._left = -1, list[NDArray[np.int64]]()

    @property
    def steps_per_epoch(self) -> int:
        """Batches in an epoch, the last of which may be smaller."""
        return -(-len(self.rows) // self.batch_size)

    def next(self) -> TrialStep:
        """Return this rank's slice of the next batch; epochs follow each other without end."""
        if not self._left:
            self.epoch += 1
            self._left = epoch_batches(self.rows.lengths, self.batch_size, self.seed, self.epoch)
        chosen = self._left.pop(0)
        mine, ids = np.array_split(chosen, self.world)[self.rank], self.rows.sample_ids[chosen]
        if not len(mine):
            return TrialStep([], ids)
        batch = collate(self.rows.take(mine), None, task_id=TASK_ID, pad_id=self.pad_id)
        return TrialStep([batch if self.values is None else replace(batch, labels=self.values[mine])], ids)
