"""Every kind of benchmark through a trial and through a recipe: spans, pairs ranked by question, numbers; and the options of a trial."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from finetune_helper import CONFIG, SETTINGS, TOKENIZER, WORDS, save_start
from safetensors.torch import save_file
from training_helper import make_config

from ernie_core.benchmarks.base import CHOOSING, Benchmark, Example
from ernie_core.benchmarks.classification import REVIEWS
from ernie_core.benchmarks.custom import benchmark_of
from ernie_core.benchmarks.rows import to_lines
from ernie_core.interop.huggingface import to_theirs
from ernie_core.model.ernie import ErnieForBenchmark, ErnieForPretraining
from ernie_core.seeding import generator
from ernie_core.training.finetune import TrialResult, balanced_weights, run_trial
from ernie_core.training.optim import adamw, set_learning_rate
from pipelines.recipe import load_recipe
from pipelines.recipe_finetune import Custom
from pipelines.workflow import run_recipe


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def own(kind: str, form: str, **more: Any) -> Benchmark:
    return benchmark_of("mine", Custom.model_validate({"kind": kind, "format": form, **more}).model_dump())


def planted(kind: str, subset: str, count: int = 150) -> list[Example]:
    """span: the answer is 好坏 wherever it stands; regression: how many 好; ranking: of each question's three answers the one with 好."""
    found = []
    for i in range(count):
        draw = generator("kinds", kind, subset, i)
        text = "".join(WORDS[k] for k in draw.integers(0, len(WORDS), 9))
        at = int(draw.integers(0, 8))
        if kind == "span":
            found.append(Example((WORDS[0], text[:at] + "好坏" + text[at:]), answers=(("好坏", at),), id=str(i)))
        elif kind == "regression":
            good = int(draw.integers(0, 4))
            found.append(Example((text[: 9 - good] + "好" * good, WORDS[1]), value=float(good), id=str(i)))
        else:
            right = i % 3 == (i // 3) % 3
            found.append(Example((WORDS[2], text[:at] + "好坏"[1 - right] + text[at:]), (int(right),), group=f"q{i // 3}", id=str(i)))
    return found


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_start(tmp_path_factory.mktemp("kinds") / "model", seed=1)


def trial(model: Path, benchmark: Benchmark, data: dict[str, list[Example]], **changes: Any) -> TrialResult:
    encoded = {subset: benchmark.encode(rows, benchmark, TOKENIZER, 24) for subset, rows in data.items()}
    settings = replace(SETTINGS, **changes)
    return run_trial(model_folder=model, pretrained=False, benchmark=benchmark, data=encoded, pad_id=0, seed=1, settings=settings, threads=1)


@pytest.mark.parametrize(("kind", "form", "least"), [("span", "squad", 0.9), ("regression", "tsv", 0.9), ("ranking", "tsv", 0.9)])
def test_a_trial_of_each_kind_learns_a_planted_signal(kind: str, form: str, least: float, model: Path) -> None:
    benchmark = own(kind, form)
    data = {subset: planted(kind, subset) for subset in ("train", "dev", "test")}
    result = trial(model, benchmark, data, epochs=12, learning_rate=5e-3)
    encoded = benchmark.encode(data["test"], benchmark, TOKENIZER, 24)
    score = benchmark.metric.of(encoded.outcomes(result.outputs["test"]))
    assert score is not None
    assert score > least
    assert len(encoded.answers(result.outputs["test"])) == 150


def rows(subset: str, share: float, count: int = 120) -> list[Example]:
    """Class 1 (a 好 in it) has `share` of the rows."""
    return [Example((WORDS[i % 10] + ("好" if i < share * count else "坏"),), (int(i < share * count),), id=f"{subset}{i}") for i in range(count)]


def test_training_stops_when_dev_no_longer_gets_better(model: Path) -> None:
    data = {"train": rows("train", 0.5), "dev": rows("dev", 0.5)}
    result = trial(model, REVIEWS, data, epochs=8, eval_times=8, patience=2)
    scores = [score for _, score in result.dev_curve]
    assert result.stopped_early
    assert len(scores) < 8
    assert len(scores) - 1 - scores.index(max(s for s in scores if s is not None)) == 2
    assert set(result.outputs) == {"dev"}


def test_rows_that_choose_are_evaluated_along_the_way_and_the_whole_set_at_the_end(model: Path) -> None:
    data = {"train": rows("train", 0.5), "dev": rows("dev", 0.5), CHOOSING: rows("dev", 1.0, 7)}
    result = trial(model, REVIEWS, data, epochs=1, eval_times=1)
    assert result.dev_curve[0][1] in {i / 7 for i in range(8)}
    assert set(result.outputs) == {"dev"}
    assert len(result.outputs["dev"]) == 120


def test_a_constant_rate_stays_and_a_linear_one_falls(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[float] = []
    monkeypatch.setattr("ernie_core.training.loop.set_learning_rate", lambda _optimizer, rate: seen.append(rate))
    data = {"train": rows("train", 0.5), "dev": rows("dev", 0.5)}
    trial(model, REVIEWS, data, epochs=1, schedule="constant")
    assert set(seen) == {SETTINGS.learning_rate}
    seen.clear()
    trial(model, REVIEWS, data, epochs=1)
    assert seen[-1] < 0.2 * max(seen)


def test_balanced_weights_give_each_class_the_same_sum() -> None:
    weights = balanced_weights(np.array([0] * 30 + [1] * 10 + [-1] * 5), 3)
    assert weights.tolist() == pytest.approx([40 / 2 / 30, 40 / 2 / 10, 0.0])


def test_weights_of_classes_act_on_the_loss_and_not_on_others(model: Path) -> None:
    data = {"train": rows("train", 0.1), "dev": rows("dev", 0.5)}
    plain, balanced = (trial(model, REVIEWS, data, epochs=1, eval_times=1, class_weights=w, learning_rate=3e-3) for w in (None, "balanced"))
    leaning = [float((r.outputs["dev"][:, 1] - r.outputs["dev"][:, 0]).mean()) for r in (plain, balanced)]
    assert leaning[0] + 0.3 < leaning[1], "a rare class is leant to more where it weighs more"


def test_lower_layers_learn_at_lower_rates_and_the_head_at_the_whole() -> None:
    optimizer = adamw(ErnieForBenchmark(make_config(), "classification", 2, seed=1), weight_decay=0.01, beta2=0.98, layer_decay=0.5)
    set_learning_rate(optimizer, 1.0)
    assert sorted({group["lr"] for group in optimizer.param_groups}) == [0.125, 0.25, 0.5, 1.0]
    flat = adamw(ErnieForBenchmark(make_config(), "classification", 2, seed=1), weight_decay=0.01, beta2=0.98)
    assert [(g["rate"], g["weight_decay"]) for g in flat.param_groups] == [(1.0, 0.01), (1.0, 0.0)]


RECIPE = """
name: own
finetune:
  model: {model}
  arms: [pretrained]
  seeds: [1, 2]
  benchmarks:
    answers:
      {{train: train.json, dev: dev.json, custom: {{kind: span, format: squad}}, epochs: 1, learning_rates: [1e-3], precision: fp32, eval_rows: 5}}
"""


def squad(examples: list[Example]) -> str:
    questions = [
        {"context": e.texts[1], "qas": [{"id": e.id, "question": e.texts[0], "answers": [{"text": t, "answer_start": s} for t, s in e.answers]}]}
        for e in examples
    ]
    return json.dumps({"data": [{"paragraphs": questions}]}, ensure_ascii=False)


def test_a_recipe_of_fine_tuning_alone_takes_a_model_of_transformers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    theirs = tmp_path / "hf"
    theirs.mkdir()
    ours = ErnieForPretraining(CONFIG, {}, seed=3)
    save_file({name: t.contiguous() for name, t in to_theirs(ours.state_dict())[0].items()}, theirs / "model.safetensors")
    shape = {**{k: getattr(CONFIG, k) for k in ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "max_position_embeddings")}, "type_vocab_size": 2, "use_task_id": True, "task_type_vocab_size": 16, "model_type": "ernie", "layer_norm_eps": 1e-5}  # fmt: skip
    (theirs / "config.json").write_text(json.dumps(shape))
    (theirs / "vocab.txt").write_bytes(b"".join(t.encode() + b"\n" for t in TOKENIZER.vocab.tokens))
    for subset in ("train", "dev"):
        (tmp_path / f"{subset}.json").write_text(squad(planted("span", subset, 20)), encoding="utf-8")
    (tmp_path / "own.yaml").write_text(RECIPE.format(model=theirs))
    said: list[str] = []
    run_recipe(load_recipe(tmp_path / "own.yaml", ["workers=0"]), said.append)
    run = tmp_path / "runs" / "own"
    entry = json.loads((run / "finetune" / "results.json").read_bytes())["benchmarks"]["answers"]
    assert (entry["scored"], entry["rows"], entry["official"], entry["difference"]) == ("dev", {"train": 20, "dev": 20}, False, None)
    assert set(entry["arms"]["pretrained"]["scores"]["dev"]) == {"em", "f1", "em_f1"}
    assert (run / "finetune" / "start" / "manifest.json").exists()
    (first, _) = sorted((run / "finetune" / "trials").iterdir())
    lines = [json.loads(line) for line in (first / "predictions_dev.jsonl").read_text().splitlines()]
    assert [line["id"] for line in lines] == [str(i) for i in range(20)]
    assert all(line["text"] in planted("span", "dev", 20)[i].texts[1] for i, line in enumerate(lines))
    page = (run / "report" / "report.html").read_text()
    assert "exact match, dev" in page
    assert any(line.startswith("fine-tune: answers em on dev: pretrained ") for line in said)
    too_long = load_recipe(tmp_path / "own.yaml", ["workers=0", "finetune.benchmarks.answers.max_seq_len=32", "name=other"])
    with pytest.raises(Exception, match="E-BENCH-LENGTH"):
        run_recipe(too_long, said.append)


def test_rows_pass_to_trials_as_lines_of_json() -> None:
    assert json.loads(to_lines(planted("regression", "dev", 1), own("regression", "tsv")))["value"] == planted("regression", "dev", 1)[0].value
