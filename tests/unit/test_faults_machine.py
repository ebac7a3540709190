"""The machine itself goes wrong: no memory, a segfault, a clock that jumps, storage that is slow (reliability F14, F15, F19, F20)."""

from __future__ import annotations

import itertools
import json
import multiprocessing
import os
import random
import resource
import statistics
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from prepare_helper import SETTINGS, document, write_corpus
from ranks_helper import Group, arguments, bits, done
from test_faults_kills import POISON, died
from training_helper import HEADS, make_config

from corpus_prep import pass_one
from corpus_prep.dedup import contamination_table
from corpus_prep.flow import _work, _work_row
from corpus_prep.pass_one import Plan
from corpus_prep.splits import Split, plan_splits
from ernie_core.errors import ResourceError
from ernie_core.model.ernie import ErnieForPretraining
from ernie_core.normalise import normalise
from ernie_core.training import checkpoint
from ernie_core.training.optim import adamw
from ernie_core.training.saver import Saver
from pipelines.journal import read_points
from pipelines.rank_state import CHECKPOINTS

HOUR_S, DAY_S = 3600, 86_400


@pytest.fixture(scope="module")
def unbroken(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The bits of two ranks on a sound machine."""
    folder = tmp_path_factory.mktemp("unbroken")
    assert Group(arguments(recipe, folder), 2).end() == [0, 0]
    return bits(folder)


def segfaults(_rank: int) -> None:
    """Have an armed failpoint read address 0."""
    os.environ["ERNIE_FAILPOINT_HOW"] = "segfault"


def test_a_rank_that_reads_address_0_ends_as_a_killed_one(recipe: Path, unbroken: dict[str, Any], tmp_path: Path) -> None:
    codes = Group(arguments(recipe, tmp_path), 2, failpoint="train.after_step:17", victim=1, before=segfaults).end()
    assert codes[1] == -11
    assert not done(tmp_path), "the fault must land while work is pending"
    assert Group(arguments(recipe, tmp_path), 2).end() == [0, 0]
    assert bits(tmp_path) == unbroken


def clock_that_jumps(rank: int) -> None:
    """Stand in another zone, and let every look at the clock find it an hour back, a day ahead, or right."""
    os.environ["TZ"] = ("Pacific/Auckland", "America/Lima")[rank]
    time.tzset()
    draw, real = random.Random(os.getpid()), time.time_ns
    jumped = lambda: real() + draw.choice((-HOUR_S, 0, DAY_S)) * 1_000_000_000  # noqa: E731
    time.time_ns, time.time = jumped, lambda: jumped() / 1e9


def test_jumps_of_the_clock_between_and_inside_runs_change_no_bit_and_no_newest_checkpoint(
    recipe: Path, unbroken: dict[str, Any], tmp_path: Path
) -> None:
    draw = random.Random(7)
    for nth in (13, 9, 11, 8):
        group = Group(arguments(recipe, tmp_path), 2, failpoint=f"train.after_step:{nth}", before=clock_that_jumps)
        assert group.end()[0] == -9
        assert not done(tmp_path), "the fault must land while work is pending"
        for path in (tmp_path / CHECKPOINTS).rglob("*"):
            at = time.time() + draw.uniform(-30, 30) * DAY_S
            os.utime(path, (at, at))
    assert Group(arguments(recipe, tmp_path), 2, before=clock_that_jumps).end() == [0, 0]
    assert bits(tmp_path) == unbroken
    points = read_points(tmp_path / "metrics.jsonl")[0]
    jumps = [abs(b.time_ms - a.time_ms) / 1000 for a, b in itertools.pairwise(points)]
    assert sum(jump > HOUR_S / 2 for jump in jumps) >= 25, "the clock was not seen to jump"
    seconds = [value for p in points for name, value in p.metrics.items() if name.startswith("perf/") and name.endswith("_s")]
    assert len(seconds) > 50
    assert all(0 <= value < 1e7 for value in seconds), "a duration or a rate was taken from the clock"


def slow_storage(seconds: float, _rank: int) -> None:
    """Let every flush to the disk take so much longer, and keep when each save began and ended."""
    flush, save = os.fsync, checkpoint.save

    def late(number: int) -> None:
        time.sleep(seconds)
        flush(number)

    def noted(root: Path, step: int, *rest: Any) -> Path:
        begun = time.time_ns()
        try:
            return save(root, step, *rest)
        finally:
            with (root.parent / "saves").open("a") as f:
                f.write(json.dumps([step, begun / 1e6, time.time_ns() / 1e6]) + "\n")

    os.fsync, checkpoint.save = late, noted  # type: ignore[assignment]


@pytest.mark.parametrize("seconds", [0.3, pytest.param(2.0, marks=[pytest.mark.slow, pytest.mark.timeout(600)])])
def test_on_slow_storage_one_save_is_in_flight_and_only_steps_that_save_wait(recipe: Path, tmp_path: Path, seconds: float) -> None:
    given = arguments(recipe, tmp_path, ("pretrain.validation_steps=60",), save_steps=10)
    assert Group(given, 1, before=partial(slow_storage, seconds)).end(500) == [0]
    saves = [json.loads(line) for line in (tmp_path / "saves").read_text().splitlines()]
    saved = [10, 20, 30, 32, 40, 50, 60]  # 32 ends a stage
    assert [step for step, _, _ in saves] == saved
    assert all(end <= begun for (_, _, end), (_, begun, _) in itertools.pairwise(saves)), "two saves at once"
    took = [(end - begun) / 1000 for _, begun, end in saves]
    assert min(took) > 4 * seconds
    at = {p.step: p.time_ms / 1000 for p in read_points(tmp_path / "metrics.jsonl")[0] if "train/loss" in p.metrics}
    assert sorted(at) == list(range(1, 61))
    waits = {step: at[step] - at[step - 1] for step in range(2, 61)}
    after_saves = [waits[step + 1] for step in saved[1:-1]]
    others = sorted(wait for step, wait in waits.items() if step - 1 not in saved)
    print(
        f"steps after a save {statistics.median(after_saves):.2f} s, others {statistics.median(others):.3f} s, a save {statistics.median(took):.2f} s"
    )
    assert min(after_saves) > 2 * seconds, "training did not wait for the save before"
    assert others[len(others) * 9 // 10] < seconds, "other steps wait for the storage too"


def resident_mib() -> float:
    """Return what this process holds now."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * resource.getpagesize() / 2**20


def saved_slowly(folder: Path) -> tuple[float, list[float]]:
    """Save a checkpoint twelve times on slow storage; return its weights' MiB and what this process held after each, in MiB."""
    model = ErnieForPretraining(make_config(vocab_size=60_000, hidden_size=64), HEADS, seed=1)
    optimizer = adamw(model, weight_decay=0.01, beta2=0.98)
    at_once, held = threading.Semaphore(1), list[float]()

    def wait() -> None:
        assert at_once.acquire(blocking=False), "two saves at once"
        time.sleep(0.2)
        at_once.release()

    saver = Saver(folder, 1, 30, first=wait)
    for step in range(1, 13):
        saver.save(step, model, optimizer, {"step": step}, {"a": 1}, {})
        held.append(resident_mib())
    saver.wait()
    return sum(p.numel() * p.element_size() for p in model.parameters()) / 2**20, held


def test_saves_on_slow_storage_do_not_pile_up_in_memory(tmp_path: Path) -> None:
    """In a process of its own: what else runs in this one holds memory, too."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        size_mib, held = pool.submit(saved_slowly, tmp_path).result(timeout=120)
    assert size_mib > 14
    assert held[-1] - held[2] < 2 * size_mib, f"memory grew by {held[-1] - held[2]:.0f} MiB over nine saves of {size_mib:.0f} MiB"


def hungry(text: str) -> None:
    """Ask for more memory than this process may have, where the poison stands."""
    if POISON in text:
        used = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + (64 << 20), resource.getrlimit(resource.RLIMIT_AS)[1]))
        bytearray(256 << 20)


@pytest.fixture
def starving(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Split, Plan]:
    """A file with one document that takes more memory than there is, its split, and the plan of pass 1."""
    write_corpus(tmp_path / "in")
    path = tmp_path / "in" / "one.txt"
    path.write_text("\n\n".join([document(1), f"{document(2)}\n{POISON}。", document(3)]), encoding="utf-8")
    (split,) = plan_splits({"one": {"reader": "text", "path": str(path)}}, 1 << 20)
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "contamination.npy").write_bytes(contamination_table({}, normalise).to_bytes())
    cut = pass_one.segment_documents

    def segment(documents: Any, *rest: Any) -> Any:
        hungry("".join(p for d in documents for p in d.lowered))
        return cut(documents, *rest)

    monkeypatch.setattr(pass_one, "segment_documents", segment)
    return path, split, Plan(str(tmp_path), 7, SETTINGS, (), {"contamination.npy": "0"})


def test_a_document_for_which_memory_runs_out_three_times_is_named_with_its_size(starving: tuple[Path, Split, Plan]) -> None:
    path, split, plan = starving
    row = {"split": json.dumps(split.to_json())}
    assert [died(lambda: _work_row(row, number="1", plan=plan)) for _ in range(3)] == [True] * 3
    kind, code, _, where, _, found, _ = json.loads(_work_row(row, number="1", plan=plan)["outcome"])["error"]
    at, size = path.read_bytes().index(document(2).encode()), len(f"{document(2)}\n{POISON}。".encode())
    assert (kind, code) == ("ResourceError", "E-SPLIT-DIES")
    assert where.startswith(f"split 0 of corpus one, {path} ")
    assert found == f"it dies at {path} byte {at}, a record of {size} bytes"


def test_without_ray_the_split_for_which_memory_ran_out_is_named(starving: tuple[Path, Split, Plan], monkeypatch: pytest.MonkeyPatch) -> None:
    path, split, plan = starving
    monkeypatch.setattr(f"{__name__}.hungry", lambda _text: (_ for _ in ()).throw(MemoryError("no memory")))
    with pytest.raises(ResourceError, match=f"E-MEMORY .* at split 0 of corpus one, {path} ") as e:
        _work("1", split, plan)
    assert e.value.exit_code == 6
