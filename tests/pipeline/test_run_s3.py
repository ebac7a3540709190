"""A run whose root is in an object store: an S3 server on loopback, and machines of which nothing but the store survives."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from obstore.store import S3Store
from prepare_helper import write_corpus
from s3_helper import S3, held, put

from ernie_core.errors import PreemptedError
from jobs.cli import main
from pipelines import pretrain_rank
from pipelines.meter import log_line
from pipelines.recipe import load_recipe
from pipelines.workflow import run_recipe

pytestmark = pytest.mark.timeout(300)

RECIPE = """
name: tiny
root: {root}
workers: 0
tracking: {{uri: "sqlite:///{folder}/mlflow.db"}}
corpora: {{own: {{reader: text, path: "{folder}/corpus/*.txt"}}}}
prepare: {{split_bytes: 8192, group_rows: 16, vocab_size: 300, max_seq_len: 64, long_rows: null, valid_share: 0.2, phrases: null, tasks: {{knowledge_masking: {{}}, next_sentence: {{}}}}}}
pretrain:
  model: {{num_hidden_layers: 1, hidden_size: 16, num_attention_heads: 2, dropout: 0.1}}
  stages: [{{enter: [knowledge_masking], mask_unit: basic}}, {{enter: [next_sentence], mask_unit: word}}]
  iterations: {{knowledge_masking: 16, next_sentence: 8}}
  batch_tokens: 512
  precision: fp32
  threads: 1
  validation_steps: 10
  save_steps: 5
  skip_steps: 1
"""


class Place:
    """A user's folder with a corpus and an MLflow store, from which runs are started."""

    def __init__(self, folder: Path, empty_store: Path) -> None:
        self.folder = folder
        write_corpus(folder / "corpus", 16)
        shutil.copy(empty_store, folder / "mlflow.db")

    def recipe(self, root: str, rest: str = "") -> Path:
        """Write the recipe with this root, and return its file."""
        path = self.folder / "tiny.yaml"
        path.write_text(RECIPE.format(root=root, folder=self.folder) + rest, encoding="utf-8")
        return path

    def ernie(self, root: str, *arguments: str, machine: str = "one", rest: str = "", **more: str) -> subprocess.CompletedProcess[str]:
        """Run a command on the recipe with this root, on a machine of its own scratch folder."""
        command = [sys.executable, "-m", "jobs.cli", *arguments[:1], str(self.recipe(root, rest)), *arguments[1:]]
        environment = {**os.environ, "ERNIE_SCRATCH": str(self.folder / machine), **more}
        return subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True, check=False, timeout=280)

    def here(self, root: str, until: str, machine: str = "one", rest: str = "") -> list[str]:
        """Run the recipe up to a step in this process, and return what is said."""
        said: list[str] = []
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("ERNIE_SCRATCH", str(self.folder / machine))
            patch.chdir(self.folder)
            run_recipe(load_recipe(self.recipe(root, rest)), said.append, until=until)
        return said


@pytest.fixture
def place(tmp_path: Path, empty_store: Path) -> Place:
    return Place(tmp_path, empty_store)


def named(files: dict[str, bytes], step: str) -> dict[str, bytes]:
    """Return the manifest of a step and what it names, of a run's files by path."""
    body = json.loads(files[f"{step}/manifest.json"])
    return {path: files[f"{step}/{path}"] for path in ("manifest.json", *(f["path"] for f in body["files"]))}


