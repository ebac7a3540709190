"""What a stage may set for itself: losses carried in other tasks' rows, masking, learning rate; and the table of stages that is printed before a run."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from recipe_helper import CORPORA, points, pretrained
from safetensors.torch import load_file

from ernie_core.data.shards import ShardSet
from ernie_core.errors import RecipeError
from ernie_core.manifest import read_manifest
from ernie_core.training.checkpoint import MODEL_NAME
from pipelines.pretrain import resolved_stages, stage_table
from pipelines.pretrain_rank import MODEL_FOLDER
from pipelines.rank_state import LOG_NAME
from pipelines.recipe import load_recipe

STAGES = """
name: carried
language: mixed
corpora: {corpora}
prepare:
  {{vocab_size: 700, max_seq_len: 48, valid_share: 0.2, group_rows: 16, max_reject_fraction: 1.0, carry: [capitalization, token_document],
    tasks: {{knowledge_masking: {{}}, capitalization: {{}}, token_document: {{}}, sentence_reordering: {{}}}}}}
pretrain:
  model: {{num_hidden_layers: 1, hidden_size: 16, num_attention_heads: 2}}
  iterations: {{knowledge_masking: 6, capitalization: 3, token_document: 3, sentence_reordering: 6}}
  stages:
    - {{enter: [knowledge_masking, capitalization, token_document]}}
    - {{enter: [sentence_reordering], mask_probability: 0.4, learning_rate: 2e-4, carry: [capitalization]}}
  batch_tokens: 512
  warmup_share: 0
  schedule: {schedule}
"""
WORDS = {"capitalization", "token_document"}


def written(folder: Path, *changes: tuple[str, str], schedule: str = "sequential") -> Path:
    text = STAGES.format(corpora=CORPORA.replace("\n", "\n  "), schedule=schedule)
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    path = folder / "carried.yaml"
    path.write_text(text)
    return path


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """The run, and what it said."""
    with pytest.MonkeyPatch.context() as patch:
        return pretrained(written(tmp_path_factory.mktemp("stages")), patch)


def test_a_stage_carries_the_losses_it_names_and_has_its_own_rate_and_masking(finished: tuple[Path, list[str]]) -> None:
    run, said = finished
    steps = [p["metrics"] for p in points(run) if "train/loss" in p["metrics"]]
    scored = [{name for name in (*WORDS, "sentence_reordering") if f"train/{name}/loss" in metrics} for metrics in steps]
    assert len(steps) == 18
    assert sorted(map(sorted, scored[:12])) == [[]] * 6 + [["capitalization"]] * 3 + [["token_document"]] * 3
    assert all(names <= {"sentence_reordering", "capitalization"} for names in scored[12:])
    assert sum("capitalization" in names for names in scored[12:]) >= 3  # a batch of Chinese rows alone has none
    assert steps[0]["train/learning_rate"] == pytest.approx(1e-3)
    assert steps[12]["train/learning_rate"] == pytest.approx(2e-4)
    rows = ShardSet.open(run / "prepare", read_manifest(run / "prepare"), "sentence_reordering", "train", "text").read_group(0)
    assert list(rows.token_labels) == ["capitalization", "token_document"]
    assert (rows.token_labels["capitalization"] >= 0).any()
    carried = read_manifest(run / "prepare").facts["tasks"]["sentence_reordering"]["carried"]
    assert list(carried) == ["capitalization", "token_document"]
    assert carried["capitalization"]["0"] > carried["capitalization"]["1"] > 0
    last = points(run)[-1]["metrics"]
    assert 0 <= last["valid/sentence_reordering/acc_2"] <= 1
    assert last["valid/knowledge_masking/lm_global_ppl"] == pytest.approx(math.exp(last["valid/knowledge_masking/lm_loss"]))
    assert last["valid/knowledge_masking/lm_global_ppl"] <= last["valid/knowledge_masking/lm_ppl"]
    assert f"acc_pairs: {last['valid/sentence_reordering/acc_pairs']:.6f}" in (run / "pretrain" / LOG_NAME).read_text()
    table = [line.split() for line in said if line.startswith("pretrain: ")]
    row = next(line for line in table if line[1:3] == ["2", "6"])
    assert row[1:] == ["2", "6", "word", "40%", "0.0002", "capitalization", "-", "-", "-", "6"]


def test_a_new_task_is_added_to_a_finished_run_by_one_more_stage(finished: tuple[Path, list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    run, _ = finished
    more = run.parents[1] / "more.yaml"
    more.write_text("""
base: carried.yaml
name: more
prepare: {tasks: {next_sentence: {}}}
pretrain:
  init: runs/carried
  stages: [{enter: [knowledge_masking, capitalization, token_document, sentence_reordering, next_sentence], learning_rate: 1e-12}]
  iterations: {knowledge_masking: 1, capitalization: 1, token_document: 1, sentence_reordering: 1, next_sentence: 3}
""")
    after, said = pretrained(more, monkeypatch)
    before, now = (load_file(folder / "pretrain" / MODEL_FOLDER / MODEL_NAME) for folder in (run, after))
    assert set(now) - set(before) == {"heads.next_sentence.weight", "heads.next_sentence.bias"}
    assert all(torch.allclose(now[name], before[name], atol=1e-7) for name in before)  # the rate is next to nothing: it began where the other ended
    assert "next_sentence" in "".join(said)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("carry: [capitalization, token_document]", "carry: [token_document]", "stage 2 carries capitalization, which prepare.carry does not"),
        ("enter: [knowledge_masking, capitalization, token_document]", "enter: [knowledge_masking, token_document]", "stage 2 carries capitalization, which has not"),
        ("carry: [capitalization, token_document]", "carry: [next_sentence]", "only labels of single tokens are carried: capitalization, token_document"),
        ("carry: [capitalization, token_document]", "carry: [token_document, token_document]", "stands there twice"),
        ("sentence_reordering: {}", "next_sentence: {}", "none of the tasks has rows that can hold"),
    ],
)  # fmt: skip
def test_what_cannot_be_carried_is_refused(old: str, new: str, message: str, tmp_path: Path) -> None:
    path = written(tmp_path, (old, new))
    if "has not" in message:  # it enters after the stage that carries it
        path.write_text(path.read_text().replace("  batch_tokens", "    - {enter: [capitalization]}\n  batch_tokens"))
    with pytest.raises(RecipeError) as e:
        load_recipe(path)
    assert message in str(e.value)


def test_the_table_of_stages_holds_the_exact_counts() -> None:
    one = {"enter": ["a"], "mask_unit": "basic", "mask_probability": 0.4, "learning_rate": None, "carry": []}
    two = {"enter": ["b"], "mask_unit": "entity", "mask_probability": None, "learning_rate": 5e-4, "carry": ["a"]}
    settings = {"schedule": "continual", "stages": [one, two], "mask_probability": 0.15, "learning_rate": 1e-3}
    stages = resolved_stages(settings, [{"a": 6}, {"a": 3, "b": 9}], {"b": 1})
    assert [line.split() for line in stage_table(stages)] == [
        ["pretrain:", "stage", "steps", "masking", "rate", "carries", "a", "b"],
        ["pretrain:", "1", "6", "basic", "40%", "0.001", "-", "6", "-"],
        ["pretrain:", "2", "12", "entity", "15%", "0.0005", "a", "3", "9"],
        ["pretrain:", "3", "1", "entity", "15%,", "long", "rows", "0.0005", "a", "-", "1"],
        ["pretrain:", "all", "19", "9", "10"],
    ]
