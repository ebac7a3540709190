"""Very many shards: what is done once a shard stays so, and 100,000 of them stay within seconds and memory (slow)."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from corpus_prep import verify as verifier
from corpus_prep.shard_stats import Stats, shard_stats
from ernie_core.data import shards as shards_module
from ernie_core.data.order import Cursor, TaskOrder
from ernie_core.data.shards import ShardSet
from ernie_core.manifest import MANIFEST_NAME, read_manifest
from ernie_core.vocab import Vocab
from pipelines.findings import load
from tests.many_shards import TASK, many_shards

VOCAB = cast("Vocab", SimpleNamespace(unk_id=3))


def memory_bytes() -> int:
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * 4096


def ordered(shards: ShardSet) -> TaskOrder:
    return TaskOrder(shards.group_lengths, seed=1, task=TASK, window_groups=64, batch_tokens=8192)


def test_the_work_of_reading_a_row_group_does_not_grow_with_the_groups_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = many_shards(tmp_path, 300)
    shards = ShardSet.open(tmp_path, manifest, TASK, "train", "parquet")
    weighed: Counter[str] = Counter()
    size = shards_module._size_bytes

    def counted(rows: Any) -> int:
        weighed["groups"] += 1
        return size(rows)

    monkeypatch.setattr(shards_module, "_size_bytes", counted)
    for group in range(shards.num_groups):
        shards.read_group(group)
    assert shards.num_groups == 600
    assert weighed["groups"] == 600
    assert len(shards._cache) == 600
    assert shards._held_bytes == sum(size(rows) for rows in shards._cache.values())


def test_the_cache_stays_within_its_bytes(tmp_path: Path) -> None:
    manifest = many_shards(tmp_path, 20)
    shards = ShardSet.open(tmp_path, manifest, TASK, "train", "parquet", cache_bytes=50_000)
    for group in (*range(shards.num_groups), *range(shards.num_groups)):
        shards.read_group(group)
        assert shards._held_bytes == sum(shards_module._size_bytes(rows) for rows in shards._cache.values()) <= 50_000
    assert 1 < len(shards._cache) < shards.num_groups


def test_figures_and_checks_of_many_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = many_shards(tmp_path, 300)
    total = Stats()
    for stats in shard_stats(tmp_path, manifest, VOCAB, TASK, "train", "parquet").values():
        total.add(stats)
    one = ShardSet.open(tmp_path, manifest, TASK, "train", "parquet")
    assert (total.rows, len(total.lengths)) == (300 * 64, 300 * 64)
    assert total.tokens == total.lengths.sum() == sum(int(lengths.sum()) for lengths in one.group_lengths)
    monkeypatch.setattr(verifier, "_check", lambda *_args, **_options: None)  # rules of rows have tests of their own
    assert verifier.verify(tmp_path, manifest, VOCAB) == {"files": 600, "rows": 300 * 64, "tokens": total.tokens}


def test_a_resume_lays_out_one_window_wherever_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shards = ShardSet.open(tmp_path, many_shards(tmp_path, 1000), TASK, "train", "parquet")
    order = ordered(shards)
    laid: list[tuple[int, int]] = []
    lay_out = TaskOrder._lay_out

    def counted(self: TaskOrder, epoch: int, window: int) -> Any:
        laid.append((epoch, window))
        return lay_out(self, epoch, window)

    monkeypatch.setattr(TaskOrder, "_lay_out", counted)
    for cursor in (Cursor(0, 0, 0), Cursor(3, 31, 0), Cursor(7, 12, 1)):
        laid.clear()
        order.next(cursor)
        assert laid == [(cursor.epoch, cursor.window)]


@pytest.mark.slow
def test_a_hundred_thousand_shards_stay_within_seconds_and_memory(tmp_path: Path) -> None:
    """Bounds are of one core of 2021 beside other work, several times what is measured (pipelines/docs/scale.md)."""
    folder = tmp_path / "run" / "prepare"
    took: dict[str, float] = {}

    def timed(name: str, work: Any) -> Any:
        started = time.perf_counter()
        done = work()
        took[name] = time.perf_counter() - started
        return done

    timed("write", lambda: many_shards(folder, 100_000))
    before = memory_bytes()
    manifest = timed("read", lambda: read_manifest(folder, "prepare"))
    shards = timed("open", lambda: ShardSet.open(folder, manifest, TASK, "train", "parquet"))
    order = timed("order", lambda: ordered(shards))
    windows = shards.num_groups // 64
    timed("20 resumes", lambda: [order.next(Cursor(0, int(w), 0)) for w in np.linspace(0, windows - 1, 20)])
    run = timed("report", lambda: load(tmp_path / "run", ["prepare"]))
    used = memory_bytes() - before
    print(took, f"{used / 1e6:.0f} MB, manifest {(folder / MANIFEST_NAME).stat().st_size / 1e6:.0f} MB")
    assert shards.num_rows == 6_400_000
    assert len(run.manifests["prepare"].files) == 200_000
    assert took["read"] < 60
    assert took["open"] < 180
    assert took["order"] < 20
    assert took["20 resumes"] < 10
    assert used < 4 << 30
