"""A pretraining run as a user meets it: killed, run again, on Ray with two ranks, with the seed's arguments, on the seed's data."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from prepare_helper import document

from ernie_core.manifest import file_sha256
from ernie_core.training.retention import complete, step_of

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]

RECIPE = """
name: tiny
root: runs
workers: {workers}
corpora: {{own: {{reader: text, path: "{corpus}/*.txt"}}}}
prepare: {{split_bytes: 8192, group_rows: 16, vocab_size: 600, max_seq_len: 128, valid_share: 0.2, tasks: {{knowledge_masking: {{}}, next_sentence: {{}}}}}}
pretrain:
  model: {{num_hidden_layers: 2, hidden_size: 32, num_attention_heads: 2, dropout: 0.1}}
  stages: [{{enter: [knowledge_masking], mask_unit: word}}, {{enter: [next_sentence], mask_unit: entity}}]
  iterations: {{knowledge_masking: 16, next_sentence: 8}}
  batch_tokens: 512
  device_tokens: 256
  precision: fp32
  workers: {ranks}
  threads: 1
  validation_steps: 10
  save_steps: 5
  skip_steps: 4
"""


def environment(short_folder: Path, **more: str) -> dict[str, str]:
    return {**os.environ, "HOME": str(short_folder), "RAY_TMPDIR": str(short_folder / "k"), "MLFLOW_DISABLE_TELEMETRY": "true", **more}


def ernie(folder: Path, arguments: list[str], env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run the command in `folder`, as a user does: paths in recipes are relative to it."""
    command = [sys.executable, "-m", "jobs.cli", *arguments]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False, timeout=280)


def write_recipe(folder: Path, corpus: Path, *, workers: int, ranks: int | str) -> Path:
    path = folder / "tiny.yaml"
    path.write_text(RECIPE.format(corpus=corpus, workers=workers, ranks=ranks), encoding="utf-8")
    return path


def write_run(folder: Path, *, workers: int, ranks: int | str) -> Path:
    """Write three files of text and the recipe that reads them; return the recipe."""
    texts = folder / "texts"
    texts.mkdir()
    for k in range(3):
        (texts / f"{k}.txt").write_text("\n\n".join(document(i + 40 * k) for i in range(40)) + "\n", encoding="utf-8")
    return write_recipe(folder, texts, workers=workers, ranks=ranks)


def model_sha256(folder: Path) -> str:
    return file_sha256(folder / "runs" / "tiny" / "pretrain" / "model" / "model.safetensors")


