"""Pass 1 as a whole against a plain jieba script, on two cores and over ten times the input: `make bench`.

ERNIE_BENCH_MB is the size of the input (4 by default; the issue's figures are for 100: the memory test then reads 1 GB).
"""

from __future__ import annotations

import os
import statistics
import time
from pathlib import Path

import jieba
import pytest
from pass1_helper import held, in_processes, planned, warm_up, write_input
from plain_pass1 import dictionary_tags, plain_pass1

from corpus_prep.pass_one import pass_one
from corpus_prep.stages import Stages, shares_line

MEGABYTES = float(os.environ.get("ERNIE_BENCH_MB", "4"))
SPLIT_BYTES = int(min(16e6, MEGABYTES * 1e6 / 6))
ROUNDS = 3
pytestmark = [pytest.mark.bench, pytest.mark.timeout(3600)]


@pytest.fixture(scope="module")
def source(test_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_input(test_data, tmp_path_factory.mktemp("bench") / "news.jsonl", MEGABYTES)


def test_pass_1_is_five_times_as_fast_as_a_plain_script(source: Path, tmp_path: Path) -> None:
    jieba.initialize()
    tags = dictionary_tags()
    warm_up()
    theirs, ours, stages = [], [], Stages()
    for number in range(ROUNDS):
        begun = time.process_time()
        their_counts = plain_pass1(source, tmp_path / "plain.jsonl", tags)
        theirs.append(time.process_time() - begun)
        splits, plan = planned(source, tmp_path / str(number), 16_000_000)  # as in recipes: what a split offers to the tables is bounded
        stages, begun = Stages(), time.process_time()
        for split in splits:
            pass_one(split, plan, stages)
        ours.append(time.process_time() - begun)
    our_counts = held(tmp_path / "0", splits)
    their, our = statistics.median(theirs), statistics.median(ours)
    megabytes = source.stat().st_size / 1e6
    print(f"\npass 1 of {megabytes:.1f} MB, one thread, median CPU time of {ROUNDS}, both loaded before")
    print(f"  plain jieba script {their:.2f} s ({megabytes / their:.2f} MB/s): {their_counts}")
    print(f"  pass 1 {our:.2f} s ({megabytes / our:.2f} MB/s), {len(splits)} splits: {our_counts}")
    print(f"  {their / our:.1f} times; {shares_line(stages.seconds)}")
    assert (our_counts["documents"], our_counts["chars"]) == (their_counts["documents"], their_counts["chars"])
    assert abs(our_counts["words"] / their_counts["words"] - 1) < 0.02  # runs of letters and digits that WordPiece cannot split are one word here
    assert their / our >= 5


def test_two_processes_do_1_8_times_as_much(source: Path, tmp_path: Path) -> None:
    one, two = [], []
    for number in range(ROUNDS):
        one.append(in_processes(1, source, tmp_path / f"1-{number}", SPLIT_BYTES)[0])
        two.append(in_processes(2, source, tmp_path / f"2-{number}", SPLIT_BYTES)[0])
    ratio = statistics.median(one) / statistics.median(two)
    print(f"\n{MEGABYTES:g} MB: one process {statistics.median(one):.2f} s, two {statistics.median(two):.2f} s: {ratio:.2f} times")
    assert ratio >= 1.8


def test_memory_is_flat_and_time_linear_over_ten_times_the_input(test_data: Path, tmp_path: Path) -> None:
    source = write_input(test_data, tmp_path / "long.jsonl", 10 * MEGABYTES)
    last = len(planned(source, tmp_path / "count", SPLIT_BYTES)[0]) // 10
    _, (small,) = in_processes(1, source, tmp_path / "small", SPLIT_BYTES, last)
    _, (large,) = in_processes(1, source, tmp_path / "large", SPLIT_BYTES)
    memory = large["peak_kb"] / small["peak_kb"] - 1
    pace = (large["cpu"] / large["bytes"]) / (small["cpu"] / small["bytes"]) - 1
    for name, found in (("small", small), ("large", large)):
        print(f"\n{name}: {found['bytes'] / 1e6:.1f} MB in {found['cpu']:.1f} s of CPU, peak RSS {found['peak_kb'] / 1e3:.0f} MB", end="")
    print(f"\n  memory {memory:+.1%}, time for a MB {pace:+.1%}")
    assert abs(memory) <= 0.10
    assert abs(pace) <= 0.10
