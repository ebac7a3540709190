"""What the loop spends beside computing: reading, checking, padding, saving, going on: `make bench`. CPU time, so other work beside it matters little.

ERNIE_BENCH_PREPARED names a finished prepare step; without it the demo's text (news, People's Daily, reviews) is prepared first.
"""

from __future__ import annotations

import gzip
import os
import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from plain_reader import plain_rows
from ranks_helper import arguments, prepare
from test_bench_pretraining import HEADS, TINY
from training_helper import computing_threads

from ernie_core import manifest
from ernie_core.data.checks import check_rows
from ernie_core.data.order import Cursor, TaskOrder
from ernie_core.data.rows import Rows
from ernie_core.data.shards import ShardSet, write_shard
from ernie_core.data.text_format import decode_text
from ernie_core.manifest import Manifest, read_manifest
from ernie_core.model.ernie import ErnieForPretraining
from ernie_core.tasks.base import all_tasks
from ernie_core.training.feed import PretrainFeed, Reading, Source, Stage
from ernie_core.training.loop import train
from ernie_core.training.optim import adamw
from ernie_core.training.saver import Saver
from ernie_core.training.watched import WatchedFeed
from ernie_core.training.worker import LocalWorker
from pipelines.pretrain_rank import _Rank, train_rank
from pipelines.ray_train import LocalHost
from pipelines.recipe import load_recipe
from pipelines.workflow import run_recipe

pytestmark = [pytest.mark.bench, pytest.mark.timeout(3000)]
DEMO = Path(__file__).parents[2] / "pipelines" / "recipes" / "demo.yaml"
LONGEST = 128


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if place := os.environ.get("ERNIE_BENCH_PREPARED"):
        return Path(place)
    root = tmp_path_factory.mktemp("mix")
    run_recipe(load_recipe(DEMO, [f"root={root}", "workers=0"]), lambda _line: None, until="prepare")
    return root / "demo" / "prepare"


@pytest.fixture
def one_thread() -> Iterator[None]:
    """CPU time says what wall time would, if nothing waits for another thread."""
    with computing_threads(1):
        yield


def cpu_seconds(work: Callable[[], Any]) -> tuple[float, Any]:
    """Return the CPU time of this process during `work`, all its threads together, and what it returned."""
    begun = time.process_time()
    found = work()
    return time.process_time() - begun, found


def test_shards_are_read_twenty_times_as_fast_as_by_the_published_parser(test_data: Path, tmp_path: Path) -> None:
    source = test_data / "ernie_reference" / "demo_train_set.gz"
    rows = decode_text(gzip.decompress(source.read_bytes()), str(source))
    entries = write_shard(tmp_path, "shards/demo/train-00000", rows, task="demo", subset="train", group_rows=512, encodings=["parquet", "text"])
    said = Manifest("prepare", {}, {}, tuple(entries))
    check = partial(check_rows, vocab_size=18000, max_positions=513, sent_types=2, classes=2)

    def ours(encoding: str) -> Rows:
        """Read all of it as a fresh process does: hashes, pages and ranges checked."""
        manifest._verified.clear()
        shards = ShardSet.open(tmp_path, said, "demo", "train", encoding, check=check)
        return Rows.concat([shards.read_group(g) for g in range(shards.num_groups)])

    times: dict[str, list[float]] = {"published": [], "parquet": [], "text": []}
    for _ in range(3):
        seconds, theirs = cpu_seconds(lambda: list(plain_rows(source)))
        times["published"].append(seconds)
        for encoding in ("parquet", "text"):
            seconds, found = cpu_seconds(partial(ours, encoding))
            times[encoding].append(seconds)
            assert (len(found), found.num_tokens) == (len(theirs), sum(len(row[0]) for row in theirs))
            assert int(found.token_ids.sum(dtype=np.int64)) == sum(sum(row[0]) for row in theirs)
    medians = {side: statistics.median(values) for side, values in times.items()}
    for side, seconds in medians.items():
        print(f"\n{side:<9} {len(rows) / seconds:9.0f} rows/s, {seconds:.3f} s of CPU for {len(rows)} rows, {rows.num_tokens} tokens: {medians['published'] / seconds:.1f} times", end="")  # fmt: skip
    print()
    assert medians["published"] / medians["parquet"] >= 20


