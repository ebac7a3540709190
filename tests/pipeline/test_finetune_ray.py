"""Fine-tuning on Ray: parallel trials give the results of trials run one after the other."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from pathlib import Path

import pytest
from finetune_helper import toy_step

from ernie_core.errors import ResourceError
from pipelines.finetune import finetune
from pipelines.outbox import tracking_uri
from pipelines.ray_train import map_tasks
from pipelines.tracked_run import open_run


@pytest.mark.ray
@pytest.mark.usefixtures("cluster")
def test_two_workers_and_none_write_equal_results(tmp_path: Path, empty_store: Path) -> None:
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    found = []
    for workers in (0, 2):
        context, arguments, _ = toy_step(tmp_path / str(workers), seeds=[1, 2], names=["reviews"])
        context.run = open_run(
            uri=tracking_uri(str(tmp_path), None),
            experiment="ernie",
            name=f"w{workers}",
            folder=context.folder,
            tags={"recipe": f"w{workers}"},
            params={},
        )
        finetune(context, **{**arguments, "workers": workers})
        context.run.finish("FINISHED")
        trials = sorted((context.folder / "trials").glob("*/outcomes.npy"))
        found.append([(context.folder / "results.json").read_bytes(), *((p.parent.name, p.read_bytes()) for p in trials)])
    assert len(found[0]) == 7
    assert found[0] == found[1]
    with sqlite3.connect(tmp_path / "mlflow.db") as store:
        rows = store.execute("select name, status from runs").fetchall()
        points = store.execute(
            "select r.name, m.key, m.step, m.value from metrics m join runs r using (run_uuid) where m.key = 'dev/accuracy'"
        ).fetchall()
    assert {status for _, status in rows} == {"FINISHED"}
    trees = [sorted(name.removeprefix(f"w{n}") for name, _ in rows if name.startswith(f"w{n}")) for n in (0, 2)]
    assert trees[0] == trees[1]
    assert len(trees[0]) == 1 + 2 + 6
    curves = [sorted((name[2:], *rest) for name, *rest in points if name.startswith(f"w{n}")) for n in (0, 2)]
    assert curves[0] == curves[1]
    assert len(curves[0]) == 6 * 2


@pytest.mark.ray
@pytest.mark.usefixtures("cluster")
def test_work_at_which_processes_die_ends_with_a_named_error() -> None:
    def dies(_item: int) -> int:  # in here, so that it travels by value: workers cannot import a test's file
        os._exit(1)

    with pytest.raises(ResourceError, match="E-WORKER-DIED"):
        list(map_tasks(dies, [1], 1))


@pytest.mark.ray
@pytest.mark.usefixtures("cluster")
def test_a_trial_on_two_workers_of_ray_train_gives_the_result_of_one(tmp_path: Path) -> None:
    found, said = [], list[str]()
    for workers in (0, 2):
        context, arguments, said = toy_step(tmp_path / str(workers), seeds=[1], names=["daily_ner"])
        context.settings["arms"] = ["pretrained"]
        for settings in context.settings["benchmarks"].values():
            settings["learning_rates"] = [3e-3]
        finetune(context, **{**arguments, "workers": workers}, workers_per_trial=2)
        found.append(json.loads((context.folder / "results.json").read_bytes())["benchmarks"])
        assert not list(context.folder.glob("trials/*/checkpoint_manager_snapshot.json"))
    assert any("16 rows a batch (per device 8 x 2 devices x 1 micro-batch)" in line for line in said)
    for name, entry in found[0].items():
        for subset, metrics in entry["arms"]["pretrained"]["scores"].items():
            for metric, value in metrics.items():
                assert found[1][name]["arms"]["pretrained"]["scores"][subset][metric]["median"] == pytest.approx(value["median"], rel=1e-4), (
                    name,
                    metric,
                )
