"""What each training step consumes: task, global batch, this rank's masked micro-batches, and where the run stands (DESIGN, Order, A step)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ernie_core.data.batches import Batch, collate, split_rows
from ernie_core.data.masking import BASIC_CODE, MASK_TYPES, WORD_CODE, mask_rows, unit_code
from ernie_core.data.order import ANY_LENGTH, Cursor, TaskOrder, rank_slice
from ernie_core.data.rows import Rows
from ernie_core.errors import IntegrityError
from ernie_core.seeding import combine, generator, key
from ernie_core.tasks.base import Task

LM_MODES = ("always", "own_task")
CHAIN_START, VALID_EPOCH = "0" * 64, "valid"
LONG = ", long rows"
"""Behind a task's name: its place in its long rows."""


class RowSource(Protocol):
    """What the feed asks of a `data.shards.ShardSet`; only `gather` reads rows, the rest is in manifests."""

    @property
    def group_lengths(self) -> list[NDArray[np.uint16]]: ...

    @property
    def token_label_names(self) -> tuple[str, ...]: ...

    def gather(self, groups: NDArray[np.int64], rows: NDArray[np.int64]) -> Rows: ...

    def sample_ids(self, groups: NDArray[np.int64], rows: NDArray[np.int64]) -> NDArray[np.uint64]: ...

    def file_of(self, group: int) -> str: ...

    def shard_of(self, group: int) -> str: ...

    def mask_word_probability(self, group: int) -> float | None: ...


@dataclass(frozen=True)
class Source:
    """A task, its training rows and their order; `long_order`: of its long rows, for the long stage, None where it has none."""

    task: Task
    rows: RowSource
    order: TaskOrder
    long_order: TaskOrder | None = None


@dataclass(frozen=True)
class Stage:
    """One stage.

    Args:
        sequence: the task of each iteration (`schedule.task_sequence`).
        mask_unit: what masking hides (`masking.MASK_UNITS`).
        mask_probability: of a unit being a masking target.
        long: whether it reads long rows.
        carry: token-level tasks whose labels are scored in other tasks' rows too, where these hold them.
    """

    sequence: Sequence[str]
    mask_unit: str
    mask_probability: float = 0.15
    long: bool = False
    carry: tuple[str, ...] = ()


@dataclass(frozen=True)
class Reading:
    """How stored rows become a micro-batch.

    Args:
        seed: the recipe's seed.
        device_tokens: most padded tokens in a micro-batch.
        vocab_size, num_special, mask_id, pad_id: of the vocabulary; see `masking.mask_rows`.
    """

    seed: int
    device_tokens: int
    vocab_size: int
    num_special: int
    mask_id: int
    pad_id: int


@dataclass(frozen=True)
class FeedStep:
    """One training step, as one rank sees it.

    Args:
        task, task_id: of every row.
        stage, epoch: from 0; epoch is the task's own.
        progress: (rows of the epoch consumed with this step, rows of an epoch).
        file: shard of the first row, and mask_type how it is masked, both for the log line; "none" where nothing is masked.
        batches: this rank's micro-batches; none where the global batch has fewer rows than there are ranks.
        global_sample_ids: uint64[n], of all ranks' rows, in storage order.
        tokens: real tokens of all ranks' rows.
        chain: hash of all steps up to this one, see `chain_hash`.
    """

    task: str
    task_id: int
    stage: int
    epoch: int
    progress: tuple[int, int]
    file: str
    mask_type: str
    batches: list[Batch]
    global_sample_ids: NDArray[np.uint64]
    tokens: int
    chain: str


def chain_hash(previous: str, sample_ids: NDArray[np.uint64]) -> str:
    """Return the sample chain after a step: SHA-256 of the previous 64 hex digits and the sorted ids (reliability.md 4.4).

    Example: ``chain_hash(CHAIN_START, np.array([2, 1], np.uint64)) == chain_hash(CHAIN_START, np.array([1, 2], np.uint64))``.
    """
    return hashlib.sha256(bytes.fromhex(previous) + np.sort(sample_ids).astype("<u8").tobytes()).hexdigest()


