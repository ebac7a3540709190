"""A recipe as a job of a cluster of a head and two nodes, as a person submits it."""

from __future__ import annotations

import os
import re
import shlex
import stat
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster_helper import RAY, ROOT, LocalCluster, short_cluster
from ports_helper import METRICS, listening
from test_pretrain_run import write_run

from ernie_core.manifest import file_sha256

pytestmark = [pytest.mark.ray, pytest.mark.timeout(400)]


@pytest.fixture(scope="module")
def nodes() -> Iterator[LocalCluster]:
    with short_cluster(nodes=2) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def recipe(nodes: LocalCluster) -> Path:
    return write_run(nodes.folder, workers=2, ranks=2)


def shards(prepared: Path) -> dict[str, str]:
    return {str(p.relative_to(prepared)): file_sha256(p) for p in sorted((prepared / "shards").rglob("*")) if p.is_file()}


def test_a_job_that_is_stopped_and_submitted_again_ends_as_one_machine_does(nodes: LocalCluster, recipe: Path) -> None:
    root = nodes.folder / "runs"
    long = [
        "--set",
        f"root={root}",
        "--set",
        "pretrain.iterations={knowledge_masking: 450, next_sentence: 50}",
        "--set",
        "pretrain.validation_steps=500",
    ]
    first = nodes.ernie("submit", str(recipe), *long)
    assert first.returncode == 0, first.stderr
    assert "submitted ernie-tiny-1" in first.stdout
    twice = nodes.ernie("submit", str(recipe), *long)
    assert twice.returncode == 5
    assert "E-SUBMITTED" in twice.stderr
    checkpoints = root / "tiny" / "pretrain" / "checkpoints"
    end = time.monotonic() + 150
    while not list(checkpoints.glob("step-*/manifest.json")):
        assert time.monotonic() < end, nodes.ernie("logs", "tiny").stdout
        time.sleep(0.3)
    stopped = nodes.ernie("stop", "tiny")
    assert stopped.returncode == 0, stopped.stderr
    assert not (root / "tiny" / "pretrain" / "manifest.json").exists(), "the stop came too late"
    log = nodes.ernie("logs", "tiny").stdout
    at = re.search(r"E-STOPPED stopped at step (\d+) of 500 with a good checkpoint", log)
    assert at is not None, log
    again = nodes.ernie("submit", str(recipe), *long, "--follow", timeout=300)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "pretrain: goes on" in again.stdout
    assert "ernie-tiny-2: succeeded" in again.stdout
    resumed = re.findall(r"resumed from \S+ at step (\d+) of 500", (root / "tiny" / "pretrain" / "train.log").read_text(encoding="utf-8"))
    assert set(resumed) == {at[1]}, "a planned stop redoes no step"
    listed = nodes.ernie("status", "tiny").stdout.splitlines()
    assert [line.split(",")[0] for line in listed] == ["ernie-tiny-1: stopped", "ernie-tiny-2: succeeded"]
    alone = nodes.folder / "alone"
    command = [sys.executable, "-m", "jobs.cli", "prepare", str(recipe), "--set", f"root={alone}", "--set", "workers=0"]
    assert subprocess.run(command, cwd=ROOT, env=nodes.env, capture_output=True, check=False, timeout=120).returncode == 0
    assert shards(root / "tiny" / "prepare") == shards(alone / "tiny" / "prepare") != {}


def test_the_readmes_own_ray_command_prepares_the_same_shards(nodes: LocalCluster, recipe: Path) -> None:
    line = re.search(r"`(ray job submit [^`]+)`", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert line is not None
    words = shlex.split(line[1])
    assert words[words.index("jobs.run") + 1 :] == ["pipelines/recipes/demo.yaml", "--set", "root=/mnt/ernie/runs"]
    command = [str(RAY), *words[1 : words.index("jobs.run") + 1], str(recipe), "--until", "prepare", "--set", f"root={nodes.folder / 'plain'}"]
    done = subprocess.run(command, cwd=ROOT, env=nodes.env, capture_output=True, text=True, check=False, timeout=150)
    assert done.returncode == 0, done.stdout + done.stderr
    assert shards(nodes.folder / "plain" / "tiny" / "prepare") == shards(nodes.folder / "runs" / "tiny" / "prepare") != {}


def test_a_demand_that_cannot_be_met_ends_with_asked_against_available(nodes: LocalCluster, recipe: Path) -> None:
    asked = ["--set", f"root={nodes.folder / 'big'}", "--set", "name=big", "--set", "pretrain.workers=9", "--set", "resources_wait_s=4"]
    done = nodes.ernie("submit", str(recipe), *asked, "--follow")
    assert done.returncode == 6, done.stdout
    assert "E-RESOURCES" in done.stdout
    assert "expected 9 × (1 CPU); found 2 CPU free of 2 CPU" in done.stdout


def test_nobody_gets_in_without_the_token_and_the_token_shows_up_nowhere(nodes: LocalCluster) -> None:
    token = (nodes.folder / "home" / ".ray" / "auth_token").read_text(encoding="utf-8")
    url = f"{nodes.env['RAY_API_SERVER_ADDRESS']}/api/jobs/"
    codes = []
    for given in ({}, {"Authorization": "Bearer " + "0" * 64}, {"Authorization": f"Bearer {token}"}):
        try:
            codes.append(urllib.request.urlopen(urllib.request.Request(url, headers=given), timeout=10).status)
        except urllib.error.HTTPError as e:
            codes.append(e.code)
    assert codes == [401, 403, 200]
    assert stat.S_IMODE(os.stat(nodes.folder / "home" / ".ray" / "auth_token").st_mode) == 0o600
    files = [p for p in nodes.folder.rglob("*") if p.is_file() and p.name != "auth_token" and p.stat().st_size < 50_000_000]
    assert len(files) > 20
    assert [str(p) for p in files if token.encode() in p.read_bytes()] == []
    lines = [p.read_bytes() for p in Path("/proc").glob("[0-9]*/cmdline") if os.access(p, os.R_OK) and p.exists()]
    assert not [line for line in lines if token.encode() in line]


LISTENERS = {
    "dashboard": {"loopback"}, "head's tables (GCS)": {"all"}, "raylet": {"all"}, "node's agent": {"all", "node", "loopback"},
    "runtime-env agent": {"node"}, "Ray Client": {"node", "loopback"}, "worker": {"all", "node", "loopback"}, METRICS: {"all"},
}  # fmt: skip
"""What SECURITY.md says of a cluster that is started as cluster.yaml does, with Ray Client's server, which that does not start."""


def test_a_cluster_listens_where_security_md_says_and_nowhere_else(nodes: LocalCluster) -> None:
    found = listening(node.pid for node in nodes.nodes)
    assert set(LISTENERS) - set(found) <= {"worker", METRICS}, found  # of several heads on a machine one has the ports of Ray's metrics
    assert {kind: sorted(where - LISTENERS.get(kind, set())) for kind, where in found.items()} == {kind: [] for kind in found}
    assert found["dashboard"] == {"loopback"}
    assert found["head's tables (GCS)"] == found["raylet"] == {"all"}, "what needs a private network"
    told = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    assert [kind for kind in LISTENERS if kind not in told] == []
