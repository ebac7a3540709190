"""The long stage: some documents give long rows, short stages never read them, and the last stage reads nothing else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prepare_helper import write_corpus
from recipe_helper import model_facts, points, pretrained

from ernie_core.data.order import Cursor, TaskOrder
from ernie_core.data.shards import ShardSet
from ernie_core.manifest import read_manifest
from ernie_core.training.schedule import long_stage
from pipelines.rank_data import RankData

RECIPE = """
name: long
corpora:
  two: {reader: jsonl, path: "corpus/two.jsonl", options: {title: title}}
prepare:
  vocab_size: 300
  max_seq_len: 48
  long_rows: {max_seq_len: 160, share: 0.4}
  valid_share: 0.2
  group_rows: 16
  phrases: null
  tasks: {knowledge_masking: {}, next_sentence: {}, sentence_reordering: {}}
pretrain:
  model: {num_hidden_layers: 1, hidden_size: 16, num_attention_heads: 2}
  stages: [{enter: [knowledge_masking, next_sentence], mask_unit: basic}, {enter: [sentence_reordering], mask_unit: word}]
  iterations: {knowledge_masking: 12, next_sentence: 6, sentence_reordering: 8}
  long_share: 0.25
  batch_tokens: 400
  validation_steps: 6
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    folder = tmp_path_factory.mktemp("long")
    write_corpus(folder / "corpus")
    (folder / "long.yaml").write_text(RECIPE)
    with pytest.MonkeyPatch.context() as patch:
        return pretrained(folder / "long.yaml", patch)


def lengths(run: Path, task: str) -> np.ndarray:
    prepared = run / "prepare"
    rows = ShardSet.open(prepared, read_manifest(prepared), task, "train", "parquet", check=lambda *_: None)
    return np.concatenate(rows.group_lengths)


def test_documents_give_long_rows_to_tasks_that_can_have_them(run: tuple[Path, list[str]]) -> None:
    for task in ("knowledge_masking", "sentence_reordering"):
        found = lengths(run[0], task)
        assert 48 < found.max() <= 160, task
        assert (found <= 48).sum() > 20, task
    assert lengths(run[0], "next_sentence").max() <= 48, "its negatives come from a pool of short spans"


def test_the_last_stage_reads_long_rows_only_and_the_others_none(run: tuple[Path, list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, str, int, int]] = []
    made: list[RankData] = []
    build = RankData.__init__

    def keep(self: RankData, *arguments: object) -> None:
        build(self, *arguments)  # type: ignore[arg-type]
        made.append(self)

    monkeypatch.setattr(RankData, "__init__", keep)
    folder = run[0].parent.parent
    (folder / "again.yaml").write_text(RECIPE.replace("name: long", "name: again"))
    pretrained(folder / "again.yaml", monkeypatch)
    feed = made[0].feed
    feed.load_state({"step": 0, "cursors": {place: [0, 0, 0] for place in feed.state()["cursors"]}, "chain": "0" * 64})
    for _ in range(feed.num_steps):
        step = feed.next()
        found = np.concatenate([batch.lengths for batch in step.batches])
        seen.append((step.stage, step.task, int(found.min()), int(found.max())))
    assert [stage.long for stage in feed.stages] == [False, False, True]
    assert [len(stage.sequence) for stage in feed.stages] == [9, 10, 7]
    assert max(most for stage, _, _, most in seen if stage < 2) <= 48
    assert min(least for stage, task, least, _ in seen if stage == 2 and task != "next_sentence") > 48
    assert {task for stage, task, _, _ in seen if stage == 2} == {"knowledge_masking", "next_sentence", "sentence_reordering"}


def test_the_longest_trained_row_is_recorded(run: tuple[Path, list[str]]) -> None:
    assert model_facts(run[0])["trained_positions"] == 160
    assert any("masking word, long rows" in line for line in run[1])
    assert {p["step"] for p in points(run[0])} == set(range(1, 27))


@given(st.dictionaries(st.sampled_from("abcd"), st.integers(1, 50), min_size=1), st.floats(0, 0.99))
def test_iterations_are_cut_exactly_and_none_is_lost(iterations: dict[str, int], share: float) -> None:
    early, late = long_stage(iterations, share)
    assert {task: early[task] + late.get(task, 0) for task in iterations} == iterations
    assert min(early.values()) >= 1
    assert min(late.values(), default=1) >= 1


@given(st.lists(st.lists(st.integers(3, 60), min_size=1, max_size=30), min_size=1, max_size=6), st.integers(3, 60))
def test_rows_of_either_side_of_a_length_come_once_an_epoch(groups: list[list[int]], cut: int) -> None:
    arrays = [np.array(g, np.uint16) for g in groups]
    seen: list[tuple[int, int]] = []
    for bounds in ((0, cut), (cut, 60)):
        if not any(bounds[0] < length <= bounds[1] for g in groups for length in g):
            continue
        order = TaskOrder(arrays, seed=1, task="t", window_groups=2, batch_tokens=100, lengths=bounds)
        cursor = Cursor()
        while cursor.epoch == 0:
            batch, cursor = order.next(cursor)
            if batch.epoch:
                break
            rows = list(zip(batch.groups.tolist(), batch.rows.tolist(), strict=True))
            assert all(bounds[0] < groups[g][r] <= bounds[1] for g, r in rows)
            seen += rows
    assert sorted(seen) == [(g, r) for g, rows in enumerate(groups) for r in range(len(rows))]
