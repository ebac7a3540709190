"""Processes, nodes and the head of a cluster lost while a submitted run works: it goes on, or its next submission does, to equal bits (F1, F2, F5, F6, F9, F15)."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster_helper import ROOT, LocalCluster, local_cluster
from prepare_helper import document
from ranks_helper import Group, arguments, bits
from submitted_helper import SubmittedRun, alive, prepared, wait

from ernie_core.manifest import file_sha256

pytestmark = [pytest.mark.ray, pytest.mark.timeout(900)]
CHANGES = (
    "pretrain.iterations={knowledge_masking: 720, next_sentence: 240, sentence_reordering: 240}", "pretrain.validation_steps=400",
    "pretrain.device_tokens=150", "pretrain.save_steps=20", "pretrain.skip_steps=1",
)  # fmt: skip
"""1,200 steps, laid over ranks as those of `ranks_helper` are."""
QUICK = {"RAY_gcs_rpc_server_reconnect_timeout_s": "5"}
"""How long nodes and drivers look for a lost head; Ray's own figure is 60 s."""


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a short path."""
    made = Path(tempfile.mkdtemp(prefix="en"))
    yield made
    shutil.rmtree(made, ignore_errors=True)


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepared(tmp_path_factory.mktemp("ranks"))


@contextlib.contextmanager
def followed(cluster: LocalCluster, run: str) -> Iterator[subprocess.Popen[str]]:
    """Follow a job's log as a person does."""
    command = [sys.executable, "-m", "jobs.cli", "logs", run, "--follow"]
    with subprocess.Popen(command, cwd=ROOT, env=cluster.env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        yield process
        process.kill()


def lose_head(run: SubmittedRun, cluster: LocalCluster) -> None:
    """Kill the cluster's GCS, look at how everything ends, and delete all it kept."""
    driver = run.driver()
    (gcs,) = cluster.processes(b"gcs_server", cluster.nodes[:1])
    with followed(cluster, run.name) as follower:
        time.sleep(3)
        os.kill(gcs, signal.SIGKILL)
        begun = time.monotonic()
        assert run.pending(), "the kill must land while work is pending"
        errors = follower.communicate(timeout=60)[1]
        assert follower.returncode == 6, errors
        assert "E-CLUSTER" in errors
        print(f"the follower ended after {time.monotonic() - begun:.1f} s")
        wait(lambda: not alive(driver), "the driver's end")
        wait(lambda: not any(alive(pid) for pid in run.rank_processes(cluster)), "the ranks' end")
        print(f"driver and ranks of a lost head ended after {time.monotonic() - begun:.1f} s")
    for node in cluster.nodes:
        cluster.kill_node(node)
    shutil.rmtree(cluster.folder)


def test_a_run_that_loses_rank_nodes_driver_and_head_ends_with_the_bits_of_an_unbroken_one(
    recipe: Path, folder: Path, tmp_path: Path, empty_store: Path
) -> None:
    run = SubmittedRun(recipe, tmp_path, CHANGES, ranks=2)
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    once = tmp_path / "segfault"
    armed = {"ERNIE_FAILPOINT": "train.after_step:60", "ERNIE_FAILPOINT_HOW": "segfault", "ERNIE_FAILPOINT_ONCE": str(once)}
    with local_cluster(folder / "a", 0, **QUICK) as cluster:
        for _ in range(3):
            cluster.add_node(1, **armed)
        run.submit(cluster)
        run.wait_for(50)
        run.fault("F15, a rank's segfault", lambda: wait(once.exists, "a segfault"))
        drained = cluster.node_of(run.rank_processes(cluster)[0])
        run.fault("F9, a node drained", lambda: cluster.drain(drained, 30))
        assert run.resumed()[-1][1] == 0, "a drain redoes no step"
        assert "a node is taken away, and the ranks left it with a checkpoint" in cluster.ernie("logs", run.name).stdout
        assert not [pid for pid in run.rank_processes(cluster) if cluster.node_of(pid) is drained]
        cluster.kill_node(drained)
        lost = cluster.node_of(run.rank_processes(cluster)[0])
        run.fault("a node of training killed", lambda: cluster.kill_node(lost), lambda: cluster.add_node(1))
        run.fault("F5, the driver killed", lambda: run.lose_driver(cluster))
        lose_head(run, cluster)
    with local_cluster(folder / "b", 2) as cluster:
        run.fault("F6, the head killed", lambda: run.submit(cluster))
        wait((run.folder / "manifest.json").exists, "the end")
    assert len(run.resumed()) == 5
    assert max(redone for _, redone in run.resumed()) <= 40, "beyond the checkpoint in flight and the one before it"
    twin = tmp_path / "twin"
    assert Group(arguments(recipe, twin, CHANGES), 2).end() == [0, 0]
    assert bits(run.folder) == bits(twin)


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_ten_drains_in_one_run_redo_no_step_and_are_no_failures(recipe: Path, folder: Path, tmp_path: Path, empty_store: Path) -> None:
    many = ("pretrain.iterations={knowledge_masking: 3600, next_sentence: 1200, sentence_reordering: 1200}", *CHANGES[1:])
    run = SubmittedRun(recipe, tmp_path, many, ranks=2)
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    with local_cluster(folder / "a", 3) as cluster:
        run.submit(cluster)
        run.wait_for(20)
        for _ in range(10):  # Ray gives a group up at its fourth failure
            drained = cluster.node_of(run.rank_processes(cluster)[0])
            run.fault("a node drained", lambda node=drained: cluster.drain(node, 60))
            cluster.kill_node(drained)
            cluster.add_node(1)
        wait((run.folder / "manifest.json").exists, "the end")
    assert [redone for _, redone in run.resumed()] == [0] * 10
    twin = tmp_path / "twin"
    assert Group(arguments(recipe, twin, many), 2).end(900) == [0, 0]
    assert bits(run.folder) == bits(twin)


def shards(prepared: Path) -> dict[str, str]:
    return {str(p.relative_to(prepared)): file_sha256(p) for p in sorted((prepared / "shards").rglob("*")) if p.is_file()}


def test_a_preparation_that_loses_a_worker_and_a_node_writes_the_same_shards(folder: Path, tmp_path: Path, empty_store: Path) -> None:
    (tmp_path / "texts").mkdir()
    for k in range(8):
        (tmp_path / "texts" / f"{k}.txt").write_text("\n\n".join(document(i + 60 * k) for i in range(60)) + "\n", encoding="utf-8")
    recipe = tmp_path / "many.yaml"
    recipe.write_text(
        f'name: many\ncorpora: {{own: {{reader: text, path: "{tmp_path}/texts/*.txt"}}}}\nprepare: {{split_bytes: 8192, vocab_size: 600, tasks: {{knowledge_masking: {{}}, next_sentence: {{}}}}}}\n'
    )
    root = tmp_path / "runs"
    root.mkdir()
    shutil.copy(empty_store, root / "mlflow.db")
    done = root / "many" / "prepare"
    with local_cluster(folder / "p", 2) as cluster:
        started = cluster.ernie("submit", str(recipe), "--until", "prepare", "--set", f"root={root}", "--set", "workers=2")
        assert started.returncode == 0, started.stderr
        wait(lambda: len(list(done.glob("entries/1-*"))) >= 8 and any(done.glob("attempts/*.1")), "a split at work")
        workers = cluster.processes(b"ray::Map", cluster.nodes)
        assert workers
        os.kill(workers[0], signal.SIGKILL)
        wait(lambda: len(list(done.glob("entries/2-*"))) >= 8, "half of the work")
        cluster.kill_node(cluster.nodes[1])
        begun = time.monotonic()
        assert not (done / "manifest.json").exists(), "the kill must land while work is pending"
        wait((done / "manifest.json").exists, "the end without that node")
        print(f"the end {time.monotonic() - begun:.1f} s after the node's")
    alone = ["prepare", str(recipe), "--set", f"root={tmp_path / 'alone'}", "--set", "workers=0"]
    assert cluster.ernie(*alone).returncode == 0
    assert shards(done) == shards(tmp_path / "alone" / "many" / "prepare") != {}
