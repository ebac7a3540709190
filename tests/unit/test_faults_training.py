"""What training does about vocabularies, rows, gradients, batches, stages and validations that go wrong (reliability F61-F63, F68, F71-F73, F77, T4)."""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from ranks_helper import Group, arguments, bits, done, last_step
from safetensors.torch import load_file, save_file
from test_feed import MASKING, NEXT, READING, ToySource
from test_loop import Run, poisoning
from training_helper import TASK_IDS, ToyFeed, ToyStep, make_batch, processes

from ernie_core import manifest
from ernie_core.data.order import TaskOrder
from ernie_core.data.rows import Rows
from ernie_core.data.shards import ShardSet, write_shard
from ernie_core.errors import InputError, IntegrityError
from ernie_core.manifest import Manifest, read_manifest, write_manifest
from ernie_core.training.feed import PretrainFeed, Source, Stage
from ernie_core.training.health import NONFINITE
from ernie_core.training.retention import complete, step_of
from ernie_core.training.worker import LocalWorker, Worker
from ernie_core.vocab import Vocab
from pipelines.prepared import VOCAB_PATH, prepared_tokenizer
from pipelines.pretrain_rank import train_rank
from pipelines.rank_state import CHECKPOINTS
from pipelines.ray_train import LocalHost

SIGKILLED = -9


def prepared_copy(recipe: Path, target: Path) -> Path:
    shutil.copytree(recipe.parent / "runs" / "ranks" / "prepare", target)
    return target


GOOD = b"[PAD]\n[CLS]\n[SEP]\n[MASK]\n[UNK]\na\nb\n"
VOCABULARIES = [
    ("a token twice", GOOD + b"a\n", "line 8"), ("no [MASK]", GOOD.replace(b"[MASK]\n", b""), "no [MASK]"),
    ("CR LF", GOOD.replace(b"\n", b"\r\n"), "line 1"), ("a blank line", GOOD.replace(b"a\n", b"a\n\n"), "line 7"),
    ("lines that changed places", b"[PAD]\t0\n[CLS]\t2\n[SEP]\t1\n[MASK]\t3\n[UNK]\t4\n", "line 2"), ("not UTF-8", GOOD + b"\xff\n", "line 8"),
]  # fmt: skip


@pytest.mark.parametrize(("data", "where"), [case[1:] for case in VOCABULARIES], ids=[case[0] for case in VOCABULARIES])
def test_a_vocabulary_that_is_none_is_refused_with_its_line(data: bytes, where: str) -> None:
    """F61, 6 of 8."""
    with pytest.raises(InputError, match="E-VOCAB-FORMAT") as e:
        Vocab.from_bytes(data, "vocab.txt")
    assert where in str(e.value)


def test_a_vocabulary_that_is_not_that_of_the_shards_is_refused(recipe: Path, tmp_path: Path) -> None:
    """F61, 8 of 8: two lines of the shards' table change places; the shards' manifest names another hash."""
    folder = prepared_copy(recipe, tmp_path / "prepare")
    table = folder / VOCAB_PATH
    whole, lines = table.read_bytes(), table.read_bytes().splitlines(keepends=True)
    table.write_bytes(b"".join([*lines[:20], lines[21], lines[20], *lines[22:]]))
    manifest._verified.clear()
    with pytest.raises(IntegrityError, match="E-VOCAB-HASH file was changed") as e:
        prepared_tokenizer(folder, read_manifest(folder))
    assert VOCAB_PATH in e.value.where
    table.write_bytes(whole)
    old = read_manifest(folder)
    files = tuple(dataclasses.replace(f, sha256="0" * 64) if f.path == VOCAB_PATH else f for f in old.files)
    write_manifest(folder, Manifest(old.step, old.settings, old.parents, files, old.facts))
    manifest._verified.clear()
    with pytest.raises(IntegrityError, match="E-VOCAB-HASH file was changed"):
        prepared_tokenizer(folder, read_manifest(folder))


# Column, the value that no table can hold, and the code; the toy model has 300 tokens, 48 places, 4 sentence types, 2 classes.
VALUES = [
    ("token_ids", 300, "E-TOKEN-RANGE"), ("token_ids", -1, "E-TOKEN-RANGE"), ("token_ids", 0, "E-TOKEN-RANGE"), ("position_ids", 48, "E-POS-RANGE"),
    ("sentence_type_ids", 4, "E-TYPE-RANGE"), ("seg_labels", 2, "E-SEG-RANGE"), ("labels", 2, "E-LABEL-RANGE"),
]  # fmt: skip


