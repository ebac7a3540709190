"""Benchmarks without training rows of their own: MNLI's other genres and GLUE's diagnostics are predicted by MNLI's trials; and the submission."""

from __future__ import annotations

import dataclasses
import json
import zipfile
from pathlib import Path

import pytest
from finetune_helper import WORDS, save_start

from ernie_core.benchmarks import glue_submission
from ernie_core.errors import InputError
from jobs.cli import main
from pipelines.recipe import load_recipe
from pipelines.recipe_finetune import Finetune
from pipelines.report import summary_table
from pipelines.submission import write_submission
from pipelines.workflow import run_recipe

LABELS = ("contradiction", "neutral", "entailment")
RECIPE = """
name: glue
language: en
finetune:
  model: model
  arms: [pretrained]
  seeds: [1, 2]
  benchmarks:
    mnli: {path: MNLI, epochs: 2, learning_rates: [1e-3], precision: fp32, batch_size: 8}
    mnli_mm: {path: MNLI}
    ax: {path: AX}
"""


def rows(subset: str, count: int, *, labelled: bool = True) -> str:
    head = "index\tsentence1\tsentence2" + ("\tgold_label" if labelled else "")
    lines = (f"{i}\t{WORDS[i % 10]}好\t{subset[:1]}{'坏好天'[i % 3]}" + (f"\t{LABELS[i % 3]}" if labelled else "") for i in range(count))
    return "\n".join([head, *lines]) + "\n"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("guests")
    save_start(folder / "model", seed=1)
    for name in ("MNLI", "AX"):
        (folder / name).mkdir()
    for file, count, labelled in (("train", 60, True), ("dev_matched", 12, True), ("test_matched", 9, False), ("dev_mismatched", 15, True), ("test_mismatched", 6, False)):  # fmt: skip
        (folder / "MNLI" / f"{file}.tsv").write_text(rows(file, count, labelled=labelled), encoding="utf-8")
    ax = ({"idx": i, "sentence1": "天", "sentence2": "地", "label": ["entailment", "not_entailment"][i % 2]} for i in range(10))
    (folder / "AX" / "AX-b.jsonl").write_text("".join(json.dumps(r) + "\n" for r in ax), encoding="utf-8")
    (folder / "glue.yaml").write_text(RECIPE)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
        run_recipe(load_recipe(folder / "glue.yaml", ["workers=0"]), lambda _line: None)
    return folder / "runs" / "glue"


def test_guests_are_scored_by_the_trials_of_their_host(run: Path) -> None:
    found = json.loads((run / "finetune" / "results.json").read_bytes())["benchmarks"]
    assert {name: (b["scored"], b["rows"]) for name, b in found.items()} == {
        "mnli": ("dev", {"train": 60, "dev": 12, "test": 9}), "mnli_mm": ("dev", {"dev": 15, "test": 6}), "ax": ("test", {"test": 10}),
    }  # fmt: skip
    assert sorted(p.name for p in (run / "finetune" / "trials").iterdir()) == ["mnli-pretrained-0.001-1", "mnli-pretrained-0.001-2"]
    assert set(found["ax"]["arms"]["pretrained"]["scores"]["test"]) == {"mcc", "accuracy"}
    assert len(found["mnli_mm"]["arms"]["pretrained"]["trials"]) == 2
    lines = (run / "finetune" / "trials" / "mnli-pretrained-0.001-1" / "ax_predictions_test.jsonl").read_text().splitlines()
    assert {json.loads(line)["label"] for line in lines} <= set(LABELS)


def test_a_guest_needs_its_host() -> None:
    with pytest.raises(ValueError, match=r"benchmarks.ax: trials of mnli predict it, and mnli is not there"):
        Finetune.model_validate({"benchmarks": {"ax": {"path": "x"}}})


def test_a_guest_sets_nothing_that_only_a_trial_of_its_own_would_read() -> None:
    with pytest.raises(ValueError, match=r"benchmarks.ax: trials of mnli predict it, with mnli's settings: take out class_weights, epochs"):
        Finetune.model_validate({"benchmarks": {"mnli": {"path": "x"}, "ax": {"path": "x", "epochs": 9, "class_weights": "balanced"}}})


def test_a_guest_without_labels_is_predicted_only(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = run.parents[1]
    for name in ("MNLI", "model"):
        (tmp_path / name).symlink_to(folder / name)
    (tmp_path / "AX").mkdir()
    (tmp_path / "AX" / "diagnostic.tsv").write_text("index\tsentence1\tsentence2\n0\t天\t地\n1\t好\t坏\n", encoding="utf-8")
    (tmp_path / "glue.yaml").write_text(RECIPE.replace("seeds: [1, 2]", "seeds: [1]").replace("epochs: 2", "epochs: 1"))
    said: list[str] = []
    run_recipe(load_recipe(tmp_path / "glue.yaml", ["workers=0"]), said.append)
    entry = json.loads((tmp_path / "runs" / "glue" / "finetune" / "results.json").read_bytes())["benchmarks"]["ax"]
    assert (entry["scored"], entry["arms"]["pretrained"]["median"]) == ("", None)
    assert "fine-tune: ax is predicted only: no row of it is labelled" in said
    assert "ax" not in summary_table(tmp_path / "runs" / "glue")
    log = (tmp_path / "runs" / "glue" / "finetune" / "trials" / "mnli-pretrained-0.001-1" / "trial.log").read_text()
    assert "[test evaluation] data_num: 2, " in log


def test_a_submission_holds_the_test_predictions_of_the_best_seed(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="E-GLUE-ROWS"):
        write_submission(run, tmp_path / "s.zip", print, partial=True)
    sizes = {"mnli": 9, "mnli_mm": 6, "ax": 10}
    small = {name: dataclasses.replace(table, rows=sizes.get(name, table.rows)) for name, table in glue_submission.TABLES.items()}
    monkeypatch.setattr(glue_submission, "TABLES", small)
    said: list[str] = []
    write_submission(run, tmp_path / "s.zip", said.append, partial=True)
    with zipfile.ZipFile(tmp_path / "s.zip") as z:
        assert {"AX.tsv", "MNLI-m.tsv", "MNLI-mm.tsv"} <= set(z.namelist())
        table = z.read("MNLI-mm.tsv").decode().splitlines()
    best = json.loads((run / "finetune" / "results.json").read_bytes())["benchmarks"]["mnli"]["arms"]["pretrained"]["trials"]
    seed = max(best, key=lambda t: (t["dev"], -t["seed"]))["seed"]
    predicted = (run / "finetune" / "trials" / f"mnli-pretrained-0.001-{seed}" / "mnli_mm_predictions_test.jsonl").read_text().splitlines()
    assert table == ["index\tprediction", *(f"{i}\t{json.loads(line)['label']}" for i, line in enumerate(predicted))]
    assert f"MNLI-mm.tsv: 6 rows of mnli-pretrained-0.001-{seed}" in said


def test_a_run_without_glue_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["submission", str(tmp_path), str(tmp_path / "s.zip")]) == 3
    assert "E-GLUE-RUN this run is not fine-tuned" in capsys.readouterr().err
