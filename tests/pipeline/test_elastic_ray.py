"""Pretraining with `workers: [1, 2]` on a cluster that gains a node and loses it: the samples stay those of an unbroken run."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest
from cluster_helper import ROOT, LocalCluster, short_cluster
from test_pretrain_run import chain, write_run

from ernie_core.training.retention import complete, step_of

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]

SAVE_STEPS = 10
CHANGES = (
    "pretrain.iterations={knowledge_masking: 200, next_sentence: 100}", "pretrain.batch_tokens=2048", f"pretrain.save_steps={SAVE_STEPS}", "pretrain.skip_steps=1",
    "pretrain.validation_steps=10000",
)  # fmt: skip


@pytest.fixture(scope="module")
def cluster_of_one() -> Iterator[LocalCluster]:
    with short_cluster(nodes=1) as cluster:
        yield cluster


def settings(*changes: str) -> list[str]:
    return [word for change in (*CHANGES, *changes) for word in ("--set", change)]


def wait_until(what: Callable[[], bool], cluster: LocalCluster, seconds: float = 150) -> float:
    """Return the seconds until it is so."""
    start = time.monotonic()
    while not what():
        assert time.monotonic() < start + seconds, re.sub(r"epoch: .*, (step: \d+), .*", r"\1", cluster.ernie("logs", "tiny").stdout)
        time.sleep(0.05)
    return time.monotonic() - start


def test_a_group_grows_with_a_new_node_and_shrinks_when_it_goes(cluster_of_one: LocalCluster) -> None:
    cluster, root = cluster_of_one, cluster_of_one.folder / "elastic" / "runs"
    recipe = write_run(cluster.folder, workers=1, ranks="[1, 2]")
    log, checkpoints = root / "tiny" / "pretrain" / "train.log", root / "tiny" / "pretrain" / "checkpoints"

    def lines() -> list[str]:
        return log.read_text(encoding="utf-8").splitlines() if log.exists() else []

    def groups() -> list[int]:
        """Return where the groups after the first began in the log."""
        return [number for number, line in enumerate(lines()) if line.startswith("resumed from")]

    def steps(group: list[str]) -> list[int]:
        return [int(found[1]) for line in group if (found := re.search(r"\bstep: (\d+), loss", line))]

    first = cluster.ernie("submit", str(recipe), *settings(f"root={root}", "pretrain.grow_after_s=1"))
    assert first.returncode == 0, first.stderr
    wait_until(lambda: bool(steps(lines())), cluster)
    node = cluster.add_node(1)
    grown_s = wait_until(lambda: len(groups()) == 1 and bool(steps(lines()[groups()[0] :])), cluster)
    before = len(complete(checkpoints))
    newest = step_of(complete(checkpoints)[0])
    wait_until(lambda: len(complete(checkpoints)) > 0 and step_of(complete(checkpoints)[0]) > newest, cluster)
    assert before
    cluster.kill_node(node)
    shrunk_s = wait_until(lambda: len(groups()) == 2 and bool(steps(lines()[groups()[1] :])), cluster)
    wait_until((root / "tiny" / "pretrain" / "manifest.json").exists, cluster, 300)

    told, (second, third) = lines(), groups()
    parts = [steps(told[:second]), steps(told[second:third]), steps(told[third:])]
    assert parts[1][0] == parts[0][-1] + 1, "a group that grows redoes no step"
    redone = parts[1][-1] + 1 - parts[2][0]
    assert 0 <= redone <= SAVE_STEPS, "a lost node costs one checkpoint interval at most"
    assert parts[2][-1] == 300
    assert "world: 1 in the checkpoint, 2 now" in "\n".join(told[second:third])
    assert "world: 2 in the checkpoint, 1 now" in "\n".join(told[third:])
    print(f"grown: {grown_s:.1f} s to the first new step, 0 redone; shrunk: {shrunk_s:.1f} s, {redone} redone")

    alone = cluster.folder / "alone"
    alone.mkdir()
    shutil.copytree(root / "tiny" / "prepare", alone / "runs" / "tiny" / "prepare")
    shutil.copy(root / "tiny" / "run.json", alone / "runs" / "tiny")
    command = [sys.executable, "-m", "jobs.cli", "pretrain", str(recipe), *settings(f"root={alone / 'runs'}", "workers=0")]
    done = subprocess.run(command, cwd=ROOT, env=cluster.env, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert chain(root.parent) == chain(alone) != ""
