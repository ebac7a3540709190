"""One trial on several ranks: the same batches and the same result as on one, whatever the head; a rank may have no row."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from finetune_helper import TOKENIZER, WORDS, save_start
from ranks_helper import Group

from ernie_core.benchmarks.base import Benchmark, Example
from ernie_core.benchmarks.custom import benchmark_of
from ernie_core.benchmarks.custom_form import UNSAID
from ernie_core.benchmarks.rows import to_lines
from ernie_core.data.rows import Rows
from ernie_core.errors import RecipeError
from ernie_core.seeding import generator
from ernie_core.training.trial_feed import TrialFeed, epoch_batches
from pipelines.recipe import load_recipe
from pipelines.resources import bundles_of, cpus_of
from pipelines.trial import Trial, finished
from pipelines.trial_ranks import batch_words, trial_rank

SETTINGS = {
    "max_seq_len": 24, "eval_rows": None, "epochs": 2, "batch_size": 11, "eval_times": 3, "precision": "fp32", "dropout": 0.0, "warmup_share": 0.1,
    "schedule": "linear", "pooling": "cls", "weight_decay": 0.01, "layer_decay": 1.0, "patience": None, "class_weights": None,
}  # fmt: skip
TRAIN = 57
"""Rows: five batches of 11, and one of 2 for 3 ranks."""


def described(kind: str) -> dict[str, Any]:
    form = {"tagging": "conll", "span": "squad"}.get(kind, "jsonl")
    labels = {"classification": ["no", "yes"], "tagging": ["O", "B-LOC", "I-LOC"]}.get(kind, [])
    return {**asdict(UNSAID), "kind": kind, "format": form, "labels": labels}


def example(kind: str, subset: str, i: int) -> Example:
    """好 decides: the class, the number, the tag, the answer; contexts of spans are longer than a row, so that they have windows."""
    draw = generator("ranks", subset, i)
    text = [WORDS[k] for k in draw.integers(0, len(WORDS), int(draw.integers(24, 50) if kind == "span" else draw.integers(3, 20)))]
    at, label = int(draw.integers(0, len(text))), i % 3 == 0
    text[at] = "好" if label or kind == "span" else "坏"
    if kind == "tagging":
        return Example(tuple(text), tuple(int(c == "好") for c in text), id=str(i))
    if kind == "span":
        return Example(("好", "".join(text)), id=str(i), answers=(("好", at),))
    if kind == "regression":
        return Example(("".join(text),), value=2.0 * label + 0.01 * i, id=str(i))
    return Example(("".join(text),), (int(label),), id=str(i))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_start(tmp_path_factory.mktemp("model") / "step", seed=1)


def trial(kind: str, model: Path, root: Path, name: str, **changes: Any) -> Trial:
    """Write the rows of a benchmark of `kind`, and return a trial of it in a folder of its own."""
    benchmark: Benchmark = benchmark_of("mine", described(kind))
    data = root / "data"
    data.mkdir(exist_ok=True)
    for subset, count in (("train", TRAIN), ("dev", 40), ("test", 31)):
        (data / f"{subset}.jsonl").write_bytes(to_lines([example(kind, subset, i) for i in range(count)], benchmark))
    folder = root / name
    folder.mkdir()
    settings = {**SETTINGS, "custom": described(kind), **changes}
    return Trial("mine", "pretrained", 3e-3, 1, settings, str(data), str(model), str(model / "vocab.txt"), {}, (), str(folder))


def run(given: Trial, world: int, **more: Any) -> list[int]:
    return Group(asdict(given), world, train=trial_rank, **more).end()


def rows_of(folder: Path, subset: str) -> list[dict[str, Any]]:
    """Return what was predicted; a span's logits against those of the best answer.

    A shift common to all starts, or all ends, is in no loss: the true gradient of the head's bias is 0, and Adam makes steps of its rounding.
    """
    rows = [json.loads(line) for line in (folder / f"predictions_{subset}.jsonl").read_text(encoding="utf-8").splitlines()]
    for row in rows:
        for name in ("start_logit", "end_logit"):
            best = row["nbest"][0][name] if row.get("nbest") else 0.0
            for answer in row.get("nbest", ()):
                answer[name] -= best
    return rows


def near(value: Any) -> Any:
    """Return what equals `value` but for rounding of its numbers, at any depth; files hold 6 decimals."""
    if isinstance(value, dict):
        return {k: near(v) for k, v in value.items()}
    if isinstance(value, list):
        return [near(v) for v in value]
    return pytest.approx(value, rel=1e-4, abs=3e-6) if isinstance(value, float) else value


def losses(folder: Path) -> list[float]:
    lines = (folder / "trial.log").read_text(encoding="utf-8").splitlines()
    return [float(line.split("ave loss: ")[1].split(",")[0]) for line in lines]


@pytest.mark.parametrize(
    ("kind", "changes"), [("classification", {"class_weights": "balanced"}), ("regression", {"pooling": "mean"}), ("tagging", {}), ("span", {})]
)
def test_one_two_and_three_ranks_give_the_same_result(kind: str, changes: dict[str, Any], model: Path, tmp_path: Path) -> None:
    found = {}
    for world in (1, 2, 3):
        given = trial(kind, model, tmp_path, str(world), **changes)
        assert run(given, world) == [0] * world
        result = finished(given)
        assert result is not None
        found[world] = result, {subset: rows_of(tmp_path / str(world), subset) for subset in ("dev", "test")}
    for world in (2, 3):
        (one, one_rows), (many, many_rows) = found[1], found[world]
        assert [step for step, _ in many["dev_curve"]] == [step for step, _ in one["dev_curve"]]
        assert one["dev_curve"][-1][0] == 12 or kind == "span", "more windows than rows make more steps"
        assert many["best_step"] == one["best_step"]
        for subset in ("dev", "test"):
            assert many["scores"][subset] == pytest.approx(one["scores"][subset], rel=1e-4)
            assert [row["id"] for row in many_rows[subset]] == [row["id"] for row in one_rows[subset]]
            for a, b in zip(one_rows[subset], many_rows[subset], strict=True):
                assert near(a) == b
        if kind == "classification":
            assert losses(tmp_path / str(world)) == pytest.approx(losses(tmp_path / "1"), rel=1e-4)
    if kind == "span":
        benchmark = benchmark_of("mine", described(kind))
        rows = [example(kind, "dev", i) for i in range(40)]
        assert len(benchmark.encode(rows, benchmark, TOKENIZER, 24).samples) > len(rows), "no context is longer than a window"


def test_ranks_read_one_batch_between_them_and_one_may_be_empty(model: Path, tmp_path: Path) -> None:
    benchmark = benchmark_of("mine", described("classification"))
    samples = benchmark.encode([example("classification", "train", i) for i in range(TRAIN)], benchmark, TOKENIZER, 24).samples
    rows = Rows.from_samples(samples)
    rows = replace(rows, sample_ids=np.arange(TRAIN, dtype=np.uint64))
    feeds = [TrialFeed(rows, 11, 1, 0, rank=rank, world=3) for rank in range(3)]
    empty = 0
    for batch in epoch_batches(rows.lengths, 11, 1, 0):
        steps = [feed.next() for feed in feeds]
        assert all(np.array_equal(step.global_sample_ids, batch) for step in steps)
        assert np.array_equal(np.concatenate([b.sample_ids for step in steps for b in step.batches]), batch)
        empty += sum(not step.batches for step in steps)
    assert empty == 1


def test_a_killed_rank_leaves_a_trial_that_is_run_again_to_the_same_bits(model: Path, tmp_path: Path) -> None:
    whole, broken = (trial("classification", model, tmp_path, name, dropout=0.1) for name in ("whole", "broken"))
    assert run(whole, 2) == [0, 0]
    assert -9 in run(broken, 2, failpoint="train.after_step:7", victim=1)
    assert finished(broken) is None
    assert run(broken, 2) == [0, 0]
    first, second = (finished(t) for t in (whole, broken))
    assert first is not None
    assert second is not None
    assert {**first, "folder": "", "rows_per_s": 0} == {**second, "folder": "", "rows_per_s": 0}
    assert (tmp_path / "whole" / "predictions_test.jsonl").read_bytes() == (tmp_path / "broken" / "predictions_test.jsonl").read_bytes()


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_two_ranks_train_in_half_precision(precision: str, model: Path, tmp_path: Path) -> None:
    one, two = (trial("classification", model, tmp_path, str(world), precision=precision, epochs=1, eval_times=1) for world in (1, 2))
    assert run(one, 1) == [0]
    assert run(two, 2) == [0, 0]
    assert losses(tmp_path / "2") == pytest.approx(losses(tmp_path / "1"), rel=0.02)


def test_the_layout_of_a_batch_is_said_and_room_is_asked_for_all_ranks(tmp_path: Path) -> None:
    assert batch_words(16, 1) == "16 rows a batch (per device 16 x 1 device x 1 micro-batch)"
    assert batch_words(16, 3) == "16 rows a batch (per device 6, 5, 5 x 3 devices x 1 micro-batch)"
    (tmp_path / "own.yaml").write_text(
        "name: own\nfinetune: {model: m, workers_per_trial: 3, benchmarks: {mine: {train: a.tsv, dev: b.tsv, custom: {kind: regression, format: tsv}}}}\n"
    )
    recipe = load_recipe(tmp_path / "own.yaml", ["workers=2"])
    assert (bundles_of(recipe, "finetune"), cpus_of(recipe)) == ([{"CPU": 1.0}] * 3, 3)
    with pytest.raises(RecipeError, match="workers_per_trial"):
        load_recipe(tmp_path / "own.yaml", ["finetune.workers_per_trial=0"])