class PretrainFeed:
    """The steps of a pretraining run, one after the other, resumable at any of them.

    Args:
        sources: per task name.
        stages: in order; their sequences name tasks of `sources`.
        reading: how rows become micro-batches.
        lm_mode: "always" masks every batch; "own_task" only those of tasks of level "mask".
        rank, world: which part of each global batch this feed reads.

    `stages`, `step` (steps consumed), `num_steps` (of all stages) and `reading` (what `next` reads, for people) may be read.
    """

    def __init__(self, sources: Mapping[str, Source], stages: Sequence[Stage], reading: Reading, *, lm_mode: str, rank: int, world: int) -> None:
        assert lm_mode in LM_MODES, lm_mode
        assert 0 <= rank < world, (rank, world)
        self._sources, self.stages, self._reading = dict(sources), list(stages), reading
        self._lm_mode, self._rank, self._world = lm_mode, rank, world
        self._stage_ends = np.cumsum([len(stage.sequence) for stage in self.stages])
        self.num_steps = int(self._stage_ends[-1])
        self.step, self.reading = 0, ""
        self._orders = {name: source.order for name, source in self._sources.items()}
        self._orders |= {name + LONG: source.long_order for name, source in self._sources.items() if source.long_order is not None}
        self._cursors = {place: Cursor() for place in self._orders}
        self._chain = CHAIN_START

    def stage_of(self, step: int) -> tuple[int, int, int]:
        """Return (stage, step inside it, steps of the stage) of a step from 0 to num_steps - 1.

        Example (two stages of 10 steps): ``feed.stage_of(12)`` -> ``(1, 2, 10)``.
        """
        stage = int(np.searchsorted(self._stage_ends, step, side="right"))
        size = len(self.stages[stage].sequence)
        return stage, step - (int(self._stage_ends[stage]) - size), size

    def next(self) -> FeedStep:
        """Return the next step and move on; there are `num_steps` of them.

        Raises:
            InputError: E-MASK-UNIT, see `masking.mask_rows`.
            IntegrityError: a shard is damaged, see `ShardSet.read_group`.
        """
        assert self.step < self.num_steps, "all stages are done"
        stage, inside, _ = self.stage_of(self.step)
        now = self.stages[stage]
        name = now.sequence[inside]
        source = self._sources[name]
        place = name + LONG if now.long and source.long_order is not None else name
        order = self._orders[place]
        batch, after = order.next(self._cursors[place])
        total = order.num_rows
        done = order.progress(after)[0] if after.epoch == batch.epoch else total
        self.reading = f"step {self.step + 1}, task {name}, {source.rows.file_of(int(batch.groups[0]))}"
        ids = source.rows.sample_ids(batch.groups, batch.rows)
        unit = now.mask_unit if self._lm_mode == "always" or source.task.level == "mask" else None
        codes = None if unit is None else _unit_codes(source.rows, batch.groups, unit, self._reading.seed, batch.epoch)
        mine = rank_slice(len(ids), self._rank, self._world)
        rows = read_rows(source.rows, source.task, batch.groups[mine], batch.rows[mine], self._reading.seed, batch.epoch)
        rows = _scored(rows, source.task, now.carry)
        batches = list(_micro_batches(rows, None if codes is None else codes[mine], source.task, self._reading, now.mask_probability, batch.epoch))
        self._cursors[place] = after
        self._chain = chain_hash(self._chain, ids)
        self.step += 1
        return FeedStep(
            task=name, task_id=source.task.task_id, stage=stage, epoch=batch.epoch, progress=(done, total),
            file=source.rows.file_of(int(batch.groups[0])), mask_type="none" if codes is None else MASK_TYPES[int(codes[0])],
            batches=batches, global_sample_ids=ids, tokens=order.tokens(batch), chain=self._chain,
        )  # fmt: skip

    def state(self) -> dict[str, Any]:
        """Return where the feed stands, as JSON values; the same for every rank and world size.

        Example: ``{"step": 3, "cursors": {"next_sentence": [0, 0, 3]}, "chain": "9f…"}``.
        """
        return {"step": self.step, "cursors": {name: list(c) for name, c in sorted(self._cursors.items())}, "chain": self._chain}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state()` of a run with the same tasks and stages.

        Raises:
            IntegrityError: E-FEED-STATE, the state is of a run with other tasks or more steps.
        """
        cursors = {name: Cursor(*map(int, place)) for name, place in state["cursors"].items()}
        step = int(state["step"])
        if set(cursors) != set(self._orders) or not 0 <= step <= self.num_steps:
            raise IntegrityError(
                "E-FEED-STATE", "the checkpoint's place in the data is of another run",
                expected=f"tasks {', '.join(sorted(self._orders))} and at most {self.num_steps} steps",
                found=f"tasks {', '.join(sorted(cursors))} at step {step}", fix="resume with the recipe that began the run, or give a new name",
            )  # fmt: skip
        self._cursors, self.step, self._chain = cursors, step, str(state["chain"])


def validation_batches(
    rows: RowSource, task: Task, reading: Reading, *, max_rows: int, mask_unit: str | None, mask_probability: float = 0.15,
    carry: Sequence[str] = (), up_to: int = ANY_LENGTH[1], rank: int = 0, world: int = 1,
) -> Iterator[Batch]:  # fmt: skip
    """Yield the same validation batches whenever asked: rows spread evenly over the shards, drawn and masked with epoch key "valid".

    Args:
        rows: the task's validation rows.
        task: the task.
        reading: how rows become micro-batches.
        max_rows: most rows to read.
        mask_unit, mask_probability, carry: of the stage, see `Stage`; mask_unit None = unmasked input.
        up_to: tokens of the longest row to read: positions that no stage has trained yet say nothing.
        rank, world: this rank yields every world-th batch; the batches themselves do not depend on it.
    """
    group_lengths = rows.group_lengths
    readable = [np.flatnonzero(lengths <= up_to) for lengths in group_lengths]
    sizes = np.array([len(rows_of) for rows_of in readable], dtype=np.int64)
    total = int(sizes.sum())
    count = min(total, max_rows)
    flat = np.arange(count, dtype=np.int64) * total // max(1, count)
    ends = np.cumsum(sizes)
    groups = np.searchsorted(ends, flat, side="right")
    inside = np.array([readable[g][i] for g, i in zip(groups.tolist(), (flat - (ends - sizes)[groups]).tolist(), strict=True)], dtype=np.int64)
    lengths = np.array([group_lengths[g][r] for g, r in zip(groups.tolist(), inside.tolist(), strict=True)], dtype=np.int64)
    by_length = np.argsort(lengths, kind="stable")  # less padding
    parts = [by_length[part] for part in split_rows(lengths[by_length], reading.device_tokens)][rank::world]
    if not parts:
        return
    needed = np.sort(np.concatenate(parts))  # each row group is read once
    codes = None if mask_unit is None else _unit_codes(rows, groups[needed], mask_unit, reading.seed, VALID_EPOCH)
    read = _scored(read_rows(rows, task, groups[needed], inside[needed], reading.seed, VALID_EPOCH), task, carry)
    for part in parts:
        at = np.searchsorted(needed, part)
        yield from _micro_batches(read.take(at), None if codes is None else codes[at], task, reading, mask_probability, VALID_EPOCH)


def _unit_codes(rows: RowSource, groups: NDArray[np.int64], unit: str, seed: int, epoch: int | str) -> NDArray[np.int64]:
    """Return per row the masking unit: the stage's, or, for a shard with a mask_word_probability, one draw per visit of the file.

    Word masking if the draw is below the probability, else basic, as in the seed's file lists.
    """
    code_of = {}
    for group in np.unique(groups).tolist():
        probability = rows.mask_word_probability(group)
        code_of[group] = unit_code(unit)
        if probability is not None:
            code_of[group] = WORD_CODE if generator(seed, "mask_type", rows.shard_of(group), epoch).random() < probability else BASIC_CODE
    return np.array([code_of[group] for group in groups.tolist()], dtype=np.int64)


def read_rows(source: RowSource, task: Task, groups: NDArray[np.int64], rows: NDArray[np.int64], seed: int, epoch: int | str) -> Rows:
    """Gather rows and apply the task's read-time hook, keyed by (seed, epoch, sample id)."""
    stored = source.gather(groups, rows)
    if task.at_read is None or not len(stored):
        return stored
    keys = combine(key(seed, "at_read", epoch), stored.sample_ids).tolist()
    samples = [task.at_read(stored.sample(i), keys[i]) for i in range(len(stored))]
    read = Rows.from_samples(samples, source.token_label_names).with_sample_ids(stored.sample_ids)
    return read if stored.unit_labels is not None else replace(read, unit_labels=None, unit_kind=None)


def _scored(rows: Rows, task: Task, carry: Sequence[str]) -> Rows:
    """Return the rows with the token labels that this stage scores: a token-level task's own, and those it carries."""
    return replace(rows, token_labels={name: labels for name, labels in rows.token_labels.items() if name == task.name or name in carry})


def _micro_batches(
    rows: Rows, codes: NDArray[np.int64] | None, task: Task, reading: Reading, probability: float, epoch: int | str
) -> Iterator[Batch]:
    """Cut rows into micro-batches, mask each (unless `codes` is None) and pad it."""
    for part in split_rows(rows.lengths, reading.device_tokens):
        few = rows.take(np.arange(part.start, part.stop))
        masked = None
        if codes is not None:
            masked = mask_rows(few, unit=codes[part], seed=reading.seed, epoch=epoch, vocab_size=reading.vocab_size,
                               num_special=reading.num_special, mask_id=reading.mask_id, probability=probability)  # fmt: skip
        yield collate(few, masked, task_id=task.task_id, pad_id=reading.pad_id)
