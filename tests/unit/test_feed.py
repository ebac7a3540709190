"""The feed: the same global batches for every world size, resumable at any step, hooks and masks keyed by sample."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ernie_core.data.order import TaskOrder
from ernie_core.data.rows import Rows
from ernie_core.data.shards import ShardSet, write_shard
from ernie_core.errors import InputError, IntegrityError
from ernie_core.manifest import Manifest
from ernie_core.schemas import Sample
from ernie_core.seeding import combine, key
from ernie_core.tasks.base import Task
from ernie_core.training.feed import CHAIN_START, PretrainFeed, Reading, Source, Stage, chain_hash, validation_batches

READING = Reading(seed=7, device_tokens=64, vocab_size=90, num_special=5, mask_id=3, pad_id=0)


class ToySource:
    """Row groups in memory behind the interface of a shard set; two groups a file."""

    def __init__(self, name: str, sizes: list[int], probability: float | None = None) -> None:
        rng = np.random.default_rng(len(name))
        self.samples = [[toy_sample(rng) for _ in range(size)] for size in sizes]
        self.group_lengths = [np.array([len(s.token_ids) for s in group], np.uint16) for group in self.samples]
        self.token_label_names: tuple[str, ...] = ()
        self._base, self._name, self._probability = key(name), name, probability
        self.reads = 0

    def sample_ids(self, groups, rows):
        return combine(self._base, (groups * 1000 + rows).astype(np.uint64))

    def gather(self, groups, rows):
        self.reads += len(groups)
        if not len(groups):
            return self.gather(np.array([0]), np.array([0])).take(np.empty(0, np.int64))
        picked = Rows.from_samples([self.samples[g][r] for g, r in zip(groups, rows, strict=True)], ())
        return replace(picked, sample_ids=self.sample_ids(groups, rows))

    def file_of(self, group):
        return f"{self._name}/train-{group // 2:05d}"

    def shard_of(self, group):
        return self.file_of(group)

    def mask_word_probability(self, group):
        return self._probability


def toy_sample(rng) -> Sample:
    n = int(rng.integers(8, 30))
    ids = [1, *rng.integers(5, 90, n).tolist(), 2]
    seg = [-1, *(np.arange(n) % 2).tolist(), -1]
    return Sample(ids, [0] * len(ids), list(range(len(ids))), seg, seg, [-1, *[0] * n, -1], int(rng.integers(0, 2)))


def reverse_by_key(sample: Sample, hook_key: int) -> Sample:
    """A toy read-time hook: the inner tokens turned around or not, by one bit of the key, which is the label."""
    turn = hook_key % 2
    inner = sample.token_ids[1:-1]
    return replace(sample, token_ids=[1, *(inner[::-1] if turn else inner), 2], label=turn)


def task(name: str, task_id: int, level: str = "sentence", at_read=None) -> Task:
    return Task(
        name=name, task_id=task_id, level=level, num_classes=0 if level == "mask" else 2, build=lambda *_: iter(()), source="toy", at_read=at_read
    )


MASKING, NEXT, TURNED = task("knowledge_masking", 0, "mask"), task("next_sentence", 7), task("sentence_reordering", 3, at_read=reverse_by_key)
SEQUENCES = (["knowledge_masking"] * 6 + ["next_sentence"] * 4, ["sentence_reordering", "knowledge_masking", "next_sentence"] * 8)


def sources(probability: float | None = None) -> dict[str, Source]:
    out = {}
    for t in (MASKING, NEXT, TURNED):
        rows = ToySource(t.name, [5, 7, 3, 6], probability)
        out[t.name] = Source(t, rows, TaskOrder(rows.group_lengths, seed=7, task=t.name, window_groups=2, batch_tokens=160))
    return out


def feed(
    rank: int = 0, world: int = 1, *, lm_mode: str = "always", unit: str = "word", masked: float = 0.15, probability=None, reading: Reading = READING
) -> PretrainFeed:
    stages = [Stage(SEQUENCES[0], unit, masked), Stage(SEQUENCES[1], unit, masked)]
    return PretrainFeed(sources(probability), stages, reading, lm_mode=lm_mode, rank=rank, world=world)


def steps_of(one: PretrainFeed) -> list:
    return [one.next() for _ in range(one.num_steps - one.step)]


def content(batch) -> list[tuple]:
    """What a batch holds, row by row, independent of its padding and its micro-batch."""
    width = batch.token_ids.shape[1]
    out = []
    for b, n in enumerate(batch.lengths.tolist()):
        here = batch.target_positions // width == b
        targets = list(zip((batch.target_positions[here] % width).tolist(), batch.target_ids[here].tolist(), strict=True))
        out.append((int(batch.sample_ids[b]), batch.token_ids[b, :n].tolist(), int(batch.labels[b]), targets))
    return out


def rows_seen(step) -> list[tuple]:
    return [row for batch in step.batches for row in content(batch)]


@pytest.mark.parametrize("world", [2, 3, 8])
def test_every_world_size_sees_the_same_global_batches(world):
    alone = steps_of(feed(probability=0.5))  # rows of one batch may be masked by word or by character
    ranks = [steps_of(feed(rank, world, probability=0.5)) for rank in range(world)]
    for number, expected in enumerate(alone):
        together = [row for rank in ranks for row in rows_seen(rank[number])]
        assert together == rows_seen(expected)
        assert {rank[number].chain for rank in ranks} == {expected.chain}
        assert {rank[number].tokens for rank in ranks} == {expected.tokens}


def test_the_mask_probability_is_the_share_of_targets():
    shares = {}
    for probability in (0.15, 0.4):
        batches = [b for step in steps_of(feed(unit="basic", masked=probability)) for b in step.batches]
        shares[probability] = sum(b.target_ids.size for b in batches) / sum(int((b.lengths - 2).sum()) for b in batches)
    assert shares == {p: pytest.approx(p, abs=0.02) for p in shares}


def test_a_rank_reads_its_own_rows_only():
    one = feed(1, 4)
    step = one.next()
    source = one._sources[step.task].rows
    assert source.reads == sum(len(b.lengths) for b in step.batches) < len(step.global_sample_ids)


def test_a_rank_without_rows_has_no_batches():
    steps = steps_of(feed(0, 100))
    assert all(step.batches == [] for step in steps)
    assert all(len(step.global_sample_ids) for step in steps)


@given(st.integers(0, 34), st.integers(1, 3))
@settings(max_examples=12)
def test_a_resumed_feed_goes_on_as_the_unbroken_one(stop, world):
    unbroken = feed(world - 1, world)
    before = [unbroken.next() for _ in range(stop)]
    state = json.loads(json.dumps(unbroken.state()))
    resumed = feed(world - 1, world)
    resumed.load_state(state)
    assert resumed.step == len(before)
    for expected, got in zip(steps_of(unbroken), steps_of(resumed), strict=True):
        assert rows_seen(got) == rows_seen(expected)
        assert (got.chain, got.progress, got.epoch, got.stage, got.file) == (
            expected.chain, expected.progress, expected.epoch, expected.stage, expected.file,
        )  # fmt: skip


def test_a_state_of_another_run_is_refused():
    with pytest.raises(IntegrityError) as error:
        feed().load_state({"step": 2, "cursors": {"next_sentence": [0, 0, 0]}, "chain": CHAIN_START})
    assert error.value.code == "E-FEED-STATE"
    with pytest.raises(IntegrityError, match="at step 99"):
        feed().load_state({**feed().state(), "step": 99})


def test_steps_follow_the_stages_sequences():
    one = feed()
    steps = steps_of(one)
    assert [s.task for s in steps] == [*SEQUENCES[0], *SEQUENCES[1]]
    assert [s.stage for s in steps] == [0] * 10 + [1] * 24
    assert [one.stage_of(i) for i in (0, 9, 10, 33)] == [(0, 0, 10), (0, 9, 10), (1, 0, 24), (1, 23, 24)]
    assert {s.task: s.task_id for s in steps} == {"knowledge_masking": 0, "next_sentence": 7, "sentence_reordering": 3}
    with pytest.raises(AssertionError, match="all stages are done"):
        one.next()


def test_an_epoch_of_a_task_reads_each_row_once_and_progress_ends_at_its_rows():
    seen: Counter = Counter()
    for step in steps_of(feed()):
        if step.task == "knowledge_masking" and step.epoch == 0:
            seen.update(step.global_sample_ids.tolist())
            assert step.progress == (sum(seen.values()), 21)
    assert len(seen) == 21
    assert set(seen.values()) == {1}


def test_device_tokens_cut_micro_batches_without_changing_rows_or_masks():
    small, large = steps_of(feed()), steps_of(feed(reading=replace(READING, device_tokens=100_000)))
    assert all(len(step.batches) == 1 for step in large)
    assert any(len(step.batches) > 1 for step in small)
    assert all(b.token_ids.size <= 64 for step in small for b in step.batches)
    assert [rows_seen(s) for s in small] == [rows_seen(s) for s in large]


def test_own_task_masks_only_masking_iterations():
    for step in steps_of(feed(lm_mode="own_task")):
        targets = sum(len(b.target_ids) for b in step.batches)
        assert step.mask_type == ("mask_word" if step.task == "knowledge_masking" else "none")
        assert (targets > 0) == (step.task == "knowledge_masking")


def test_under_always_every_task_is_masked():
    targets = Counter()
    for step in steps_of(feed()):
        targets[step.task] += sum(len(b.target_ids) for b in step.batches)
        assert step.mask_type == "mask_word"
    assert set(targets) == {"knowledge_masking", "next_sentence", "sentence_reordering"}


def test_a_read_time_hook_is_keyed_by_seed_epoch_and_sample():
    by_epoch: dict[int, dict[int, int]] = {0: {}, 1: {}}
    for step in steps_of(feed(lm_mode="own_task")):
        if step.task == "sentence_reordering" and step.epoch in by_epoch:
            by_epoch[step.epoch].update({sample_id: label for sample_id, _, label, _ in rows_seen(step)})
            for sample_id, _, label, _ in rows_seen(step):
                assert label == int(combine(key(7, "at_read", step.epoch), np.uint64(sample_id))) % 2
    shared = by_epoch[0].keys() & by_epoch[1].keys()
    assert {by_epoch[0][i] == by_epoch[1][i] for i in shared} == {True, False}


def test_a_file_lists_probability_draws_the_mask_type_once_a_file_visit():
    for probability, expected in ((1.1, {"mask_word"}), (0.0, {"mask_char"}), (0.5, {"mask_word", "mask_char"})):
        steps = steps_of(feed(probability=probability, unit="entity"))
        types: dict[tuple[str, int], set[str]] = {}
        for s in steps:
            types.setdefault((s.file, s.epoch), set()).add(s.mask_type)
        assert {kind for kinds in types.values() for kind in kinds} == expected
        assert all(len(kinds) == 1 for kinds in types.values())


def test_the_chain_hashes_the_previous_link_and_the_sorted_ids():
    ids = np.array([2**63 + 5, 3], np.uint64)
    expected = hashlib.sha256(b"\0" * 32 + (3).to_bytes(8, "little") + (2**63 + 5).to_bytes(8, "little")).hexdigest()
    assert chain_hash(CHAIN_START, ids) == expected
    assert chain_hash(expected, ids) != expected
    first, second = steps_of(feed())[:2]
    assert first.chain == chain_hash(CHAIN_START, first.global_sample_ids)
    assert second.chain == chain_hash(first.chain, second.global_sample_ids)


def valid(t: Task = NEXT, **options) -> list:
    rows = ToySource(t.name, [5, 7, 3, 6])
    return list(validation_batches(rows, t, READING, **{"max_rows": 12, "mask_unit": "word", **options}))


def test_validation_is_the_same_whenever_asked():
    first, again = valid(TURNED), valid(TURNED)
    assert [content(b) for b in first] == [content(b) for b in again]
    assert sum(len(b.lengths) for b in first) == 12
    assert any(len(b.target_ids) for b in first)


def test_validation_hooks_are_keyed_by_valid_and_not_by_an_epoch():
    rows = [row for b in valid(TURNED) for row in content(b)]
    assert [label for _, _, label, _ in rows] == [int(combine(key(7, "at_read", "valid"), np.uint64(i))) % 2 for i, *_ in rows]


def test_validation_rows_are_spread_over_all_groups():
    rows = ToySource("next_sentence", [5, 7, 3, 6])
    picked = {int(i) for b in valid() for i in b.sample_ids}
    per_group = [{int(i) for i in rows.sample_ids(np.full(n, g), np.arange(n))} & picked for g, n in enumerate([5, 7, 3, 6])]
    assert [len(p) for p in per_group] == [3, 4, 2, 3]


def test_ranks_share_the_validation_batches():
    alone = [content(b) for b in valid()]
    assert [content(b) for rank in range(2) for b in valid(rank=rank, world=2)] == alone[0::2] + alone[1::2]


def test_unmasked_validation_has_no_targets_and_the_same_rows():
    unmasked = valid(mask_unit=None)
    assert all(len(b.target_ids) == 0 and not (b.token_ids == 3).any() for b in unmasked)
    assert [b.sample_ids.tolist() for b in unmasked] == [b.sample_ids.tolist() for b in valid()]


def test_validation_reads_all_rows_where_there_are_fewer_than_asked():
    assert sum(len(b.lengths) for b in valid(max_rows=1000)) == 21


@pytest.fixture(scope="module")
def shard_folder(tmp_path_factory) -> tuple[Path, Manifest]:
    """Two real shards of a masking task, in both encodings, the second with a mask_word_probability."""
    folder = tmp_path_factory.mktemp("shards")
    toy, entries = ToySource("knowledge_masking", [70, 50]), []
    for number, extra in enumerate(({}, {"mask_word_probability": 0.5})):
        rows = Rows.from_samples(toy.samples[number])
        entries += write_shard(folder, f"shards/knowledge_masking/train-{number:05d}", rows, task="knowledge_masking", subset="train",
                               group_rows=16, encodings=["parquet", "text"], extra_facts=extra)  # fmt: skip
    return folder, Manifest("prepare", {}, {}, tuple(entries))


def shard_feed(shard_folder: tuple[Path, Manifest], encoding: str, unit: str = "word", of: Task = MASKING) -> PretrainFeed:
    rows = ShardSet.open(*shard_folder, "knowledge_masking", "train", encoding)
    order = TaskOrder(rows.group_lengths, seed=7, task="knowledge_masking", window_groups=3, batch_tokens=320)
    stages = [Stage(["knowledge_masking"] * 40, unit)]
    return PretrainFeed({"knowledge_masking": Source(of, rows, order)}, stages, READING, lm_mode="always", rank=0, world=1)


def test_both_encodings_of_real_shards_feed_the_same_batches(shard_folder):
    parquet, text = (steps_of(shard_feed(shard_folder, encoding)) for encoding in ("parquet", "text"))
    assert [rows_seen(s) for s in parquet] == [rows_seen(s) for s in text]
    assert [(s.chain, s.mask_type, s.tokens) for s in parquet] == [(s.chain, s.mask_type, s.tokens) for s in text]
    assert {s.mask_type for s in parquet} == {"mask_word", "mask_char"}
    assert parquet[0].file.endswith(".parquet")
    assert text[0].file.endswith(".txt.gz")


def test_the_ids_of_a_global_batch_are_those_of_the_rows_read(shard_folder):
    for step in steps_of(shard_feed(shard_folder, "parquet")):
        assert step.global_sample_ids.tolist() == [row[0] for row in rows_seen(step)]
        assert step.tokens == sum(int(b.lengths.sum()) for b in step.batches)


def test_text_shards_refuse_entity_masking_at_the_first_step(shard_folder):
    for of in (MASKING, replace(MASKING, at_read=reverse_by_key)):
        with pytest.raises(InputError, match="E-MASK-UNIT"):
            shard_feed(shard_folder, "text", "entity", of).next()
    steps_of(shard_feed(shard_folder, "parquet", "entity"))
