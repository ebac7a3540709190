"""Level A: ranks killed at any moment, and at every failpoint, end with the bits of unbroken ones (reliability T3, T4, F3, F10). Level B: T5, F11, F79."""

from __future__ import annotations

import math
import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from ranks_helper import LONG, Group, arguments, bits, done, last_step

from ernie_core.failpoints import NAMES
from pipelines.rank_state import LOG_NAME

SIGKILLED = -9
# What training and a checkpoint's save pass, in an order in which one run can be killed at each, and the visit at which it is.
POINTS = {
    "ckpt.before_tmp": 2, "ckpt.mid_write": 6, "ckpt.after_files": 1, "ckpt.before_manifest": 1, "ckpt.after_manifest": 1, "ckpt.mid_purge": 1,
    "train.after_forward": 10, "train.before_step": 3, "train.after_step": 7, "train.before_report": 2, "train.after_report": 4, "train.mid_eval": 1,
    "train.stage_border": 1,
}  # fmt: skip


class Unbroken(dict[tuple[int, tuple[str, ...]], dict[str, Any]]):
    """(World size, changes of the recipe) -> the bits of an unbroken run, made when first asked for."""

    def __init__(self, recipe: Path, root: Path) -> None:
        super().__init__()
        self.recipe, self.root = recipe, root

    def __missing__(self, key: tuple[int, tuple[str, ...]]) -> dict[str, Any]:
        world, changes = key
        folder = self.root / str(len(self))
        assert Group(arguments(self.recipe, folder, changes), world).end() == [0] * world
        self[key] = bits(folder)
        return self[key]


@pytest.fixture(scope="module")
def unbroken(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Unbroken:
    return Unbroken(recipe, tmp_path_factory.mktemp("unbroken"))


def test_every_failpoint_of_training_is_used() -> None:
    assert set(POINTS) == {name for name in NAMES if name.startswith(("ckpt.", "train."))}


def kill(recipe: Path, folder: Path, world: int, point: str, changes: tuple[str, ...] = ()) -> None:
    """Start the ranks, the first armed, and check that it was killed while work was pending."""
    codes = Group(arguments(recipe, folder, changes), world, failpoint=point).end()
    assert codes[0] == SIGKILLED, f"{point} did not come: {codes}"
    assert not done(folder), "the kill must land while work is pending"


def test_a_run_killed_at_every_failpoint_ends_with_the_bits_of_the_unbroken_one(recipe: Path, unbroken: Unbroken, tmp_path: Path) -> None:
    folder = tmp_path / "pretrain"
    for point, nth in POINTS.items():
        kill(recipe, folder, 1, f"{point}:{nth}")
    assert Group(arguments(recipe, folder), 1).end() == [0]
    assert bits(folder) == unbroken[1, ()]


@pytest.mark.parametrize("world", [2, 3])
def test_two_and_three_killed_ranks_end_with_the_bits_of_unbroken_ones(recipe: Path, unbroken: Unbroken, tmp_path: Path, world: int) -> None:
    folder = tmp_path / "pretrain"
    kill(recipe, folder, world, "train.before_step:17")
    assert Group(arguments(recipe, folder), world).end() == [0] * world
    assert bits(folder) == unbroken[world, ()]


def kill_at_random(recipe: Path, folder: Path, world: int, draw: random.Random) -> None:
    """Kill a random rank: at a step and a moment in it, some time after the start (maybe before the first step), or at a failpoint."""
    way = draw.random()
    if way < 0.3:
        point = draw.choice([name for name in POINTS if name.startswith("ckpt.")])
        kill(recipe, folder, world, f"{point}:{draw.randint(1, 2)}", LONG)
        return
    started = last_step(folder)
    group = Group(arguments(recipe, folder, LONG), world)
    if way < 0.8:
        group.wait_for(started + draw.randint(1, 14))
        time.sleep(draw.uniform(0, 0.03))
    else:
        time.sleep(draw.uniform(0.05, 2.5))
    victim = group.ranks[draw.randrange(world)]
    assert victim.exitcode is None, "the kill must land while work is pending"
    victim.kill()
    assert SIGKILLED in group.end()
    assert not done(folder), "the kill must land while work is pending"


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("number", range(10))
@pytest.mark.parametrize("world", [1, 2, 3])
def test_ten_kills_at_random_change_no_bit(recipe: Path, unbroken: Unbroken, tmp_path: Path, world: int, number: int) -> None:
    draw, folder = random.Random(100 * world + number), tmp_path / "pretrain"
    for _ in range(10):
        kill_at_random(recipe, folder, world, draw)
    assert Group(arguments(recipe, folder, LONG), world).end() == [0] * world
    assert bits(folder) == unbroken[world, LONG]
    assert (folder / LOG_NAME).read_text(encoding="utf-8").count("resumed from") >= 5


def test_a_rank_that_falls_silent_is_named_and_the_run_goes_on_afterwards(recipe: Path, unbroken: Unbroken, tmp_path: Path) -> None:
    folder = tmp_path / "pretrain"
    group = Group(arguments(recipe, folder), 2, wait_s=5.0)
    group.wait_for(7)
    silent = group.ranks[1].pid
    assert silent is not None
    os.kill(silent, signal.SIGSTOP)
    assert not done(folder), "the stop must land while work is pending"
    begun = time.monotonic()
    group.ranks[0].join(60)
    print(f"named after {time.monotonic() - begun:.1f} s")
    group.kill_all()
    assert group.ranks[0].exitcode == 6
    assert "E-RANK-SILENT rank 1 did not arrive" in (folder / "error-0").read_text(encoding="utf-8")
    assert Group(arguments(recipe, folder), 2).end() == [0, 0]
    assert bits(folder) == unbroken[2, ()]


def test_one_two_and_three_ranks_see_the_same_samples_and_nearly_the_same_losses(recipe: Path, tmp_path: Path) -> None:
    """Level B, with a kill at each change of the number of ranks: 1, 2, 3, 1."""
    changes = ("pretrain.model.dropout=0", "pretrain.iterations={knowledge_masking: 60, next_sentence: 20, sentence_reordering: 20}")
    assert Group(arguments(recipe, tmp_path / "one", changes), 1).end() == [0]
    folder = tmp_path / "changing"
    for world, nth in ((1, 27), (2, 25), (3, 25)):
        assert Group(arguments(recipe, folder, changes), world, failpoint=f"train.after_step:{nth}").end()[0] == SIGKILLED
        assert not done(folder), "the kill must land while work is pending"
    assert Group(arguments(recipe, folder, changes), 1).end() == [0]
    one, other = bits(tmp_path / "one"), bits(folder)
    assert other["result"]["chain"] == one["result"]["chain"]
    losses = {at: value for at, value in one["points"].items() if at[1].endswith("loss")}
    assert {step for step, _ in losses} == set(range(1, 101))
    worst = max(abs(other["points"][at] - value) / abs(value) for at, value in losses.items() if not math.isnan(value))
    print(f"largest relative difference of a loss over 100 steps: {worst:.1e}")
    assert worst <= 1e-4
    warned = (folder / LOG_NAME).read_text(encoding="utf-8")
    assert "E-RESUME-BITS" in warned
    assert "world: 2 in the checkpoint, 3 now" in warned
