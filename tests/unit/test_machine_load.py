"""The load of the machine, under MLflow's own names, with and without a GPU."""

from __future__ import annotations

import json
import time
from pathlib import Path

import psutil
import pytest
import torch
from ranks_helper import Group, arguments, bits, prepare

from pipelines.machine_load import MachineLoad

CPU_NAMES = {
    "system/cpu_utilization_percentage",
    "system/system_memory_usage_megabytes",
    "system/system_memory_usage_percentage",
    "system/disk_available_megabytes",
    "system/process_cpu_percentage",
    "system/process_memory_megabytes",
}
GPU_MEMORY = {"system/gpu_0_memory_usage_megabytes": 20_000.0, "system/gpu_0_memory_usage_percentage": 25.0}


def test_names_are_those_of_mlflows_own_monitors() -> None:
    from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
    from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor

    theirs = set()
    for monitor in (CPUMonitor(), DiskMonitor()):
        monitor.collect_metrics()
        theirs |= {f"system/{name}" for name in monitor.aggregate_metrics()}
    assert {name for name in CPU_NAMES if "process" not in name} <= theirs


def test_a_busy_process_is_told_with_its_memory(tmp_path: Path) -> None:
    load = MachineLoad(tmp_path, torch.device("cpu"), print)
    end = time.process_time() + 0.3
    while time.process_time() < end:
        pass
    found = load.read()
    assert set(found) == CPU_NAMES
    assert found["system/process_cpu_percentage"] > 5
    assert 0 < found["system/cpu_utilization_percentage"] <= 100
    assert found["system/process_memory_megabytes"] == pytest.approx(psutil.Process().memory_info().rss / 1e6, rel=0.2)
    assert 0 < found["system/system_memory_usage_percentage"] < 100


def test_a_gpu_is_told_with_its_load_and_power(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (60_000_000_000, 80_000_000_000))
    monkeypatch.setattr(torch.cuda, "utilization", lambda device: 93)
    monkeypatch.setattr(torch.cuda, "power_draw", lambda device: 412_300)
    said: list[str] = []
    found = MachineLoad(tmp_path, torch.device("cuda", 0), said.append).read()
    load = {"system/gpu_0_utilization_percentage": 93.0, "system/gpu_0_power_usage_watts": 412.3}
    assert {name: value for name, value in found.items() if "gpu" in name} == GPU_MEMORY | load
    assert said == []


def test_a_driver_that_tells_no_load_is_said_once_and_asked_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []

    def refuse(device: object) -> int:
        asked.append(device)
        raise RuntimeError("not supported")

    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (60_000_000_000, 80_000_000_000))
    monkeypatch.setattr(torch.cuda, "utilization", refuse)
    said: list[str] = []
    load = MachineLoad(tmp_path, torch.device("cuda", 0), said.append)
    for _ in range(2):
        assert {name: value for name, value in load.read().items() if "gpu" in name} == GPU_MEMORY
    assert said == ["WARN E-GPU-LOAD the GPU's load and power are not told (RuntimeError: not supported); its memory is"]
    assert len(asked) == 1


def test_training_journals_it_at_each_log_line_only_where_asked_and_trains_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = prepare(tmp_path / "ranks", monkeypatch)
    found = {}
    for asked in (True, False):
        group = Group(arguments(recipe, tmp_path / str(asked), system_metrics=asked, skip_steps=5), 1)
        assert group.end() == [0]
        points = [json.loads(line) for line in (group.folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
        found[asked] = [(p["step"], name) for p in points for name in p["metrics"] if name.startswith("system/")]
    assert sorted(found[True]) == sorted((step, name) for step in range(5, 61, 5) for name in CPU_NAMES)
    assert found[False] == []
    assert bits(tmp_path / "True") == bits(tmp_path / "False")
