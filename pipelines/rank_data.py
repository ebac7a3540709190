"""What one rank of pretraining reads: its tasks' shards, the feed of its steps, and its validation batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from ernie_core.data.batches import Batch
from ernie_core.data.checks import check_rows
from ernie_core.data.order import TaskOrder
from ernie_core.data.shards import ShardSet
from ernie_core.manifest import Manifest
from ernie_core.tasks.base import Task, all_tasks
from ernie_core.training.feed import LONG, PretrainFeed, Reading, Source, Stage, validation_batches
from ernie_core.training.schedule import task_sequence
from ernie_core.training.worker import Worker
from ernie_core.vocab import Vocab


class RankData:
    """Opens everything that a rank reads.

    Args:
        arguments: see `pipelines.pretrain.pretrain`.
        vocab, shards: of the prepared step.
        worker: this rank.
        say: receives a line about what is not there.

    Raises:
        InputError: E-TASK-EMPTY, a task without training rows.
    """

    def __init__(self, arguments: dict[str, Any], vocab: Vocab, shards: Manifest, worker: Worker, say: Callable[[str], None]) -> None:
        self._arguments, self._settings = arguments, arguments["settings"]
        self._vocab, self._shards, self._worker, self._say = vocab, shards, worker, say
        tasks = all_tasks()
        self.tasks = {name: tasks[name] for name in self._settings["iterations"]}
        self._reading = Reading(
            int(arguments["seed"]), arguments["machine"]["device_tokens"], arguments["config"]["vocab_size"], vocab.num_leading_specials, vocab.mask_id,
            vocab.pad_id,
        )  # fmt: skip
        stages = self._stages()
        self._has_long_stage = any(stage.long for stage in stages)
        self.trained_positions = self._arguments["longest_rows"][0]
        self._valid = {name: self._open(name, "valid") for name in self.tasks}
        self.feed = PretrainFeed(
            {name: self._source(task, self._open(name, "train")) for name, task in self.tasks.items()},
            stages, self._reading, lm_mode=self._settings["lm_mode"], rank=worker.rank, world=worker.world,
        )  # fmt: skip

    def validation(self, name: str, stage: int, mask_unit: str | None) -> Iterator[Batch]:
        """Yield this rank's validation batches of a task in a stage; `mask_unit` None = unmasked."""
        now = self.feed.stages[stage]
        up_to = self._arguments["longest_rows"][now.long]
        return validation_batches(
            self._valid[name], self.tasks[name], self._reading, max_rows=self._settings["validation_rows"], mask_unit=mask_unit,
            mask_probability=now.mask_probability, carry=now.carry, up_to=up_to, rank=self._worker.rank, world=self._worker.world,
        )  # fmt: skip

    def _open(self, name: str, subset: str) -> ShardSet:
        config, heads = self._arguments["config"], self._arguments["heads"]
        classes = {task.name: task.num_classes for task in all_tasks().values() if task.level == "token"}
        check = partial(
            check_rows, vocab_size=config["vocab_size"], max_positions=config["max_position_embeddings"], sent_types=config["sent_type_vocab_size"],
            classes=heads[name][1] if self.tasks[name].level == "sentence" else 0, token_classes=classes, pad_id=self._vocab.pad_id,
        )  # fmt: skip
        return ShardSet.open(Path(self._arguments["prepared"]), self._shards, name, subset, self._settings["encoding"], check=check)

    def _source(self, task: Task, rows: ShardSet) -> Source:
        short, longest = self._arguments["longest_rows"]

        def order(name: str, lengths: tuple[int, int]) -> TaskOrder:
            return TaskOrder(
                rows.group_lengths, seed=self._reading.seed, task=name, window_groups=self._settings["window_groups"],
                batch_tokens=self._settings["batch_tokens"], lengths=lengths,
            )  # fmt: skip

        has_long = task.long_rows and any((lengths > short).any() for lengths in rows.group_lengths)
        if has_long and not self._has_long_stage:
            self._say(f"task {task.name} has rows of more than {short} tokens, which no stage reads: pretrain.long_share gives it no iterations")
            has_long = False
        elif task.long_rows and self._has_long_stage and not has_long:
            self._say(f"task {task.name} has no rows of more than {short} tokens: the long stage reads its short ones")
        if has_long:
            self.trained_positions = longest
        return Source(task, rows, order(task.name, (0, short)), order(task.name + LONG, (short, longest)) if has_long else None)

    def _stages(self) -> list[Stage]:
        stages = self._arguments["stages"]
        plans = [stage["iterations"] for stage in stages]
        return [
            Stage(task_sequence(plans, i, self._reading.seed), stage["mask_unit"], stage["mask_probability"], stage["long"], tuple(stage["carry"]))
            for i, stage in enumerate(stages)
        ]
