"""A Ray cluster of several nodes on this machine, by `ray start --block` processes of our own, which alone are ended."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DRAIN = """
import sys, time
from ray._raylet import GcsClient
from ray.core.generated.autoscaler_pb2 import DrainNodeReason
client = GcsClient(address=sys.argv[1])
(node,) = [key.hex() for key, info in client.get_all_node_info().items() if info.node_name == sys.argv[2]]
reason = DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION")
accepted, why = client.drain_node(node, reason, "spot notice", time.time_ns() // 1_000_000 + 1000 * int(sys.argv[3]))
assert accepted, why
"""
"""Tells the cluster at argv[1] that the node named argv[2] is taken away in argv[3] seconds, as a cloud's notice does."""
RAY = Path(sys.executable).with_name("ray")
ROOT = Path(__file__).parents[1]
HEAD_ID = "f" * 51 + "00000"
"""Node id of a head whose autoscaler starts its nodes on this machine: Ray's fake provider knows it by no other."""
AUTOSCALED = {
    "RAY_FAKE_CLUSTER": "1", "RAY_enable_autoscaler_v2": "1", "AUTOSCALER_UPDATE_INTERVAL_S": "1", "RAY_DATA_MIN_GAP_BETWEEN_AUTOSCALING_REQUESTS": "1",
    "RAY_CLOUD_INSTANCE_ID": HEAD_ID, "RAY_OVERRIDE_NODE_ID_FOR_TESTING": HEAD_ID,
}  # fmt: skip
"""Of such a head, beside the cluster's environment; its clocks run faster than a cloud's (5 s, 10 s)."""


def free_ports(count: int, low: int = 20000, high: int = 32000) -> list[int]:
    """Return ports nobody listens on, beyond the range that Ray gives its workers."""
    found: list[int] = []
    while len(found) < count:
        port = low + secrets.randbelow(high - low)
        with socket.socket() as probe:
            if port not in found and probe.connect_ex(("127.0.0.1", port)) != 0:
                found.append(port)
    return found


def agent_ports() -> list[str]:
    """Return the arguments that give a node's agent ports of its own: the agent of any other Ray on this machine has the usual ones."""
    names = ("dashboard-agent-listen-port", "dashboard-agent-grpc-port", "metrics-export-port", "runtime-env-agent-port")
    return [f"--{name}={port}" for name, port in zip(names, free_ports(len(names)), strict=True)]


@dataclass
class LocalCluster:
    """A head without CPUs, and nodes that can be added and killed.

    Args:
        env: environment of the cluster's processes and of whoever talks to it; holds HOME with the token, and RAY_API_SERVER_ADDRESS.
        folder: short; holds Ray's temporary files.
        gcs: address that nodes join.
    """

    env: dict[str, str]
    folder: Path
    gcs: str
    nodes: list[subprocess.Popen[bytes]]

    def add_node(self, cpus: int, **environment: str) -> subprocess.Popen[bytes]:
        """Start a node of so many CPUs, whose processes have more variables in their environment, and wait until it is there.

        On a busy machine, or beside another that starts, a node may time out and end: it is started again.
        """
        for _ in range(3):
            process = self._start_node(cpus, environment)
            log = self.folder / f"node-{self.nodes.index(process)}.log"
            end = time.monotonic() + 120
            while process.poll() is None:
                if b"Ray runtime started" in log.read_bytes():
                    return process
                assert time.monotonic() < end, "the node does not start"
                time.sleep(0.1)
            self.kill_node(process)
        raise AssertionError(log.read_text(encoding="utf-8"))

    def _start_node(self, cpus: int, environment: dict[str, str]) -> subprocess.Popen[bytes]:
        number = len(self.nodes)
        # A folder of its own, as on a machine of its own: each node's agent deletes a job's working folder and unpacks it anew.
        command = [
            str(RAY), "start", f"--address={self.gcs}", f"--num-cpus={cpus}", f"--node-name=node-{number}", f"--temp-dir={self.folder / f'n{number}'}",
            "--object-store-memory=100000000", *agent_ports(), "--block",
        ]  # fmt: skip
        process = subprocess.Popen(command, env=self.env | environment, stdout=self._log(), stderr=subprocess.STDOUT, start_new_session=True)
        self.nodes.append(process)
        return process

    def kill_node(self, process: subprocess.Popen[bytes]) -> None:
        """Kill a node with all that runs on it, as a lost machine; Ray's workers lead process groups of their own."""
        for pid in [process.pid, *self.processes(b"", [process])]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait(timeout=20)

    def processes(self, name: bytes, nodes: Sequence[subprocess.Popen[bytes]]) -> list[int]:
        """Return the processes of some nodes whose command line holds `name`; of the head's, drivers too."""
        parents, own = {}, {node.pid for node in nodes}  # each node has a session; a driver has one of its own, below the head's
        for path in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                parents[int(path.name)] = int((path / "stat").read_text(encoding="ascii").rpartition(")")[2].split()[1])

        def belongs(pid: int) -> bool:
            """Return whether a process, or one above it, is of a session of the nodes."""
            while pid > 1:
                with contextlib.suppress(OSError):
                    if os.getsid(pid) in own:
                        return True
                pid = parents.get(pid, 0)
            return False

        found = []
        for pid in parents.keys() - own:
            with contextlib.suppress(OSError):
                if belongs(pid) and name in Path(f"/proc/{pid}/cmdline").read_bytes():
                    found.append(pid)
        return found

    def drain(self, process: subprocess.Popen[bytes], seconds: int) -> None:
        """Give notice that a node is taken away in so many seconds; it is not."""
        command = [sys.executable, "-c", DRAIN, self.gcs, f"node-{self.nodes.index(process)}", str(seconds)]
        done = subprocess.run(command, env=self.env, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0, done.stderr

    def node_of(self, pid: int) -> subprocess.Popen[bytes]:
        """Return the node that a process runs on."""
        return next(node for node in self.nodes if node.pid == os.getsid(pid))

    def _log(self) -> int:
        return os.open(self.folder / f"node-{len(self.nodes)}.log", os.O_WRONLY | os.O_CREAT, 0o600)

    def ernie(self, *arguments: str, timeout: float = 150) -> subprocess.CompletedProcess[str]:
        """Run the command as a person does who has the cluster's token."""
        command = [sys.executable, "-m", "jobs.cli", *arguments]
        return subprocess.run(command, cwd=ROOT, env=self.env, capture_output=True, text=True, check=False, timeout=timeout)


@contextlib.contextmanager
def local_cluster(
    folder: Path, nodes: int, autoscaling: Callable[[str, Path], dict[str, Any]] | None = None, **environment: str
) -> Iterator[LocalCluster]:
    """A head and so many nodes of one CPU, with a token of their own and more variables; `folder` must have a short path.

    Args:
        folder: see `LocalCluster`.
        nodes: to start beside the head.
        autoscaling: returns what the head's autoscaler is to keep to, see `autoscale_helper`, for the address that nodes join; None = no autoscaler.
        environment: the variables.
    """
    (folder / "home" / ".ray").mkdir(parents=True)
    token = folder / "home" / ".ray" / "auth_token"
    token.touch(mode=0o600)
    token.write_text(secrets.token_hex(32), encoding="utf-8")
    gcs, dashboard, client = free_ports(3)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    env = {name: value for name, value in os.environ.items() if not name.startswith("RAY_") or name == "RAY_USAGE_STATS_ENABLED"}
    env |= {
        "HOME": str(folder / "home"), "PATH": path, "RAY_AUTH_MODE": "token", "RAY_API_SERVER_ADDRESS": f"http://127.0.0.1:{dashboard}",
        "RAY_USAGE_STATS_ENABLED": "0", "MLFLOW_DISABLE_TELEMETRY": "true", "PYTHONPATH": str(ROOT),
    } | environment  # fmt: skip
    head = [
        str(RAY), "start", "--head", "--node-ip-address=127.0.0.1", f"--port={gcs}", "--num-cpus=0", "--object-store-memory=100000000", "--include-dashboard=true",
        "--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}", f"--ray-client-server-port={client}", *agent_ports(),
        f"--temp-dir={folder / 'r'}", "--block",
    ]  # fmt: skip
    cluster = LocalCluster(env, folder, f"127.0.0.1:{gcs}", [])
    head_env = env
    if autoscaling is not None:
        (folder / "cluster.json").write_text(json.dumps(autoscaling(cluster.gcs, folder)), encoding="utf-8")  # JSON is YAML
        head.append(f"--autoscaling-config={folder / 'cluster.json'}")
        head_env = env | AUTOSCALED | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
    cluster.nodes.append(subprocess.Popen(head, env=head_env, stdout=cluster._log(), stderr=subprocess.STDOUT, start_new_session=True))
    try:
        _wait(f"http://127.0.0.1:{dashboard}/api/version", token.read_text(encoding="utf-8"))
        for _ in range(nodes):
            cluster.add_node(1)
        yield cluster
    finally:
        for process in reversed(cluster.nodes):
            cluster.kill_node(process)


@contextlib.contextmanager
def short_cluster(nodes: int, autoscaling: Callable[[str, Path], dict[str, Any]] | None = None) -> Iterator[LocalCluster]:
    """`local_cluster` in a folder of its own with a short path, which goes with it."""
    folder = Path(tempfile.mkdtemp(prefix="ec"))
    try:
        with local_cluster(folder, nodes, autoscaling) as cluster:
            yield cluster
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _wait(url: str, token: str) -> None:
    """Wait until the job server answers."""
    end = time.monotonic() + 120
    while True:
        try:
            urllib.request.urlopen(urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"}), timeout=2).read()
        except OSError:
            assert time.monotonic() < end, "the head does not answer"
            time.sleep(0.2)
        else:
            return