def on_disk(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def figures(files: dict[str, bytes]) -> dict[tuple[int, str], float]:
    """Return every journalled value but speeds."""
    points = [json.loads(line) for line in files["pretrain/metrics.jsonl"].splitlines()]
    return {(p["step"], name): value for p in points for name, value in p["metrics"].items() if not name.startswith(("perf/", "system/"))}


def stops_at(step: int, bucket: S3Store) -> None:
    """Ask the ranks to stop, as the driver does on another machine, once they are at step 17."""
    if step == 17:
        put(bucket, {"deep/er/tiny/pretrain/stop": b""})


def test_a_run_of_which_only_the_bucket_survives_ends_as_one_on_disk(place: Place, s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket, root = s3.bucket("runs"), "s3://runs/deep/er"
    place.here("local", "pretrain")
    unbroken = on_disk(place.folder / "local" / "tiny")
    killed = place.ernie(root, "pretrain", machine="one", ERNIE_FAILPOINT="store.before_commit:2")  # a split's files are put, its entry is not
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    left = held(bucket, "deep/er/tiny")
    entries = [name for name in left if name.startswith("prepare/entries/")]
    assert len(entries) == 1
    assert len([name for name in left if name.startswith("prepare/documents/")]) == 2
    monkeypatch.setenv("ERNIE_SCRATCH", str(tmp_path / "any"))
    assert main(["gc", str(place.recipe(root))]) == 0
    swept = held(bucket, "deep/er/tiny")
    assert [name for name in swept if name.startswith("prepare/documents/")] == ["prepare/documents/00000.json.zst"]
    assert set(left) - set(swept) == {name for name in left if "00001." in name or "/tables/" in name or name == "lease.json"}
    killed = place.ernie(root, "pretrain", machine="two", ERNIE_FAILPOINT="train.after_step:13")
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert "1 done before" in killed.stdout
    prepared = held(bucket, "deep/er/tiny")
    assert named(prepared, "prepare") == named(unbroken, "prepare")
    assert "pretrain/manifest.json" not in prepared
    with monkeypatch.context() as patch, pytest.raises(PreemptedError, match="stopped at step 17"):
        patch.setattr(pretrain_rank, "ASK_STORE_S", 0.0)
        patch.setattr(pretrain_rank, "log_line", lambda result, meter: stops_at(result.step, bucket) or log_line(result, meter))
        place.here(root, "pretrain", machine="other")
    said = place.here(root, "pretrain", machine="three")
    assert "prepare: up to date" in said
    resumed = [line for line in said if line.startswith("resumed from")]
    assert len(resumed) == 1
    assert resumed[0].startswith("resumed from step-00000017")
    found = held(bucket, "deep/er/tiny")
    assert figures(found) == figures(unbroken)
    assert len(figures(found)) > 100
    assert found["pretrain/model/model.safetensors"] == unbroken["pretrain/model/model.safetensors"]
    with sqlite3.connect(place.folder / "mlflow.db") as store:
        assert dict(store.execute("select name, count(*) from runs group by name").fetchall()) == {"tiny": 2, "tiny-prepare": 2, "tiny-pretrain": 2}


REVIEWS = """
finetune:
  seeds: [1]
  benchmarks: {reviews: {package: reviews, train_rows: 60, dev_rows: 30, test_rows: 30, max_seq_len: 32, eval_times: 1, learning_rates: [1e-3]}}
"""


@pytest.mark.slow
@pytest.mark.ray
def test_a_whole_recipe_on_ray_survives_a_killed_rank_and_is_up_to_date_on_a_machine_that_has_nothing(
    place: Place, s3: S3, short_folder: Path
) -> None:
    bucket = s3.bucket("runs")
    on_ray = ["--set", "workers=2", "--set", "pretrain.workers=2"]
    more = {"rest": REVIEWS, "HOME": str(short_folder), "RAY_TMPDIR": str(short_folder / "s"), "MLFLOW_DISABLE_TELEMETRY": "true"}
    once = {"ERNIE_FAILPOINT": "train.after_step:13", "ERNIE_FAILPOINT_ONCE": str(place.folder / "killed")}
    done = place.ernie("s3://runs", "run", *on_ray, machine="one", **more, **once)
    assert done.returncode == 0, done.stderr
    assert (place.folder / "killed").exists()
    assert "resumed from" in done.stdout
    assert "it is kept in s3://runs/tiny" in done.stdout
    found = held(bucket, "tiny")
    assert {"report/report.html", "finetune/results.json", "finetune/mistakes.html"} < set(found)
    again = place.ernie("s3://runs", "run", *on_ray, machine="two", **more)
    assert again.returncode == 0, again.stderr
    assert [line for line in again.stdout.splitlines() if "up to date" in line] == [
        f"{step}: up to date" for step in ("import", "prepare", "pretrain", "finetune", "report")
    ]
    assert held(bucket, "tiny") == found
    place.here("local", "prepare", rest=REVIEWS)
    assert named(found, "prepare") == named(on_disk(place.folder / "local" / "tiny"), "prepare")