@pytest.mark.parametrize(("column", "value", "code"), VALUES, ids=[f"{code}-{value}" for _, value, code in VALUES])
def test_a_value_out_of_range_in_a_valid_shard_is_named_before_the_model_sees_it(
    recipe: Path, tmp_path: Path, column: str, value: int, code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F62, F63: shard, row and position; the shard was written anew, so its hashes are right."""
    monkeypatch.setattr("pipelines.rank_state.matmul_peak", lambda *_: 1.0)
    folder = prepared_copy(recipe, tmp_path / "prepare")
    old = read_manifest(folder)
    shards = ShardSet.open(folder, old, "next_sentence", "train", "parquet")
    shard = shards.shard_of(0)
    rows = Rows.concat([shards.read_group(g) for g in range(shards.num_groups) if shards.shard_of(g) == shard])
    getattr(rows, column)[3 if column == "labels" else int(rows.offsets[3]) + 5] = value
    written = write_shard(folder, shard, rows, task="next_sentence", subset="train", group_rows=16, encodings=["parquet", "text"])
    new = {entry.path: entry for entry in written}
    assert set(new) <= {f.path for f in old.files}
    write_manifest(folder, Manifest(old.step, old.settings, old.parents, tuple(new.get(f.path, f) for f in old.files), old.facts))
    with pytest.raises(IntegrityError) as e:
        train_rank({**arguments(recipe, tmp_path / "pretrain"), "prepared": str(folder)}, LocalWorker(torch.device("cpu")), LocalHost())
    place = "row 3" if column == "labels" else "row 3 position 5"
    assert (e.value.code, e.value.found, e.value.exit_code) == (code, str(value), 4)
    assert shard in e.value.where
    assert e.value.where.endswith(place)


def poisoned_ranks(value: float, where: str, folder: Path, worker: Worker) -> None:
    """Train 4 steps on `worker`; the loss or a gradient of rank 1 is not finite at step 2 (a micro-batch a step)."""

    class Small(ToyFeed):
        def next(self) -> ToyStep:
            whole = super().next()
            return ToyStep(whole.batches[:1])

    run = Run(Small(worker, rows=4), 4, worker, hook=poisoning({2} if worker.rank == 1 else set(), value, where))
    save_file(run.weights(), folder / f"rank{worker.rank}")
    (folder / f"skipped{worker.rank}").write_text(json.dumps([s.skipped for s in run.steps]))


class Without(ToyFeed):
    """A `ToyFeed` of one micro-batch a step that leaves out its second step."""

    def next(self) -> ToyStep:
        if self.step == 1:
            self.step += 1
        return ToyStep(super().next().batches[:1])


def ranks_without(folder: Path, worker: Worker) -> None:
    run = Run(Without(worker, rows=4), 3, worker)
    save_file(run.weights(), folder / f"rank{worker.rank}")


@pytest.mark.parametrize(("value", "where"), [(math.nan, "loss"), (math.nan, "gradient"), (math.inf, "gradient")])
def test_bad_numbers_on_one_rank_leave_the_step_out_on_both(tmp_path: Path, value: float, where: str) -> None:
    """F67, F68: weights equal to the bit those of a run without that batch, and the ranks' to each other."""
    for name, target in (("bad", functools.partial(poisoned_ranks, value, where)), ("without", ranks_without)):
        (tmp_path / name).mkdir()
        assert processes(target, tmp_path / name, 2) == [0, 0]
    expected = load_file(tmp_path / "without" / "rank0")
    for rank in (0, 1):
        assert json.loads((tmp_path / "bad" / f"skipped{rank}").read_text()) == ["", NONFINITE, "", ""]
        found = load_file(tmp_path / "bad" / f"rank{rank}")
        assert found.keys() == expected.keys()
        assert [name for name, p in found.items() if not torch.equal(p, expected[name])] == []


class Ragged:
    """Random batches of 1 to 4 rows, of which any target, label or token label may be missing, all of them too; sometimes no batch at all."""

    def __init__(self, seed: int) -> None:
        self.draw, self.step, self.empty = np.random.default_rng(seed), 0, Counter[str]()

    def next(self) -> ToyStep:
        draw, self.step = self.draw, self.step + 1
        if draw.random() < 0.02:
            self.empty["no rows"] += 1
            return ToyStep([])
        batch = make_batch("ragged", self.step, rows=int(draw.integers(1, 5)), task_id=int(draw.choice(TASK_IDS)))
        kept = draw.random(len(batch.target_ids)) < draw.choice([0.0, 0.3, 1.0])
        batch = dataclasses.replace(
            batch, target_positions=batch.target_positions[kept], target_ids=batch.target_ids[kept],
            labels=np.where(draw.random(len(batch.labels)) < draw.choice([0.0, 0.5]), batch.labels, -1),
            token_labels={name: np.where(draw.random(v.shape) < draw.choice([0.0, 0.1]), v, -1) for name, v in batch.token_labels.items()},
        )  # fmt: skip
        self.empty["no targets"] += not len(batch.target_ids)
        self.empty["nothing scored"] += (
            not len(batch.target_ids) and not (batch.labels >= 0).any() and not any((v >= 0).any() for v in batch.token_labels.values())
        )
        return ToyStep([batch])


@pytest.mark.parametrize("count", [500, pytest.param(10_000, marks=[pytest.mark.slow, pytest.mark.timeout(600)])])
def test_batches_in_which_anything_may_be_missing_never_give_a_number_that_is_none(count: int) -> None:
    """F71."""
    feed, moved = Ragged(71), 0
    run = Run(feed, count, lr_at=lambda _step: 1e-4)
    assert len(run.steps) == count
    assert min(feed.empty[kind] for kind in ("no rows", "no targets", "nothing scored")) > count // 200
    for step in run.steps:
        assert step.skipped == ""
        assert all(math.isfinite(loss) for loss in step.losses.values())
        assert math.isfinite(step.grad_norm)
        assert (step.grad_norm > 0) == bool(step.counts)
        moved += bool(step.counts)
    assert 0 < moved < count
    assert all(torch.isfinite(p).all() for p in run.weights().values())


def test_a_task_of_few_rows_goes_on_into_its_next_epochs_and_no_count_changes() -> None:
    """F72: 9 rows of next_sentence serve its 40 iterations."""
    plans = [["next_sentence"] * 40 + ["knowledge_masking"] * 5, ["next_sentence", "knowledge_masking"] * 3]
    sizes = {"next_sentence": [5, 4], "knowledge_masking": [40, 40]}
    sources = {}
    for task in (MASKING, NEXT):
        rows = ToySource(task.name, sizes[task.name])
        sources[task.name] = Source(task, rows, TaskOrder(rows.group_lengths, seed=7, task=task.name, window_groups=2, batch_tokens=96))
    feed = PretrainFeed(sources, [Stage(plan, "word", 0.15) for plan in plans], READING, lm_mode="always", rank=0, world=1)
    steps = [feed.next() for _ in range(feed.num_steps)]
    assert Counter(s.task for s in steps) == {"next_sentence": 43, "knowledge_masking": 8}
    assert [s.task for s in steps] == [*plans[0], *plans[1]]
    few = [s for s in steps if s.task == "next_sentence"]
    epochs = sorted({s.epoch for s in few})
    assert epochs == list(range(len(epochs)))
    assert len(epochs) >= 5
    for epoch in epochs[:-1]:
        seen = Counter(i for s in few if s.epoch == epoch for i in s.global_sample_ids.tolist())
        assert (len(seen), set(seen.values())) == (9, {1})


@pytest.mark.parametrize("optimizer", ["reset", "keep"])
def test_a_run_killed_twice_at_the_border_where_a_task_enters_has_the_bits_of_the_unbroken_one(recipe: Path, tmp_path: Path, optimizer: str) -> None:
    """F73."""
    changes, border = (f"pretrain.stage_optimizer={optimizer}",), 32
    assert Group(arguments(recipe, tmp_path / "whole", changes), 1).end() == [0]
    folder = tmp_path / "killed"
    for nth in (2, 1):  # the first stage has a border too
        assert Group(arguments(recipe, folder, changes), 1, failpoint=f"train.stage_border:{nth}").end() == [SIGKILLED]
        assert last_step(folder) == border
        assert [step_of(path) for path in complete(folder / CHECKPOINTS)] in ([32, 30], [30, 25])  # that of the border may be on its way
    assert not done(folder)
    newest = complete(folder / CHECKPOINTS)[0]
    before = load_file(newest / "model.safetensors")
    assert Group(arguments(recipe, folder, changes), 1).end() == [0]
    assert bits(folder) == bits(tmp_path / "whole")
    after = load_file(folder / "model" / "model.safetensors")
    assert after.keys() == before.keys()
    assert "heads.sentence_reordering.weight" in after


def test_a_validation_that_cannot_be_read_ends_the_run_behind_a_checkpoint_and_nothing_is_lost(recipe: Path, unbroken: Path, tmp_path: Path) -> None:
    """F77: mended, the same command goes on from the very step."""
    shards, folder = prepared_copy(recipe, tmp_path / "prepare"), tmp_path / "pretrain"
    path = next(shards / f.path for f in read_manifest(shards).files if "next_sentence/valid" in f.path and f.path.endswith(".parquet"))
    whole = path.read_bytes()
    path.write_bytes(whole[:-100])
    given = {**arguments(recipe, folder), "prepared": str(shards)}
    assert Group(given, 1).end() == [4]
    assert "E-SHARD-HASH" in (folder / "error-0").read_text(encoding="utf-8")
    assert last_step(folder) == 20
    assert step_of(complete(folder / CHECKPOINTS)[0]) == 20
    path.write_bytes(whole)
    assert Group(given, 1).end() == [0]
    assert bits(folder) == bits(unbroken)


def test_two_unbroken_runs_in_fresh_processes_are_equal_to_the_bit(recipe: Path, unbroken: Path, tmp_path: Path) -> None:
    """T4, with dropout: else equality after a kill would say nothing."""
    assert Group(arguments(recipe, tmp_path / "again"), 1).end() == [0]
    assert bits(tmp_path / "again") == bits(unbroken)
    assert len(bits(unbroken)["points"]) > 60
