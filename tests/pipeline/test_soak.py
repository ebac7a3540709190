"""The demo's pretraining on a small cluster with a kill every few minutes, for ERNIE_SOAK_MINUTES: Level A, one MLflow run, every point once."""

from __future__ import annotations

import os
import random
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cluster_helper import LocalCluster, local_cluster
from ranks_helper import Group, arguments, bits, last_step
from server_helper import MlflowServer, arrived, found_runs, journalled
from submitted_helper import SubmittedRun, wait

from pipelines.recipe import load_recipe
from pipelines.workflow import run_recipe

MINUTES = float(os.environ.get("ERNIE_SOAK_MINUTES", "20"))
EVERY_S = 180.0
RUN_S = 480.0
"""What one run is meant to take; runs follow each other until the minutes are over."""
RANKS = 2
DEMO = Path(__file__).parents[2] / "pipelines" / "recipes" / "demo.yaml"
MACHINE = {"device_tokens": 512, "save_steps": 50, "skip_steps": 1}
LAID = ("pretrain.threads=1", "pretrain.precision=fp32", *(f"pretrain.{name}={value}" for name, value in MACHINE.items()))
pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(60 * (4 * MINUTES + 30))]


def iterations(steps: int) -> str:
    """Return the setting that gives the demo's tasks so many steps in the demo's proportions, nearly."""
    part = steps // 9
    return f"pretrain.iterations={{knowledge_masking: {6 * part}, next_sentence: {part}, sentence_reordering: {part}, token_document: {part}}}"


def rate(recipe: Path, folder: Path) -> float:
    """Return steps a second of the ranks without a cluster."""
    group = Group(arguments(recipe, folder, (iterations(900), *LAID), **MACHINE), RANKS, wait_s=120)
    group.wait_for(20)
    begun, first = time.monotonic(), last_step(folder)
    group.wait_for(120)
    found = (last_step(folder) - first) / (time.monotonic() - begun)
    group.kill_all()
    return found


class Killer:
    """Kills at random, seeded; every kind once before any comes again."""

    def __init__(self, cluster: LocalCluster, server: MlflowServer, seed: int) -> None:
        self.cluster, self.server, self.draw = cluster, server, random.Random(seed)
        self.kinds = {"rank": self.rank, "node": self.node, "drained node": self.drained, "driver": self.driver, "server": self.restart_server}
        self.waiting: list[str] = []
        self.landed: list[str] = []
        self.next_at = 0.0

    def until_the_end(self, run: SubmittedRun, steps: int) -> None:
        """Kill every `EVERY_S` seconds or so while there is work."""
        self.run = run
        self.next_at = max(self.next_at, time.monotonic() + 20)
        while last_step(run.folder) < 0.97 * steps:
            time.sleep(0.5)
            if time.monotonic() >= self.next_at:
                self.waiting = self.waiting or self.draw.sample(sorted(self.kinds), len(self.kinds))
                self.next_at = time.monotonic() + self.draw.uniform(0.6, 1.4) * EVERY_S
                kind = self.waiting.pop()
                self.kinds[kind]()
                self.landed.append(kind)

    def rank(self) -> None:
        """Kill a training process."""
        victim = self.draw.choice(sorted(self.run.rank_processes(self.cluster)))
        self.run.fault("rank", lambda: os.kill(victim, signal.SIGKILL))

    def node(self) -> None:
        """Kill a node with a training process on it, and give the cluster another some seconds later."""
        node = self.cluster.node_of(self.draw.choice(sorted(self.run.rank_processes(self.cluster))))

        def mend() -> None:
            time.sleep(self.draw.uniform(0, 15))
            self.cluster.add_node(1)

        self.run.fault("node", lambda: self.cluster.kill_node(node), mend)

    def drained(self) -> None:
        """Give notice of a node with a training process, and take it away once it is left."""
        node = self.cluster.node_of(self.draw.choice(sorted(self.run.rank_processes(self.cluster))))
        self.run.fault("drained node", lambda: self.cluster.drain(node, 60))
        assert self.run.resumed()[-1][1] == 0, "a drain redoes no step"
        self.cluster.kill_node(node)
        self.cluster.add_node(1)

    def driver(self) -> None:
        """Kill the driver of the job, and submit the run again."""
        self.run.fault("driver", lambda: self.run.lose_driver(self.cluster))

    def restart_server(self) -> None:
        """Kill the MLflow server, see that training goes on, and start it again."""
        assert self.run.pending()
        before = last_step(self.run.folder)
        self.server.signal(signal.SIGKILL)
        time.sleep(self.draw.uniform(5, 30))
        wait(lambda: last_step(self.run.folder) > before or not self.run.pending(), "a step without the server")
        self.server.start()
        print(f"server: dead from step {before} to {last_step(self.run.folder)}", flush=True)