def journal(folder: Path) -> dict[tuple[int, str], float]:
    """Return every journalled value that is a function of the settings (speeds are not), by (step, name)."""
    lines = (folder / "runs" / "tiny" / "pretrain" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    points = [json.loads(line) for line in lines]
    flat = [((p["step"], name), value) for p in points for name, value in p["metrics"].items() if not name.startswith(("perf/", "system/"))]
    assert len(flat) == len(dict(flat)), "a value stands in the journal twice"
    return dict(flat)


@pytest.fixture(scope="module")
def unbroken(corpus: Path, tmp_path_factory: pytest.TempPathFactory, short_folder: Path) -> Path:
    folder = tmp_path_factory.mktemp("unbroken")
    done = ernie(folder, ["pretrain", str(write_recipe(folder, corpus, workers=0, ranks=1))], environment(short_folder))
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize(("failpoint", "saved"), [("train.after_step:13", (10, 11)), ("train.mid_eval:1", (5, 10))])
def test_a_killed_run_goes_on_to_equal_weights_and_the_same_mlflow_run(
    unbroken: Path, corpus: Path, tmp_path: Path, short_folder: Path, failpoint: str, saved: tuple[int, int]
) -> None:
    take_prepared(unbroken, tmp_path)
    recipe = write_recipe(tmp_path, corpus, workers=0, ranks=1)
    place = tmp_path / "runs" / "tiny" / "pretrain"
    once = str(tmp_path / "killed")
    killed = ernie(tmp_path, ["pretrain", str(recipe)], environment(short_folder, ERNIE_FAILPOINT=failpoint, ERNIE_FAILPOINT_ONCE=once))
    assert killed.returncode == -signal.SIGKILL
    assert not (place / "manifest.json").exists(), "the kill must land while work is pending"
    assert not (place / "model").exists()
    first_run = mlflow_runs(tmp_path)
    newest = step_of(complete(place / "checkpoints")[0])
    assert newest in saved, "only the checkpoint that was being written may be lost"
    again = ernie(tmp_path, ["pretrain", str(recipe)], environment(short_folder))
    assert again.returncode == 0, again.stderr
    assert f"resumed from step-{newest:08d}" in again.stdout
    assert model_sha256(tmp_path) == model_sha256(unbroken)
    assert journal(tmp_path) == journal(unbroken)
    runs = mlflow_runs(tmp_path)
    assert {name: run_id for name, (run_id, _) in runs.items()} == {name: run_id for name, (run_id, _) in first_run.items()}
    assert runs["tiny-pretrain"][1] == "FINISHED"
    third = ernie(tmp_path, ["pretrain", str(recipe)], environment(short_folder))
    assert "pretrain: up to date" in third.stdout


def take_prepared(finished: Path, target: Path) -> None:
    """Copy the shards of a finished run, and its mark, into the root of another."""
    shutil.copytree(finished / "runs" / "tiny" / "prepare", target / "runs" / "tiny" / "prepare")
    shutil.copy(finished / "runs" / "tiny" / "run.json", target / "runs" / "tiny")


def mlflow_runs(folder: Path) -> dict[str, tuple[str, str]]:
    """Return name -> (run id, status) of all runs in the folder's store."""
    with sqlite3.connect(folder / "runs" / "mlflow.db") as store:
        rows = store.execute("select name, run_uuid, status from runs").fetchall()
    assert len(rows) == len({name for name, _, _ in rows}), f"a run was opened twice: {rows}"
    return {name: (run_id, status) for name, run_id, status in rows}


def test_two_ranks_on_ray_see_the_samples_of_one_and_survive_a_killed_rank(unbroken: Path, corpus: Path, tmp_path: Path, short_folder: Path) -> None:
    take_prepared(unbroken, tmp_path)
    recipe = write_recipe(tmp_path, corpus, workers=2, ranks=2)
    once = tmp_path / "killed"
    done = ernie(
        tmp_path, ["pretrain", str(recipe)], environment(short_folder, ERNIE_FAILPOINT="train.after_step:13", ERNIE_FAILPOINT_ONCE=str(once))
    )
    assert done.returncode == 0, done.stderr
    assert once.exists(), "no rank was killed"
    assert "resumed from step-00000011" in done.stdout
    assert chain(tmp_path) == chain(unbroken)
    losses, expected = (last_loss(folder) for folder in (tmp_path, unbroken))
    assert losses == pytest.approx(expected, rel=0.05), "dropout differs by rank, the data do not"


def chain(folder: Path) -> str:
    facts: dict[str, Any] = json.loads((folder / "runs" / "tiny" / "pretrain" / "manifest.json").read_bytes())["facts"]
    return str(facts["chain"])


def last_loss(folder: Path) -> float:
    return journal(folder)[24, "valid/knowledge_masking/lm_loss"]


def test_multi_task_trains_and_validates_all_tasks_in_one_stage(unbroken: Path, corpus: Path, tmp_path: Path, short_folder: Path) -> None:
    take_prepared(unbroken, tmp_path)
    recipe = write_recipe(tmp_path, corpus, workers=0, ranks=1)
    done = ernie(tmp_path, ["pretrain", str(recipe), "--set", "pretrain.schedule=multi_task"], environment(short_folder))
    assert done.returncode == 0, done.stderr
    found = {name for step, name in journal(tmp_path) if step == 24}
    assert {"valid/knowledge_masking/lm_loss", "valid/next_sentence/lm_loss", "valid/next_sentence/acc"} <= found


def test_a_run_started_from_a_finished_one_begins_where_that_ended(unbroken: Path, corpus: Path, tmp_path: Path, short_folder: Path) -> None:
    take_prepared(unbroken, tmp_path)
    recipe = write_recipe(tmp_path, corpus, workers=0, ranks=1)
    more = [f"pretrain.init={unbroken}/runs/tiny", "pretrain.iterations={knowledge_masking: 2, next_sentence: 2}", "pretrain.learning_rate=1e-9"]
    done = ernie(tmp_path, ["pretrain", str(recipe), *(word for setting in more for word in ("--set", setting))], environment(short_folder))
    assert done.returncode == 0, done.stderr
    names = ("valid/knowledge_masking/lm_loss", "valid/next_sentence/acc")
    assert [journal(tmp_path)[4, name] for name in names] == pytest.approx([journal(unbroken)[24, name] for name in names], abs=1e-5)
    other = ernie(tmp_path, ["pretrain", str(recipe), "--set", "name=other", "--set", f"pretrain.init={tmp_path}"], environment(short_folder))
    assert other.returncode == 3
    assert "E-MODEL-MISSING" in other.stderr


@pytest.mark.parametrize("workers", [0, 2])
def test_a_stop_signal_ends_with_75_and_a_checkpoint_at_the_step_it_came(
    corpus: Path, unbroken: Path, tmp_path: Path, short_folder: Path, workers: int
) -> None:
    take_prepared(unbroken, tmp_path)
    recipe = write_recipe(tmp_path, corpus, workers=workers, ranks=1)
    more = ["--set", "pretrain.iterations={knowledge_masking: 20000, next_sentence: 8}"]
    command = [sys.executable, "-m", "jobs.cli", "pretrain", str(recipe), *more]
    with subprocess.Popen(command, cwd=tmp_path, env=environment(short_folder), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        log = tmp_path / "runs" / "tiny" / "pretrain" / "train.log"
        deadline = time.monotonic() + 120
        while not (log.exists() and "step: 8," in log.read_text(encoding="utf-8")):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 75, errors
    found = re.search(r"E-STOPPED stopped at step (\d+) of", errors)
    assert found is not None, errors
    assert log.read_text(encoding="utf-8").count("resumed from") == 0, "a stopped group must not be started again"
    newest = max((log.parent / "checkpoints").iterdir(), key=lambda p: p.name)
    assert newest.name.startswith(f"step-{int(found[1]):08d}")
    assert (newest / "manifest.json").exists()


def test_a_run_whose_driver_was_killed_goes_on_although_rays_snapshot_is_cut_off(
    corpus: Path, unbroken: Path, tmp_path: Path, short_folder: Path
) -> None:
    """F40: Ray Train would end at its start on such a file; ours is not asked for, and goes by its own manifests."""
    take_prepared(unbroken, tmp_path)
    recipe = write_recipe(tmp_path, corpus, workers=2, ranks=1)
    steps = 150
    words = [
        "pretrain",
        str(recipe),
        "--set",
        f"pretrain.iterations={{knowledge_masking: {steps - 8}, next_sentence: 8}}",
        "--set",
        "pretrain.skip_steps=1",
    ]
    place = tmp_path / "runs" / "tiny" / "pretrain"
    log, snapshot = place / "train.log", place / "checkpoint_manager_snapshot.json"
    with subprocess.Popen([sys.executable, "-m", "jobs.cli", *words], cwd=tmp_path, env=environment(short_folder), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:  # fmt: skip
        deadline = time.monotonic() + 120
        while not (snapshot.exists() and log.exists() and "step: 8," in log.read_text(encoding="utf-8")):
            assert process.poll() is None, "the run ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.kill()
    assert not (place / "manifest.json").exists(), "the kill must land while work is pending"
    data = snapshot.read_bytes()
    snapshot.write_bytes(data[: len(data) // 2])
    with pytest.raises(json.JSONDecodeError):
        json.loads(snapshot.read_bytes())
    again = ernie(tmp_path, words, environment(short_folder))
    assert again.returncode == 0, again.stderr
    assert "resumed from step-" in again.stdout
    assert not snapshot.exists()
    assert [step for step, name in sorted(journal(tmp_path)) if name == "train/loss"] == list(range(1, steps + 1))


def test_the_seeds_arguments_on_the_seeds_data_give_falling_ppl_and_validation_lines(test_data: Path, tmp_path: Path, short_folder: Path) -> None:
    reference = test_data / "ernie_reference"
    lists = {}
    for subset, rows in (("train", 2000), ("valid", 200)):
        lists[subset] = tmp_path / f"{subset}_filelist"
        lists[subset].write_text(f"{first_lines(reference / f'demo_{subset}_set.gz', tmp_path, rows)}\t1.1\n", encoding="utf-8")
    shape = {"vocab_size": 18000, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "max_position_embeddings": 513,
             "type_vocab_size": 2, "hidden_act": "relu", "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1}  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(shape), encoding="utf-8")
    done = ernie(
        tmp_path,
        ["pretrain", "--train_filelist", str(lists["train"]), "--valid_filelist", str(lists["valid"]), "--vocab_path", str(reference / "vocab_zh.txt"),
         "--ernie_config_path", str(tmp_path / "config.json"), "--checkpoints", str(tmp_path / "out"), "--num_train_steps", "60", "--warmup_steps", "6",
         "--learning_rate", "3e-3", "--validation_steps", "20", "--save_steps", "30", "--batch_size", "1024", "--workers", "0", "--threads", "1"],
        environment(short_folder),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    ppl = [
        float(x)
        for x in re.findall(
            r"^\[validation_set\] step: \d+, next_sentence: lm_loss: [\d.]+, global ppl: ([\d.]+), next_sent_acc", done.stdout, re.MULTILINE
        )
    ]
    assert len(ppl) == 3
    assert ppl == sorted(ppl, reverse=True)
    assert ppl[-1] < ppl[0] / 1.2
    line = re.search(
        r"^epoch: 1, progress: \d+/2000, step: 10, loss: [\d.]+, ppl: [\d.]+, next_sent_acc: [\d.]+, speed: .*, file: \S+, mask_type: mask_word, learning_rate: ",
        done.stdout,
        re.MULTILINE,
    )
    assert line is not None, done.stdout


def first_lines(source: Path, folder: Path, count: int) -> Path:
    import gzip

    path = folder / source.name
    with gzip.open(source, "rb") as f, gzip.open(path, "wb") as out:
        for _ in range(count):
            out.write(f.readline())
    return path
