"""Pass 1 under Ray Data against the same in one process: `make bench`. ERNIE_BENCH_MB as in tests/bench/test_bench_pass1.py."""

from __future__ import annotations

import os
import shutil
import statistics
import time
from pathlib import Path

import pytest
from pass1_helper import planned, write_input

from corpus_prep.flow import run_pass

MEGABYTES = float(os.environ.get("ERNIE_BENCH_MB", "4"))
SPLIT_BYTES = int(min(16e6, MEGABYTES * 1e6 / 6))
ROUNDS = 3
pytestmark = [pytest.mark.ray, pytest.mark.bench, pytest.mark.timeout(3600)]


@pytest.mark.usefixtures("cluster")
def test_ray_data_costs_little(test_data: Path, tmp_path: Path) -> None:
    """Beyond start-up: the median of three rounds, of which only the first one loads dictionaries in fresh workers."""
    source = write_input(test_data, tmp_path / "news.jsonl", MEGABYTES)
    seconds: dict[int, float] = {}
    for workers in (0, 1, 2):
        taken = []
        for number in range(ROUNDS):
            folder = tmp_path / f"{workers}-{number}"
            splits, plan = planned(source, folder, SPLIT_BYTES)
            begun = time.perf_counter()
            run_pass("1", "documents", splits, plan, workers, lambda _: None, None)
            taken.append(time.perf_counter() - begun)
            shutil.rmtree(folder)
        seconds[workers] = statistics.median(taken)
    print(f"\n{MEGABYTES:g} MB: in process {seconds[0]:.2f} s, Ray Data with 1 worker {seconds[1]:.2f} s, with 2 {seconds[2]:.2f} s")
    print(f"  Ray costs {seconds[1] / seconds[0] - 1:.1%}; two workers do {seconds[1] / seconds[2]:.2f} times as much")
    assert seconds[1] <= 1.10 * seconds[0]
    assert seconds[1] / seconds[2] >= 1.8
