"""cluster.yaml as this machine bears it: the same node types, started by Ray's autoscaler as processes of the head (provider fake_multi_node)."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from cluster_helper import HEAD_ID, ROOT, LocalCluster

PROVIDER = "autoscale_nodes.Nodes"
HEAD_TYPE = "ray.head.default"
"""What the fake provider calls a head, whatever cluster.yaml calls it."""
MAX_OF_TYPE = 4
STORE_BYTES = 80_000_000
_COMMANDS = (
    "initialization_commands",
    "setup_commands",
    "head_setup_commands",
    "worker_setup_commands",
    "head_start_ray_commands",
    "worker_start_ray_commands",
)
_WATCH = """
import json, sys, time
import ray
ray.init(address=sys.argv[1], log_to_driver=False, logging_level="ERROR")
while True:
    there = {n["NodeID"]: "gpu" if n["Resources"].get("GPU") else "cpu" for n in ray.nodes() if n["Alive"] and n["Resources"].get("CPU")}
    print(json.dumps([time.time(), there]), flush=True)
    time.sleep(0.2)
"""


def shrunk(config: dict[str, Any], gcs: str, folder: Path, idle_s: float) -> dict[str, Any]:
    """Return cluster.yaml for the fake provider, which knows neither clouds nor containers.

    Kept: the node types' names, priorities and least numbers of nodes, and which of CPUs and GPUs a type has. Changed: of each resource one
    (a GPU is a number to Ray, no device), at most `MAX_OF_TYPE` nodes of a type, idle nodes end after `idle_s`, the head's type has the provider's
    own name. Left out: what only a cloud reads (images, volumes, commands, files).
    """
    types: dict[str, Any] = {}
    for name, kind in config["available_node_types"].items():
        one = {resource: min(1, amount) for resource, amount in kind["resources"].items() if amount}
        head = name == config["head_node_type"]
        types[HEAD_TYPE if head else name] = {
            "resources": {"CPU": 0} if head else {**one, "object_store_memory": STORE_BYTES}, "node_config": {}, "min_workers": kind.get("min_workers", 0),
            "max_workers": min(MAX_OF_TYPE, kind.get("max_workers", 0)), **({"priority": kind["priority"]} if "priority" in kind else {}),
        }  # fmt: skip
    provider = {"type": "external", "module": PROVIDER, "gcs_address": gcs, "head_node_id": HEAD_ID, "launch_multiple": True, "folder": str(folder)}
    empty = {
        "docker": {},
        "file_mounts": {},
        "cluster_synced_files": [],
        "file_mounts_sync_continuously": False,
        "rsync_exclude": [],
        "rsync_filter": [],
    }
    return {
        "cluster_name": config["cluster_name"], "max_workers": config["max_workers"], "upscaling_speed": config["upscaling_speed"],
        "idle_timeout_minutes": idle_s / 60, "provider": provider, "auth": config["auth"], "available_node_types": types, "head_node_type": HEAD_TYPE,
        **empty, **{name: [] for name in _COMMANDS},
    }  # fmt: skip


def ours(idle_s: float) -> Callable[[str, Path], dict[str, Any]]:
    """Return what makes our own cluster.yaml, shrunk, for an address and the folder of the cluster's files."""
    config = yaml.safe_load((ROOT / "cluster.yaml").read_text(encoding="utf-8"))
    return lambda gcs, folder: shrunk(config, gcs, folder, idle_s)


class Watch:
    """Notes which nodes are there, five times a second, from a process of its own."""

    def __init__(self, cluster: LocalCluster) -> None:
        self._log = cluster.folder / "nodes.jsonl"
        with self._log.open("wb") as out:
            self.process = subprocess.Popen([sys.executable, "-c", _WATCH, cluster.gcs], env=cluster.env, stdout=out)
        self._wait()

    def _wait(self) -> None:
        end = time.monotonic() + 60
        while not self.seen():
            assert self.process.poll() is None
            assert time.monotonic() < end, "the cluster does not answer"
            time.sleep(0.2)

    def seen(self) -> list[tuple[float, dict[str, str]]]:
        """Return (time, node id -> "cpu" or "gpu" of all nodes but the head) of each look."""
        lines = [line for line in self._log.read_text(encoding="utf-8").split("\n")[:-1] if line.startswith("[")]
        return [(float(at), there) for at, there in map(json.loads, lines)]

    def there(self) -> dict[str, str]:
        """Return the nodes of the last look."""
        return self.seen()[-1][1]

    def close(self) -> None:
        """End the process."""
        self.process.kill()
        self.process.wait(timeout=20)


def log_of(cluster: LocalCluster) -> str:
    """Return what the autoscaler says it did."""
    return "\n".join(path.read_text(encoding="utf-8") for path in sorted((cluster.folder / "r").glob("session_2*/logs/monitor.log")))
