"""Trials as nested MLflow runs: suite, group, trial; killed and run again, each trial has one run, each point stands once, each status is true."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections import Counter
from pathlib import Path

import pytest
import torch
from finetune_helper import toy_step
from mlflow import MlflowClient
from mlflow.entities import Run as MlflowRun

from pipelines import trial_ranks
from pipelines.finetune import finetune
from pipelines.outbox import tracking_uri
from pipelines.steps import StepContext
from pipelines.tracked_run import open_run, ship_rest
from pipelines.tracked_steps import _tracked


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def root(tmp_path: Path, empty_store: Path) -> Path:
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    return tmp_path


def run_suite(root: Path) -> StepContext:
    """Fine-tune the toy benchmark as the step of a tracked run."""
    context, arguments, _ = toy_step(root, seeds=[1, 2], names=["reviews"])
    tags = {"recipe": "demo", "step": "finetune"}
    handle = open_run(uri=tracking_uri(str(root), None), experiment="ernie", name="demo-finetune", folder=context.folder, tags=tags, params={})
    with _tracked(handle) as context.run:
        finetune(context, **arguments)
    ship_rest(context.folder)
    return context


def runs(root: Path) -> dict[str, MlflowRun]:
    client = MlflowClient(tracking_uri=tracking_uri(str(root), None))
    found = [client.get_run(r.info.run_id) for r in client.search_runs([client.get_experiment_by_name("ernie").experiment_id])]
    assert len({r.info.run_name for r in found}) == len(found), "a run was opened twice"
    return {r.info.run_name: r for r in found}


def check_tree(root: Path, context: StepContext) -> None:
    """Two arms of two rates at the first seed and one more seed, each point of each curve once."""
    found = runs(root)
    client = MlflowClient(tracking_uri=tracking_uri(str(root), None))
    assert {r.info.status for r in found.values()} == {"FINISHED"}
    assert Counter(r.data.tags.get("level", "suite") for r in found.values()) == {"suite": 1, "group": 2, "trial": 6}
    for name, run in found.items():
        above = name.rpartition("-seed")[0].rpartition("-0")[0] or "demo-finetune"
        if run.data.tags.get("level") == "trial":
            assert run.data.tags["mlflow.parentRunId"] == found[above].info.run_id
            folder = f"reviews-{run.data.tags['arm']}-{run.data.params['learning_rate']}-{run.data.params['seed']}"
            result = json.loads((context.folder / "trials" / folder / "result.json").read_bytes())
            curve = client.get_metric_history(run.info.run_id, "dev/accuracy")
            assert [[m.step, m.value] for m in curve] == result["dev_curve"]
            assert len(client.get_metric_history(run.info.run_id, "final/test/accuracy")) == 1
            assert [d.dataset.name for d in run.inputs.dataset_inputs] == ["reviews"]
        if run.data.tags.get("level") == "group":
            assert run.data.tags["mlflow.parentRunId"] == found["demo-finetune"].info.run_id
            assert "test/accuracy/median" in run.data.metrics


def test_a_suite_is_a_tree_of_runs_and_running_it_again_changes_nothing(root: Path) -> None:
    context = run_suite(root)
    check_tree(root, context)
    before = {name: run.info.run_id for name, run in runs(root).items()}
    check_tree(root, run_suite(root))
    assert {name: run.info.run_id for name, run in runs(root).items()} == before


@pytest.mark.parametrize("point", ["trial.before_commit:2", "trial.before_commit:6", "track.mid_ship:2"])
def test_a_killed_suite_goes_on_in_its_runs(root: Path, point: str) -> None:
    child = os.fork()
    if child == 0:
        os.environ["ERNIE_FAILPOINT"] = point
        run_suite(root)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    check_tree(root, run_suite(root))


@pytest.mark.parametrize(("error", "status"), [(KeyboardInterrupt, "KILLED"), (ValueError, "FAILED")])
def test_what_ran_when_a_suite_ended_has_its_status(root: Path, monkeypatch: pytest.MonkeyPatch, error: type[BaseException], status: str) -> None:
    real, calls = trial_ranks.run_trial, []

    def fails(trial: object) -> object:
        calls.append(trial)
        if len(calls) == 2:
            raise error
        return real(trial)  # type: ignore[arg-type]

    monkeypatch.setattr(trial_ranks, "run_trial", fails)
    with pytest.raises(error):
        run_suite(root)
    found = runs(root)
    assert Counter(r.info.status for r in found.values()) == {status: 3, "FINISHED": 1}, "the step, its group and the trial; one was done"
    monkeypatch.setattr(trial_ranks, "run_trial", real)
    check_tree(root, run_suite(root))
    assert {name: r.info.run_id for name, r in runs(root).items()}.items() >= {name: r.info.run_id for name, r in found.items()}.items()
