"""MLflow's server over PostgreSQL: two users' runs in one store do not mix, and a database that goes away loses nothing (beside SQLite in test_tracking_server)."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run, ViewType
from postgres_helper import Postgres, running
from server_helper import MlflowServer, arrived, codes, impatient, journalled, pretrain, wait_until

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def database() -> Iterator[Postgres]:
    with running() as started:
        yield started


@pytest.fixture(scope="module")
def server(database: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    started = MlflowServer(database.uri, tmp_path_factory.mktemp("server"), {"PGPASSFILE": str(database.passwords)})
    yield started
    started.close()


def started(recipe: Path, root: Path, uri: str, user: str, *changes: str) -> subprocess.Popen[str]:
    """Start the command of one user, whose run has the recipe's name but a root and a seed of its own."""
    shutil.copytree(
        recipe.parent / "runs", root, ignore=shutil.ignore_patterns("mlflow_run.json", "shipped.json", "mlflow.db", "pretrain", "metrics.jsonl")
    )
    given = [f"root={root}", f"tracking.uri={uri}", "pretrain.skip_steps=1", "pretrain.save_steps=20", *changes]
    command = [sys.executable, "-m", "jobs.cli", "run", str(recipe), "--until", "pretrain", *(part for one in given for part in ("--set", one))]
    env = os.environ | {"PYTHONPATH": str(ROOT), "LOGNAME": user, "MLFLOW_DISABLE_TELEMETRY": "true"}
    return subprocess.Popen(command, cwd=recipe.parent, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def runs_of(uri: str, experiment: str) -> list[Run]:
    """Return every run that the experiment ever had."""
    client = MlflowClient(tracking_uri=uri)
    found = client.get_experiment_by_name(experiment)
    assert found is not None, experiment
    return list(client.search_runs([found.experiment_id], run_view_type=ViewType.ALL))


def pretraining_of(runs: list[Run], user: str, root: Path) -> Run:
    """Return the one pretraining of a user, which lies under the workflow's run of the same user; both ended well and name the user's folders."""
    own = {run.info.run_name: run for run in runs if run.data.tags["mlflow.user"] == user}
    assert set(own) == {"ranks", "ranks-pretrain"}
    assert {run.info.status for run in own.values()} == {"FINISHED"}
    assert all(f"`{root}" in run.data.tags["mlflow.note.content"] for run in own.values())
    assert own["ranks-pretrain"].data.tags["mlflow.parentRunId"] == own["ranks"].info.run_id
    return own["ranks-pretrain"]


def test_the_runs_of_three_users_at_once_do_not_mix(recipe: Path, database: Postgres, server: MlflowServer, tmp_path: Path) -> None:
    experiments = {"ann": "ernie", "bob": "ernie", "cem": "of cem"}
    roots = {user: tmp_path / user for user in experiments}
    working = {
        user: started(recipe, roots[user], server.uri, user, f"tracking.experiment={experiment}", f"pretrain.learning_rate={rate}")
        for (user, experiment), rate in zip(experiments.items(), ("1e-3", "2e-3", "3e-3"), strict=True)
    }
    said = {user: process.communicate(timeout=240)[0] for user, process in working.items()}
    assert {user: process.returncode for user, process in working.items()} == dict.fromkeys(experiments, 0), said
    runs = {name: runs_of(server.uri, name) for name in set(experiments.values())}
    assert Counter(run.data.tags["mlflow.user"] for run in itertools.chain(*runs.values())) == Counter({"ann": 2, "bob": 2, "cem": 2})
    points, models = {}, []
    client = MlflowClient(tracking_uri=server.uri)
    for user, experiment in experiments.items():
        run = pretraining_of(runs[experiment], user, roots[user])
        points[user] = arrived(server.uri, run)
        assert [step for step, _ in points[user]["train/loss"]] == list(range(1, 61))
        assert points[user] == journalled(roots[user] / "ranks")
        models += [m.source_run_id for m in client.search_logged_models([run.info.experiment_id], f"source_run_id = '{run.info.run_id}'")]
    assert len(set(models)) == len(models) == 3
    losses = [points[user]["train/loss"] for user in experiments]
    assert all(one != other for one, other in itertools.combinations(losses, 2)), "they would be equal if they had mixed"
    assert database.ask("select count(*) from runs") == [(6,)], "the runs are in PostgreSQL"


def test_a_database_that_goes_away_and_comes_back_loses_nothing(
    recipe: Path, database: Postgres, server: MlflowServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    impatient(monkeypatch)
    monkeypatch.setenv("LOGNAME", "dee")

    def hook(step: int, said: list[str]) -> None:
        if step == 10:
            database.end()
        if step == 30:
            wait_until(said, "E-TRACKING-DOWN")
            database.start()

    folder, said = pretrain(recipe, tmp_path, server.uri, monkeypatch, hook)
    assert codes(said)[0] == "E-TRACKING-DOWN"
    said = pretrain(recipe, tmp_path, server.uri, monkeypatch)[1]
    assert "pretrain: up to date" in said
    run = pretraining_of(runs_of(server.uri, "ernie"), "dee", tmp_path)
    assert arrived(server.uri, run) == journalled(folder)
    assert [step for step, _ in journalled(folder)["train/loss"]] == list(range(1, 61))
