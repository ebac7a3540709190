"""A long backlog of points gets on with every call that succeeds: an outage in the middle of it does not begin it anew (F74)."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from pipelines import tracked_run, tracking
from pipelines.journal import JOURNAL_NAME, Journal, Point
from pipelines.outbox import Shipped, read_state, tracking_uri
from pipelines.tracked_run import open_run

POINTS, NAMES = 70, 60


def test_a_call_holds_whole_points_and_a_point_too_large_for_one_is_cut() -> None:
    points = [Point(1, 0, {"a": 1.0}, 0), Point(2, 0, {f"m{i}": 1.0 for i in range(2500)}, 100), Point(3, 0, {f"m{i}": 1.0 for i in range(500)}, 200), Point(4, 0, {"a": 2.0}, 300)]  # fmt: skip
    calls = [(len(metrics), {m.step for m in metrics}, done) for metrics, done in tracking._calls(points, 400)]
    assert calls == [(1, {1}, 100), (1000, {2}, 100), (1000, {2}, 100), (1000, {2, 3}, 300), (1, {4}, 400)]


def test_a_server_that_fails_every_second_call_gets_each_metric_once(tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    folder = tmp_path / "demo" / "pretrain"
    folder.mkdir(parents=True)
    said: list[str] = []
    run = open_run(
        uri=tracking_uri(str(tmp_path), None), experiment="ernie", name="demo-pretrain", folder=folder, tags={}, params={}, say=said.append
    )
    journal = Journal(folder / JOURNAL_NAME)
    for step in range(POINTS):
        journal.log(step, {f"m{i}": float(step) for i in range(NAMES)})
    journal.close()
    real, sizes = MlflowClient.log_batch, []

    def every_second(self: MlflowClient, run_id: str, metrics: Any = (), **more: Any) -> None:
        """Refuse every second call with metrics, as a server that comes and goes."""
        if metrics:
            sizes.append(len(metrics))
            if len(sizes) % 2 == 0:
                raise ConnectionError("gone")
        real(self, run_id, metrics=metrics, **more)

    monkeypatch.setattr(MlflowClient, "log_batch", every_second)
    monkeypatch.setattr(tracked_run, "TRIES", 1)
    tries = 1
    while not run.attempt(60):
        tries += 1
        assert tries < 20, "nothing was gained by the calls that succeeded"
    assert POINTS * NAMES == 4200
    assert sizes == [960] * 7 + [360] * 2, "a call that succeeded is not made again"
    shipped = read_state(folder, Shipped)
    assert shipped is not None
    assert shipped.offset == (folder / JOURNAL_NAME).stat().st_size
    history = MlflowClient(tracking_uri=tracking_uri(str(tmp_path), None)).get_metric_history(str(run.run_id), "m59")
    assert [(m.step, m.value) for m in history] == [(step, float(step)) for step in range(POINTS)]
