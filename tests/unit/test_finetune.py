"""Fine-tuning: trials learn what can be learnt, neither arm has a handicap, and finished trials are never run again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from finetune_helper import CONFIG, SETTINGS, SIZES, TOKENIZER, imported_facts, planted, save_start, toy_step
from hypothesis import given
from hypothesis import strategies as st

from ernie_core.benchmarks.base import Benchmark, Encoded
from ernie_core.benchmarks.classification import REVIEWS
from ernie_core.benchmarks.rows import to_lines
from ernie_core.benchmarks.sequence_labelling import DAILY_NER
from ernie_core.data.rows import Rows
from ernie_core.errors import InputError, RecipeError
from ernie_core.manifest import FileEntry, Manifest, atomic_write, write_manifest
from ernie_core.model.ernie import ErnieForBenchmark
from ernie_core.seeding import generator
from ernie_core.training.finetune import TrialResult, _Best, predict, run_trial
from ernie_core.training.trial_feed import epoch_batches
from pipelines.finetune import finetune
from pipelines.journal import JOURNAL_NAME, read_points


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_start(tmp_path_factory.mktemp("model") / "step", seed=1)


def _trial(model: Path, benchmark: Benchmark = REVIEWS, *, pretrained: bool = False, seed: int = 1, **changes: Any) -> TrialResult:
    settings, data = replace(SETTINGS, **changes), _encoded(benchmark)
    return run_trial(model_folder=model, pretrained=pretrained, benchmark=benchmark, data=data, pad_id=0, seed=seed, settings=settings, threads=1)


def _encoded(benchmark: Benchmark) -> dict[str, Encoded]:
    return {subset: benchmark.encode(planted(benchmark, subset), benchmark, TOKENIZER, 24) for subset in SIZES}


@given(st.lists(st.integers(3, 128), min_size=1, max_size=200), st.integers(1, 9), st.integers(0, 3))
def test_every_row_is_read_once_an_epoch_in_batches_of_the_given_size(lengths: list[int], batch_size: int, epoch: int) -> None:
    batches = epoch_batches(np.array(lengths), batch_size, 7, epoch)
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(lengths)))
    assert sorted(len(b) for b in batches)[1:] == [batch_size] * (len(batches) - 1)


def test_batches_hold_rows_of_similar_length_in_another_order_each_epoch() -> None:
    lengths = generator("lengths").integers(3, 129, 1000)
    batches = epoch_batches(lengths, 16, 7, 0)
    padded = sum(len(b) * lengths[b].max() for b in batches)
    assert padded < 1.15 * lengths.sum()
    again, later, other = (epoch_batches(lengths, 16, s, e) for s, e in ((7, 0), (7, 1), (8, 0)))
    assert all(np.array_equal(a, b) for a, b in zip(batches, again, strict=True))
    assert not np.array_equal(np.concatenate(batches), np.concatenate(later))
    assert not np.array_equal(np.concatenate(batches), np.concatenate(other))


@pytest.mark.parametrize("benchmark", [REVIEWS, DAILY_NER])
def test_predictions_stand_in_the_order_of_rows_whatever_the_batches(benchmark: Benchmark) -> None:
    model = ErnieForBenchmark(replace(CONFIG, initializer_range=1.0), benchmark.kind, len(benchmark.labels), seed=3)
    samples = benchmark.encode(planted(benchmark, "dev"), benchmark, TOKENIZER, 24).samples
    together = predict(model, Rows.from_samples(samples), pad_id=0, precision="fp32")
    alone = [predict(model, Rows.from_samples([s]), pad_id=0, precision="fp32") for s in samples]
    np.testing.assert_allclose(together, np.concatenate(alone), rtol=1e-4, atol=1e-4)
    assert len(set(together.argmax(-1).tolist())) > 1


@pytest.mark.parametrize("benchmark", [REVIEWS, DAILY_NER])
def test_a_trial_learns_a_planted_signal(benchmark: Benchmark, checkpoint: Path) -> None:
    result = _trial(checkpoint, benchmark)
    score = {subset: benchmark.metric.of(_encoded(benchmark)[subset].outcomes(result.outputs[subset])) for subset in ("dev", "test")}
    assert score["test"] is not None
    assert score["test"] >= 0.95
    assert [step for step, _ in result.dev_curve] == [25, 50, 75]
    assert score["dev"] == max(s for _, s in result.dev_curve if s is not None)
    assert not result.diverged
    assert not result.stopped_early
    assert result.rows_per_s > 0


def test_the_arms_differ_in_nothing_but_the_encoder_s_start(checkpoint: Path) -> None:
    # The toy checkpoint holds the untrained start of seed 1: "pretrained" from it must equal "untrained" with seed 1 to the bit.
    untrained = _trial(checkpoint, pretrained=False, seed=1, epochs=1)
    pretrained = _trial(checkpoint, pretrained=True, seed=1, epochs=1)
    assert pretrained.dev_curve == untrained.dev_curve
    assert np.array_equal(pretrained.outputs["test"], untrained.outputs["test"])
    assert _trial(checkpoint, pretrained=True, seed=2, epochs=1).dev_curve != _trial(checkpoint, pretrained=False, seed=2, epochs=1).dev_curve


def test_the_earliest_of_the_best_evaluations_gives_the_weights() -> None:
    model = ErnieForBenchmark(CONFIG, "classification", 2, seed=3)
    best = _Best(model)
    for step, score in ((1, None), (2, 0.5), (3, 0.7), (4, 0.7), (5, None)):
        with torch.no_grad():
            model.output.bias.fill_(float(step))
        best.offer(step, score)
    best.restore()
    assert (best.step, best.score, float(model.output.bias.detach()[0])) == (3, 0.7, 3.0)


def test_without_a_defined_dev_score_the_first_evaluation_counts_and_the_score_is_none() -> None:
    best = _Best(ErnieForBenchmark(CONFIG, "classification", 2, seed=3))
    best.offer(5, None)
    best.offer(9, None)
    assert (best.step, best.score) == (5, None)


def test_a_trial_that_diverges_is_a_result_and_not_an_end(checkpoint: Path) -> None:
    result = _trial(checkpoint, learning_rate=1e25, eval_times=40)
    assert result.diverged
    assert len(result.outputs["test"]) == SIZES["test"]


# The step


def _stamps(folder: Path) -> dict[str, int]:
    return {p.parent.name: p.stat().st_mtime_ns for p in sorted((folder / "trials").glob("*/manifest.json"))}


@pytest.fixture(scope="module")
def finished_step(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Manifest]:
    root = tmp_path_factory.mktemp("run")
    context, arguments, _ = toy_step(root)
    return root, finetune(context, **arguments)


def test_results_hold_grid_trials_and_interval_of_each_benchmark(finished_step: tuple[Path, Manifest]) -> None:
    root, manifest = finished_step
    assert [f.path for f in manifest.files] == ["mistakes.html", "results.json"]
    results = json.loads((root / "finetune" / "results.json").read_bytes())["benchmarks"]
    assert list(results) == ["reviews", "daily_ner"]
    assert [results[name]["metric"] for name in results] == ["accuracy", "chunk_f1"]
    for entry in results.values():
        assert entry["rows"] == SIZES
        for arm in ("pretrained", "untrained"):
            found = entry["arms"][arm]
            assert [rate for rate, _ in found["grid"]] == [1e-3, 3e-3]
            assert found["learning_rate"] == max(found["grid"], key=lambda g: (g[1], -g[0]))[0]
            assert [t["seed"] for t in found["trials"]] == [1, 2]
            assert found["median"] == pytest.approx(np.mean([t["test"] for t in found["trials"]]))
            assert dict(found["grid"])[found["learning_rate"]] == found["trials"][0]["dev"]
        difference = entry["difference"]
        assert difference["draws"] == 2000
        assert difference["median"] == pytest.approx(entry["arms"]["pretrained"]["median"] - entry["arms"]["untrained"]["median"])
        assert difference["low"] <= difference["median"] <= difference["high"]


def test_figures_are_journalled(finished_step: tuple[Path, Manifest]) -> None:
    points, _ = read_points(finished_step[0] / "finetune" / JOURNAL_NAME)
    names = {name for p in points for name in p.metrics}
    assert {"reviews/pretrained/learning_rate", "daily_ner/untrained/test/chunk_f1", "reviews/difference/low"} <= names


def test_a_finished_trial_is_not_run_again_and_a_changed_input_redoes_only_its_own(finished_step: tuple[Path, Manifest]) -> None:
    root, manifest = finished_step
    stamps = _stamps(root / "finetune")
    assert len(stamps) == 2 * 2 * 3
    context, arguments, _ = toy_step(root)
    assert finetune(context, **arguments) == manifest
    assert _stamps(root / "finetune") == stamps
    context, arguments, said = toy_step(root, model_seed=6)
    finetune(context, **arguments)
    changed = {name for name, stamp in _stamps(root / "finetune").items() if stamps.get(name) != stamp}
    assert changed
    assert all("-pretrained-" in name for name in changed)
    assert any("trials were done before" in line for line in said)


def test_a_damaged_trial_is_run_again_with_equal_bytes(finished_step: tuple[Path, Manifest]) -> None:
    root, _ = finished_step
    context, arguments, _ = toy_step(root)
    finetune(context, **arguments)
    path = next((root / "finetune" / "trials").glob("reviews-untrained-*-1")) / "outcomes.npy"
    before = path.read_bytes()
    path.write_bytes(before[:-1] + b"\x07")
    finetune(context, **arguments)
    assert path.read_bytes() == before


def test_a_run_killed_before_a_commit_goes_on_with_the_trials_that_are_left(finished_step: tuple[Path, Manifest], tmp_path: Path) -> None:
    code = (
        "import sys; sys.path.insert(0, 'tests'); from pathlib import Path; from pipelines.finetune import finetune; import finetune_helper as t;"
        f"c, a, _ = t.toy_step(Path({str(tmp_path)!r}), names=['reviews']); finetune(c, **a)"
    )
    environment = {**os.environ, "ERNIE_FAILPOINT": "trial.before_commit:3", "PYTHONPATH": "."}
    killed = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    stamps = _stamps(tmp_path / "finetune")
    assert len(stamps) == 2, "the kill landed while trials were waiting"
    context, arguments, said = toy_step(tmp_path, names=["reviews"])
    finetune(context, **arguments)
    assert {name: stamp for name, stamp in _stamps(tmp_path / "finetune").items() if name in stamps} == stamps
    assert said[0] == "fine-tune: 2 of 4 trials were done before"
    first, second = (json.loads((root / "finetune" / "results.json").read_bytes()) for root in (finished_step[0], tmp_path))
    assert first["benchmarks"]["reviews"] == second["benchmarks"]["reviews"]


def _spoil(root: Path, path: str, change: Callable[[str], str]) -> None:
    file = root / "import" / path
    atomic_write(file, change(file.read_text(encoding="utf-8")).encode())
    entries = [
        FileEntry(
            str(p.relative_to(root / "import")), p.stat().st_size, atomic_write(p, p.read_bytes()).sha256, imported_facts(p.parent.name, p.stem, 1)
        )
        for p in (root / "import").rglob("*.jsonl")
    ]
    write_manifest(root / "import", Manifest("import", {}, {}, tuple(entries)))


def test_a_wrong_row_stops_the_step_before_its_first_trial(tmp_path: Path) -> None:
    context, arguments, _ = toy_step(tmp_path)
    _spoil(tmp_path, "benchmarks/daily_ner/test.jsonl", lambda text: text.replace("B-LOC", "B-XYZ", 1))
    with pytest.raises(InputError, match="E-BENCH-ROW"):
        finetune(context, **arguments)
    assert not (tmp_path / "finetune" / "trials").exists()


def test_rows_shared_between_train_and_test_are_said(tmp_path: Path) -> None:
    context, arguments, said = toy_step(tmp_path, seeds=[1], names=["reviews"])
    row = planted(REVIEWS, "train")[0]
    _spoil(tmp_path, "benchmarks/reviews/test.jsonl", lambda text: text + to_lines([row], REVIEWS).decode())
    context.settings["arms"] = ["pretrained"]
    finetune(context, **arguments)
    assert any(line.startswith("warning: ") and "test rows of reviews stand in its train rows" in line for line in said)
    entry = json.loads((tmp_path / "finetune" / "results.json").read_bytes())["benchmarks"]["reviews"]
    assert entry["overlap"]["test"] >= 1
    assert entry["difference"] is None


def test_a_benchmark_that_was_not_imported_is_named(tmp_path: Path) -> None:
    context, arguments, _ = toy_step(tmp_path)
    write_manifest(tmp_path / "import", Manifest("import", {}, {}, ()))
    with pytest.raises(InputError, match="E-BENCH-MISSING benchmark reviews was not imported"):
        finetune(context, **arguments)


def test_nothing_is_pooled_where_every_token_is_labelled(tmp_path: Path) -> None:
    context, arguments, _ = toy_step(tmp_path)
    benchmarks = context.settings["benchmarks"]
    benchmarks["daily_ner"] = {**benchmarks["daily_ner"], "pooling": "mean"}
    with pytest.raises(RecipeError, match="E-POOLING benchmark daily_ner"):
        finetune(context, **arguments)
    assert not (tmp_path / "finetune" / "trials").exists()


def test_rows_that_train_or_choose_must_be_labelled(tmp_path: Path) -> None:
    context, arguments, _ = toy_step(tmp_path, names=["reviews"])
    _spoil(tmp_path, "benchmarks/reviews/dev.jsonl", lambda text: text.replace(', "labels": ["1"]', "", 1))
    with pytest.raises(InputError, match="E-BENCH-EMPTY dev rows of benchmark reviews have no labels"):
        finetune(context, **arguments)


def test_weights_of_classes_are_for_classifications(tmp_path: Path) -> None:
    context, arguments, _ = toy_step(tmp_path, names=["daily_ner"])
    context.settings["benchmarks"] = {"daily_ner": {**context.settings["benchmarks"]["daily_ner"], "class_weights": "balanced"}}
    with pytest.raises(RecipeError, match="E-CLASS-WEIGHTS benchmark daily_ner"):
        finetune(context, **arguments)
