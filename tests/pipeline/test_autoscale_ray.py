"""A recipe on a cluster that begins with nothing but a head: the autoscaler starts the nodes of our cluster.yaml for each step, and ends them."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from autoscale_helper import HEAD_TYPE, Watch, log_of, ours
from cluster_helper import ROOT, LocalCluster, short_cluster
from test_pretrain_run import write_run

pytestmark = [pytest.mark.ray, pytest.mark.timeout(500)]

IDLE_S = 4.0
"""Shorter than Ray Train's start, so that nodes which nobody holds meanwhile would end."""


@pytest.fixture(scope="module")
def head() -> Iterator[LocalCluster]:
    with short_cluster(0, ours(IDLE_S)) as cluster:
        yield cluster


def test_our_node_types_are_kept_but_for_their_size(tmp_path: Path) -> None:
    config = yaml.safe_load((ROOT / "cluster.yaml").read_text(encoding="utf-8"))
    small = ours(IDLE_S)("127.0.0.1:1", tmp_path)
    types, kept = config["available_node_types"], small["available_node_types"]
    assert set(kept) == {*types, HEAD_TYPE} - {"head"}
    for name in ("cpu", "gpu_spot", "gpu_on_demand"):
        assert set(kept[name]["resources"]) - {"object_store_memory"} == set(types[name]["resources"])
        assert kept[name].get("priority") == types[name].get("priority")
        assert kept[name]["min_workers"] == types[name]["min_workers"] == 0


def test_nodes_come_for_each_step_no_more_than_it_needs_and_go(head: LocalCluster) -> None:
    recipe, root = write_run(head.folder, workers=2, ranks=2), head.folder / "runs"
    watch = Watch(head)
    try:
        done = head.ernie(
            "submit", str(recipe), "--set", f"root={root}", "--set", "gpus_on_demand=true", "--until", "pretrain", "--follow", timeout=400
        )
        assert done.returncode == 0, done.stdout + done.stderr
        end = time.monotonic() + 60
        while watch.there():
            assert time.monotonic() < end, "idle nodes stay"
            time.sleep(0.5)
    finally:
        watch.close()
    seen = watch.seen()
    assert seen[0][1] == {}, "a node before any demand"
    of = {kind: {node for _, there in seen for node, its in there.items() if its == kind} for kind in ("cpu", "gpu")}
    assert len(of["gpu"]) == 2, "two ranks need two nodes, once"
    assert 1 <= len(of["cpu"]) <= 2, "preparation has two workers"
    first_gpu = min(at for at, there in seen if "gpu" in there.values())
    assert first_gpu > (root / "tiny" / "prepare" / "manifest.json").stat().st_mtime, "a GPU node before the training step"
    assert any(there and "cpu" not in there.values() for at, there in seen if at > first_gpu), "preparation's nodes stay while ranks train"
    assert set(re.findall(r"Adding \d+ node\(s\) of type (\w+)", log_of(head))) == {"cpu", "gpu_spot"}, "spot nodes are asked for first"
    assert "WARN E-GPU-NONE" in (root / "tiny" / "pretrain" / "train.log").read_text(encoding="utf-8")