def test_padding_is_five_percent_at_most_and_the_ideal_is_reached(prepared: Path) -> None:
    """The ideal is a step without padding, from the length histogram; a peer that pads to the longest allowed row is printed beside it."""
    said, settings = read_manifest(prepared), load_recipe(DEMO).pretrain
    assert settings is not None
    shares: dict[int, float] = {}
    for batch_tokens in (settings.batch_tokens, 4096, 8192):
        real = places = 0.0
        for task, iterations in settings.iterations.items():
            rows = ShardSet.open(prepared, said, task, "train", "parquet")
            order = TaskOrder(
                rows.group_lengths, seed=7, task=task, window_groups=settings.window_groups, batch_tokens=batch_tokens, lengths=(0, LONGEST)
            )
            cursor, own, held, count = Cursor(), 0, 0, 0
            while cursor.epoch == 0:
                batch, cursor = order.next(cursor)
                lengths = np.concatenate([rows.group_lengths[g][batch.rows[batch.groups == g]] for g in np.unique(batch.groups).tolist()]).astype(int)
                own, held, count = own + int(lengths.sum()), held + len(lengths) * -(-int(lengths.max()) // 8) * 8, count + 1
            mean = np.concatenate(rows.group_lengths).mean()
            print(
                f"\n{batch_tokens} places a batch, {task}: mean length {mean:.1f}, padding {1 - own / held:.2%}; to {LONGEST} always: {1 - mean / LONGEST:.1%}",
                end="",
            )
            real, places = real + iterations * own / count, places + iterations * held / count
        shares[batch_tokens] = 1 - real / places
        print(
            f"\n{batch_tokens} places a batch, the demo's mix of tasks: padding {shares[batch_tokens]:.2%}, reached / ideal {real / places:.3f}",
            end="",
        )
    print()
    assert max(shares[settings.batch_tokens], shares[4096]) <= 0.05


class Timed:
    """A feed that keeps the CPU time its steps took."""

    reading = "shards"

    def __init__(self, feed: PretrainFeed) -> None:
        self.feed, self.seconds = feed, [0.0]

    def next(self) -> Any:
        begun = time.thread_time()
        step = self.feed.next()
        self.seconds.append(time.thread_time() - begun)
        return step


def test_data_checks_and_saves_take_a_small_share_of_a_step(prepared: Path, one_thread: None, tmp_path: Path) -> None:
    """At 4x312 in fp32, 2,048 places a batch, checkpoints as often as the recipe's default: data-wait 2 % at most, checks 1 %, saves 5 %."""
    said, steps, checking = read_manifest(prepared), 12, [0.0]
    settings = load_recipe(DEMO, ["pretrain.save_steps=200"]).pretrain
    assert settings is not None

    def check(rows: Rows, where: str) -> None:
        begun = time.thread_time()
        check_rows(rows, where, vocab_size=18000, max_positions=512, sent_types=4, classes=24, token_classes={"token_document": 2})
        checking[0] += time.thread_time() - begun

    sources = {}
    for name in ("knowledge_masking", "next_sentence"):
        rows = ShardSet.open(prepared, said, name, "train", "parquet", check=check)
        order = TaskOrder(rows.group_lengths, seed=7, task=name, window_groups=16, batch_tokens=2048, lengths=(0, LONGEST))
        sources[name] = Source(all_tasks()[name], rows, order)
    feed = Timed(PretrainFeed(sources, [Stage(list(sources) * steps, "word")], Reading(7, 4096, 18000, 5, 3, 0), lm_mode="always", rank=0, world=1))
    model = ErnieForPretraining(TINY, HEADS, seed=1)
    optimizer, found = adamw(model, weight_decay=0.01, beta2=0.98), []
    watched = WatchedFeed(feed, 60.0)
    seconds, _ = cpu_seconds(lambda: train(
        model, watched, optimizer, worker=LocalWorker(torch.device("cpu")), start_step=0, total_steps=steps, lr_at=lambda _: 1e-4,
        loss_weights={"lm": 1.0, "next_sentence": 1.0}, clip_norm=1.0, precision="fp32", dropout_seed=1, on_step=found.append, save_every=0,
        save=lambda *_: None, validate_every=0, validate=lambda _: None, should_stop=lambda: False,
    ))  # fmt: skip
    watched.close()
    saver = Saver(tmp_path, keep=2, timeout_s=300)

    def save_now(step: int) -> None:
        """Write a checkpoint to its end."""
        saver.save(step, model, optimizer, {"step": step}, {}, {})
        saver.wait()

    saves = [cpu_seconds(partial(save_now, step))[0] for step in (1, 2, 3)]
    a_step, save, wait = seconds / steps, statistics.median(saves), sum(feed.seconds) / seconds
    share = save / (settings.save_steps * a_step + save)
    print(f"\na step {a_step:.2f} s of CPU ({sum(r.tokens for r in found) / seconds:.0f} real tokens/s); reading, masking and padding {wait:.2%}, of it range checks {checking[0] / seconds:.3%}")  # fmt: skip
    size = sum(f.stat().st_size for f in next(iter(tmp_path.iterdir())).iterdir())
    print(f"a checkpoint of {size / 1e6:.0f} MB {save:.2f} s of CPU, copy, hashes and write: {share:.2%} at every {settings.save_steps} steps; 5 % at every {save / a_step / 0.05:.0f}")  # fmt: skip
    assert wait <= 0.02
    assert checking[0] / seconds < 0.01
    assert share <= 0.05


class Stopped(Exception):  # noqa: N818  not an error
    """The first step of a resumed run is done."""


def test_a_resume_takes_as_long_after_100000_steps_as_after_100(tmp_path: Path, one_thread: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the start of a rank to its first new step; places in the data and the journal are made up, the checkpoint is a real one."""
    recipe = prepare(tmp_path, monkeypatch)
    monkeypatch.setattr("pipelines.rank_state.matmul_peak", lambda *_: 1.0)
    changes = ("pretrain.iterations={knowledge_masking: 120000, next_sentence: 40000, sentence_reordering: 40000}",)

    def at(step: int) -> dict[str, Any]:
        """Return the arguments of a run that has done so many steps."""
        given = arguments(recipe, tmp_path / str(step), changes, skip_steps=20)
        rank = _Rank(given, LocalWorker(torch.device("cpu")), LocalHost())
        rank.restore()
        assert rank.journal is not None
        for done in range(20, step + 1, 20):
            rank.journal.log(done, {name: float(done) for name in ("train/loss", "train/lm_loss", "train/grad_norm", "perf/tokens_per_s")})
        rank.step = rank.feed.step = step
        rank.feed._cursors = {name: Cursor(step // 20, 0, 0) for name in rank.feed._cursors}
        rank.save(step, stops=True)
        rank.close(None)
        return given

    def first_step(given: dict[str, Any]) -> None:
        """Go on until the first new step is done."""
        with pytest.raises(Stopped):
            train_rank(given, LocalWorker(torch.device("cpu")), LocalHost())

    def stop(_self: Any, result: Any) -> None:
        steps.append(result.step)
        raise Stopped

    steps: list[int] = []
    runs = {step: at(step) for step in (100, 100_000)}
    monkeypatch.setattr(_Rank, "on_step", stop)
    times: dict[int, list[float]] = {100: [], 100_000: []}
    for number in range(6):
        for step, given in runs.items():
            seconds, _ = cpu_seconds(partial(first_step, given))
            if number:
                times[step].append(seconds)
    assert set(steps) == {101, 100_001}
    few, many = (statistics.median(times[step]) for step in (100, 100_000))
    print(
        f"\nfrom the start of a rank to its first new step: {few:.3f} s of CPU after 100 steps, {many:.3f} s after 100,000, of 200,000; medians of 5"
    )
    assert many <= 1.1 * few + 0.02
