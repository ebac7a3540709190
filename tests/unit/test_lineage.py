"""What ties MLflow runs together: datasets, parents, models, code; and what keeps the runs of two users apart."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run as MlflowRun

from ernie_core.manifest import FileEntry, Manifest, atomic_write, read_manifest, sha256_of, write_manifest
from pipelines.outbox import SHIPPED_NAME
from pipelines.steps import Step, StepContext, run_steps
from pipelines.tracked_run import ship_rest
from pipelines.tracked_steps import Tracked, around_steps

PARAMS = {"seed": 7, "pretrain": {"learning_rate": 0.001}}
SHARD = {"rows": 90, "tokens": 900, "shard": "train-0", "task": "knowledge_masking", "subset": "train"}


@pytest.fixture
def store(tmp_path: Path, empty_store: Path) -> Path:
    return Path(shutil.copy(empty_store, tmp_path / "mlflow.db"))


def write(context: StepContext) -> Manifest:
    """Do the work of a small step: two encodings of a shard in prepare, a model in pretrain."""
    entries = [FileEntry(f"{context.name}-{i}", 1, sha256_of(b"x"), SHARD if context.name == "prepare" else {}) for i in range(2)]
    for entry in entries:
        atomic_write(context.folder / entry.path, b"x")
    if context.name == "pretrain":
        atomic_write(context.folder / "model" / "model.safetensors", b"weights")
        context.run.model(context.folder / "model")
    if context.name == "finetune":
        context.run.log({"dev": 0.5}, step=1)
    return write_manifest(context.folder, Manifest(context.name, context.settings, context.parent_hashes, tuple(entries)))


def run(folder: Path, store: Path, *, corpus: Path, uri: str | None = None, **settings: Any) -> None:
    """Run prepare, pretrain and finetune into `folder`, tracked in `store`."""
    steps = [
        Step("prepare", {}, (), write, (str(corpus),)),
        Step("pretrain", {"init": None, **settings}, ("prepare",), write),
        Step("finetune", {}, ("prepare", "pretrain"), write),
    ]
    tracked = Tracked(folder.name, "ernie", uri or f"sqlite:///{store}", PARAMS, 0)
    with contextlib.ExitStack() as stack:
        run_steps(steps, folder, lambda _line: None, around=around_steps(tracked, folder, lambda _line: None, stack))
    for place in (folder, *(folder / step.name for step in steps)):
        ship_rest(place, lambda _line: None)


def runs(store: Path) -> list[MlflowRun]:
    client = MlflowClient(tracking_uri=f"sqlite:///{store}")
    experiment = client.get_experiment_by_name("ernie")
    assert experiment is not None
    return [client.get_run(r.info.run_id) for r in client.search_runs([experiment.experiment_id])]  # a search leaves the models out


def by_step(found: list[MlflowRun]) -> dict[str, MlflowRun]:
    assert len({r.data.tags["step"] for r in found}) == len(found)
    return {r.data.tags["step"]: r for r in found}


def inputs(run: MlflowRun) -> Mapping[str, Any]:
    return {d.dataset.name: d for d in run.inputs.dataset_inputs}


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    (tmp_path / "corpus.txt").write_text("文本", encoding="utf-8")
    return tmp_path / "corpus.txt"


def test_each_step_names_its_data_its_parents_its_model_and_its_code(tmp_path: Path, store: Path, corpus: Path) -> None:
    run(tmp_path / "demo", store, corpus=corpus)
    found = by_step(runs(store))
    prepared = read_manifest(tmp_path / "demo" / "prepare").sha256
    data = inputs(found["pretrain"])["demo-prepare"]
    assert data.dataset.digest == prepared[:36]
    assert {t.key: t.value for t in data.tags} == {"mlflow.data.context": "pretraining", "sha256": prepared}
    assert data.dataset.profile == '{"knowledge_masking/train":90,"num_rows":90,"num_tokens":900}', "a shard counts once, whatever its encodings"
    assert inputs(found["prepare"])["demo-prepare-files"].dataset.profile == '{"num_bytes":6,"num_files":1}'
    assert found["prepare"].data.tags["manifest_sha256"] == prepared == found["pretrain"].data.tags["data_sha256"]
    assert found["pretrain"].data.tags["run.prepare"] == found["prepare"].info.run_id
    assert found["finetune"].data.tags["run.pretrain"] == found["pretrain"].info.run_id
    assert [m.model_id for m in found["finetune"].inputs.model_inputs] == [m.model_id for m in found["pretrain"].outputs.model_outputs]
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True, check=False).stdout.strip()
    for step in found.values():
        assert step.data.tags.get("mlflow.source.git.commit", "") == head
        assert step.data.tags["recipe_sha256"] == sha256_of(PARAMS)


def test_a_run_that_starts_from_another_runs_model_names_that_run(tmp_path: Path, store: Path, corpus: Path) -> None:
    run(tmp_path / "first", store, corpus=corpus)
    first = by_step(runs(store))["pretrain"].info.run_id
    run(tmp_path / "second", store, corpus=corpus, init=str(tmp_path / "first" / "pretrain" / "model"))
    second = [r for r in runs(store) if r.data.tags["recipe"] == "second"]
    assert by_step(second)["pretrain"].data.tags["run.model"] == first


def test_what_mlflow_missed_is_linked_by_the_next_command(tmp_path: Path, store: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    run(tmp_path / "demo", store, corpus=corpus, uri="http://127.0.0.1:9")
    for state in tmp_path.glob("demo/**/mlflow_run.json"):  # the server answers again
        state.write_bytes(state.read_bytes().replace(b"http://127.0.0.1:9", f"sqlite:///{store}".encode()))
    run(tmp_path / "demo", store, corpus=corpus)
    found = by_step(runs(store))
    assert {r.info.status for r in found.values()} == {"FINISHED"}
    assert found["finetune"].data.tags["run.pretrain"] == found["pretrain"].info.run_id
    assert len(found["finetune"].inputs.model_inputs) == len(inputs(found["pretrain"])) == 1


def test_two_users_with_one_recipe_in_one_store_do_not_mix(tmp_path: Path, store: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for user in ("ada", "ben"):
        monkeypatch.setenv("LOGNAME", user)
        run(tmp_path / user / "demo", store, corpus=corpus)
    found = runs(store)
    assert len(found) == 8
    for user in ("ada", "ben"):
        mine = by_step([r for r in found if r.data.tags["mlflow.user"] == user])
        assert {r.data.tags.get("mlflow.parentRunId") for r in mine.values()} == {None, mine["workflow"].info.run_id}
        assert mine["finetune"].data.tags["run.pretrain"] == mine["pretrain"].info.run_id
        assert mine["finetune"].data.metrics == {"dev": 0.5}
        assert mine["workflow"].data.tags["mlflow.note.content"].startswith("A whole run of a recipe")
        assert [m.model_id for m in mine["finetune"].inputs.model_inputs] == [m.model_id for m in mine["pretrain"].outputs.model_outputs]


def test_a_copied_run_folder_is_another_run_and_a_moved_one_is_not(tmp_path: Path, store: Path, corpus: Path) -> None:
    run(tmp_path / "demo", store, corpus=corpus)
    old = by_step(runs(store))["finetune"].info.run_id
    shutil.copytree(tmp_path / "demo", tmp_path / "copy" / "demo")
    (tmp_path / "copy" / "demo" / "finetune" / "manifest.json").unlink()
    run(tmp_path / "copy" / "demo", store, corpus=corpus)
    (new,) = (r for r in runs(store) if r.data.tags.get("ernie.copied_from_run") == old)
    assert new.data.metrics == {"dev": 0.5}
    assert new.data.tags["ernie.attempts"] == "1"
    count = len(runs(store))
    shutil.move(tmp_path / "copy", tmp_path / "moved")
    (tmp_path / "moved" / "demo" / "finetune" / "manifest.json").unlink()
    run(tmp_path / "moved" / "demo", store, corpus=corpus)
    assert len(runs(store)) == count
    assert (tmp_path / "moved" / "demo" / "finetune" / SHIPPED_NAME).exists()
