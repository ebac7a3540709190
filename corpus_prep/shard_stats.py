"""Figures of a shard set, counted from its rows."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ernie_core.data.shards import ShardSet
from ernie_core.manifest import Manifest
from ernie_core.vocab import Vocab

_BARS = "▁▂▃▄▅▆▇█"
NUM_BINS = 16


@dataclass
class Stats:
    """Figures of some rows: how many, their tokens, [UNK] among these, rows (or scored tokens) of each class, and every row's length, in parts."""

    rows: int = 0
    tokens: int = 0
    unknown: int = 0
    classes: Counter[int] = field(default_factory=Counter)
    parts: list[NDArray[np.int64]] = field(default_factory=list)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Return every row's length, int64[rows]."""
        return np.concatenate([np.zeros(0, np.int64), *self.parts])

    def add(self, other: Stats) -> None:
        """Add the figures of other rows."""
        self.rows, self.tokens, self.unknown = self.rows + other.rows, self.tokens + other.tokens, self.unknown + other.unknown
        self.classes.update(other.classes)
        self.parts += other.parts


def shard_stats(folder: Path, manifest: Manifest, vocab: Vocab, task: str, subset: str, encoding: str) -> dict[str, Stats]:
    """Return the figures of each shard of a task and subset, by its name.

    Raises:
        InputError, IntegrityError: see `ShardSet.open` and `ShardSet.read_group`.
    """
    shards = ShardSet.open(folder, manifest, task, subset, encoding)
    found: dict[str, Stats] = {}
    for group in range(shards.num_groups):
        rows = shards.read_group(group)
        scored = rows.token_labels.get(task, rows.labels)
        classes = Counter(dict(zip(*(a.tolist() for a in np.unique(scored[scored >= 0], return_counts=True)), strict=True)))
        unknown = int(np.count_nonzero(rows.token_ids == vocab.unk_id))
        found.setdefault(shards.shard_of(group), Stats()).add(Stats(len(rows), rows.num_tokens, unknown, classes, [rows.lengths]))
    return found


def histogram(lengths: NDArray[np.int64], longest: int) -> str:
    """Return how many rows there are of each length, as 16 bars from 1 token to `longest`; a space stands for none.

    Example: lengths 8, 16, 16 of 16 -> ``"       ▄       █"``.
    """
    counts = np.histogram(lengths, bins=NUM_BINS, range=(0.5, longest + 0.5))[0]
    top = max(1, int(counts.max(initial=0)))
    return "".join(_BARS[-(-int(n) * len(_BARS) // top) - 1] if n else " " for n in counts)