def ended(cluster: LocalCluster) -> bool:
    """Return whether the newest job ended well; fail where it ended otherwise."""
    newest = cluster.ernie("status", "demo").stdout.splitlines()[-1]
    assert "failed" not in newest, cluster.ernie("logs", "demo").stdout[-3000:]
    return "succeeded" in newest


def check(run: SubmittedRun, twin: dict[str, Any], server: MlflowServer, steps: int) -> bool:
    """Return whether MLflow has one run with every point once, and the run's bits are its twin's."""
    found = found_runs(server.uri, run.folder.parent)["demo-pretrain"]
    assert found.info.status == "FINISHED"
    expected = journalled(run.folder.parent)
    assert [step for step, _ in expected["train/loss"]] == list(range(1, steps + 1))
    assert arrived(server.uri, found) == expected
    return bits(run.folder) == twin


@pytest.fixture
def server(tmp_path: Path, empty_store: Path) -> Iterator[MlflowServer]:
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    started = MlflowServer(f"sqlite:///{tmp_path}/mlflow.db", tmp_path)
    yield started
    started.close()


def test_trainings_with_a_kill_every_three_minutes_end_with_the_bits_of_their_unbroken_twin(tmp_path: Path, server: MlflowServer) -> None:
    recipe = tmp_path / "demo.yaml"
    shutil.copy(DEMO, recipe)
    run_recipe(load_recipe(recipe, [f"root={tmp_path}/runs", "workers=0"]), lambda line: print(line, flush=True), until="prepare")
    steps = int(min(RUN_S, 60 * MINUTES) * rate(recipe, tmp_path / "rate")) // 9 * 9
    changes = (iterations(steps), *LAID)
    group = Group(arguments(recipe, tmp_path / "twin", changes, **MACHINE), RANKS, wait_s=240)
    short = Path(tempfile.mkdtemp(prefix="es"))
    begun, runs = time.monotonic(), 0
    with local_cluster(short / "c", 3) as cluster:
        killer = Killer(cluster, server, seed=7)
        while time.monotonic() - begun < 60 * MINUTES:
            runs += 1
            run = SubmittedRun(recipe, tmp_path / f"soak-{runs}", (*changes, f"tracking.uri={server.uri}"), RANKS, "demo")
            run.submit(cluster)
            run.wait_for(20)
            killer.until_the_end(run, steps)
            wait(lambda: ended(cluster), "the job's end")
            run.submit(cluster)  # sends what MLflow does not have yet
            wait(lambda: ended(cluster), "the end of the same command again")
            assert group.end(4 * 3600) == [0] * RANKS
            assert check(run, bits(tmp_path / "twin"), server, steps)
            print(f"run {runs}: {steps} steps, equal to the bit, {(time.monotonic() - begun) / 60:.1f} minutes", flush=True)
    print(f"{runs} runs, {len(killer.landed)} kills: {', '.join(killer.landed)}", flush=True)
    shutil.rmtree(short, ignore_errors=True)
    assert len(killer.landed) >= MINUTES / 6
