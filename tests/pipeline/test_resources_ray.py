"""What each process asks of the cluster: CPUs, and memory where the recipe names any."""

from __future__ import annotations

import json
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray
import ray.data

from corpus_prep.flow import _on_ray
from ernie_core.errors import ResourceError
from ernie_core.training.worker import Worker
from pipelines.host import Host
from pipelines.ray_train import map_tasks, run_workers
from pipelines.resources import wait_for

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("cluster")]


def asked(resources: dict[str, float]) -> dict[str, float]:
    """Return CPUs and memory of what a process was given; names of a placement group's shares left out."""
    return {name: resources[name] for name in ("CPU", "memory") if name in resources}


@pytest.mark.parametrize(("memory_bytes", "expected"), [(0, {"CPU": 1.0}), (200_000_000, {"CPU": 1.0, "memory": 2e8})])
def test_a_trial_is_given_the_memory_that_it_asks_for(memory_bytes: int, expected: dict[str, float]) -> None:
    def given(_item: int) -> dict[str, float]:  # in here, so that it travels by value: workers cannot import a test's file
        return dict(ray.get_runtime_context().get_assigned_resources())

    assert [asked(found) for found in map_tasks(given, [1], 1, memory_bytes)] == [expected]


def test_a_rank_is_given_the_memory_that_it_asks_for(tmp_path: Path) -> None:
    def train(arguments: dict[str, Any], worker: Worker, _host: Host) -> None:
        found = dict(ray.get_runtime_context().get_assigned_resources())
        Path(arguments["folder"], f"{worker.rank}.json").write_text(json.dumps(found), encoding="utf-8")

    (tmp_path / "step").mkdir()
    run_workers(
        train, {"folder": str(tmp_path)}, workers=1, threads=1, folder=tmp_path / "step", max_failures=0, progress=lambda: None, timeout_s=30,
        memory_bytes=200_000_000,
    )  # fmt: skip
    assert asked(json.loads((tmp_path / "0.json").read_bytes())) == {"CPU": 1.0, "memory": 2e8}


def test_a_task_of_preparation_asks_for_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    options: list[dict[str, Any]] = []

    class Rows:
        """Stands in for a Ray dataset: keeps what a map is told."""

        def map(self, _function: Any, **given: Any) -> Rows:
            """Note the options."""
            options.append(given)
            return self

        def iter_rows(self) -> list[Any]:
            """Return no rows."""
            return []

    monkeypatch.setattr(ray.data, "from_items", lambda _rows, override_num_blocks: Rows())
    split = SimpleNamespace(size_bytes=1, to_json=dict)
    assert [list(_on_ray("1", [split], None, 2, memory)) for memory in (0, 300_000_000)] == [[], []]  # type: ignore[arg-type,list-item]
    assert [(given["num_cpus"], given["memory"]) for given in options] == [(1, None), (1, 300_000_000)]


def test_memory_that_is_not_there_is_waited_for_and_named() -> None:
    said: list[str] = []
    with pytest.raises(ResourceError, match=r"E-RESOURCES .*expected 2 × \(1 CPU 1e\+06 GB memory\); found 2 CPU \S+ GB memory free of") as caught:
        wait_for([{"CPU": 1.0, "memory": 1e15}] * 2, "pretrain", 3.0, said.append, every_s=1.0)
    assert caught.value.exit_code == 6
    assert said
    assert said[0].startswith("pretrain: waits for room: asks 2 × (1 CPU 1e+06 GB memory); 2 CPU ")


def test_nodes_that_were_waited_for_are_held_until_they_are_let_go() -> None:
    def held() -> list[dict[str, float]]:
        """Return the bundles of groups that have their place."""
        groups = ray.util.placement_group_table().values()
        return [bundle for group in groups if group["state"] == "CREATED" for bundle in group["bundles"].values()]

    room = wait_for([{"CPU": 1.0}] * 2, "pretrain", 30.0, print)
    assert room.processes == 2
    assert held() == [{"memory": 1.0}], "one node, on which both CPUs are free again"
    room.release()
    room.release()
    end = time.monotonic() + 20
    while held():
        assert time.monotonic() < end
        time.sleep(0.1)


@pytest.mark.parametrize(("most", "found"), [(2, 2), (3, 2)])
def test_as_many_as_there_is_room_for_are_taken_beyond_the_least(most: int, found: int) -> None:
    room = wait_for([{"CPU": 1.0}], "pretrain", 30.0, print, most=most)
    room.release()
    assert room.processes == found
