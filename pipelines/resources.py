"""The cluster that steps run on: this job's or a local one; what a step needs of it is waited for, and what is asked and there is said (reliability F13)."""

from __future__ import annotations

import contextlib
import logging
import os
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ernie_core.errors import ResourceError
from pipelines.steps import Say

if TYPE_CHECKING:  # ranks import this file, and need no recipe
    from pipelines.recipe_schema import Recipe

SAY_EVERY_S = 30.0
HOLD_S = 120.0
"""Longest time that nodes are kept for a step whose processes have not begun: as long as Ray Train waits for its ranks."""
GB = 1e9
Bundle = Mapping[str, float]
Release = Callable[[], None]
_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_TRAIN_V2_ENABLED": "1",
    # At the default of 2 s each report() stalls by 1.5 s and the newest checkpoint is lost at a kill (measured).
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "120",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    # OpenMP's default spinning makes training crawl when anything else runs beside it: 400 tokens/s against 2,200 (docs/experiments.md).
    "GOMP_SPINCOUNT": "10000",
}


@contextlib.contextmanager
def ray_cluster(cpus: int) -> Iterator[None]:
    """Connect to the cluster of this job (RAY_ADDRESS), or run a local one for the time of the block; nothing if Ray is up already.

    Args:
        cpus: logical CPUs that the work needs at once; a local cluster has at least these.
    """
    import ray

    if ray.is_initialized():
        yield
        return
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if "RAY_ADDRESS" in os.environ:
        ray.init(address="auto", **quiet)
    else:
        num_cpus = max(cpus, os.cpu_count() or 1)
        ray.init(address="local", num_cpus=num_cpus, include_dashboard=False, _temp_dir=str(_temp_folder()), **quiet)
    try:
        yield
    finally:
        ray.shutdown()


def _temp_folder() -> Path:
    """Return a private folder for Ray's sockets and logs; short, since a socket's path has at most 107 bytes (reliability S23)."""
    folder = Path(os.environ.get("RAY_TMPDIR") or Path(tempfile.gettempdir()) / f"ernie-ray-{os.getuid()}")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise ResourceError("E-PERMISSION", "Ray's folder belongs to somebody else", where=str(folder), fix="set RAY_TMPDIR to a folder of yours")
    return folder


def bundles_of(recipe: Recipe, step: str) -> list[dict[str, float]]:
    """Return what a step must have at once, a bundle for each process: all ranks of pretraining or of a trial, one process of preparation.

    Memory is asked for, in bytes, where the recipe names any.

    Example: pretraining with ``workers: 2, threads: 4, memory_gb: 3`` and ``gpus_on_demand: true`` -> two of ``{"CPU": 4, "GPU": 1, "memory": 3e9}``.
    """
    ranks, threads, memory_gb = 1, 1, 0.0
    if step == "prepare":
        memory_gb = recipe.prepare.memory_gb
    elif step == "pretrain" and recipe.pretrain:
        ranks, threads, memory_gb = recipe.pretrain.workers, recipe.pretrain.threads, recipe.pretrain.memory_gb
    elif step == "finetune" and recipe.finetune:
        ranks, memory_gb = recipe.finetune.workers_per_trial, recipe.finetune.memory_gb
    gpu = {"GPU": 1.0} if recipe.gpus_on_demand and step != "prepare" else {}
    memory = {"memory": float(memory_bytes(memory_gb))} if memory_gb else {}
    return [{"CPU": float(threads), **gpu, **memory} for _ in range(ranks)]


def memory_bytes(memory_gb: float) -> int:
    """Return the bytes of so many GB as Ray counts memory, in whole bytes; 0 = none is asked for."""
    return round(memory_gb * GB)


def cpus_of(recipe: Recipe) -> int:
    """Return the CPUs that a local cluster for the whole recipe must have; 0 = none is needed."""
    needed = [sum(int(bundle["CPU"]) for bundle in bundles_of(recipe, step)) for step in ("pretrain", "finetune")]
    return max(recipe.workers, *needed) if recipe.workers else 0


def wait_for_step(recipe: Recipe, say: Say, step: str) -> Release:
    """Wait until the cluster has room for a step of the recipe; see `wait_for`."""
    return wait_for(bundles_of(recipe, step), step, recipe.resources_wait_s, say)


def wait_for(bundles: Sequence[Bundle], what: str, wait_s: float, say: Say, every_s: float = SAY_EVERY_S) -> Release:
    """Wait until the cluster has room for `bundles` at once; an autoscaler sees the demand and starts nodes for it.

    The room is free again at the end, so that the step's own processes find it, and are counted once. Their nodes would be idle until these come, and
    an autoscaler might end them and start others: a byte of each node's memory is held (pipelines/docs/decisions/0008-autoscaling.md).

    Args:
        bundles: resources of each process.
        what: the step, for messages.
        wait_s: seconds to wait.
        say: receives asked against available every `every_s` seconds.

    Returns:
        What lets the nodes go, if `HOLD_S` have not passed before.

    Raises:
        ResourceError: E-RESOURCES, the room did not come in time.
    """
    import ray
    from ray.util.placement_group import placement_group, remove_placement_group

    group = placement_group([dict(bundle) for bundle in bundles])
    said = time.monotonic()
    end = said + wait_s
    try:
        while not group.wait(1):  # Ray cuts this down to whole seconds
            asked, there = room_words(bundles, ray.available_resources(), ray.cluster_resources())  # type: ignore[no-untyped-call]
            if time.monotonic() >= end:
                raise ResourceError(
                    "E-RESOURCES", f"the cluster has no room for {what}", expected=asked, found=there,
                    fix="add nodes, lower workers or threads, or raise resources_wait_s; what is done is kept",
                )  # fmt: skip
            if time.monotonic() - said >= every_s:
                said = time.monotonic()
                say(f"{what}: waits for room: asks {asked}; {there}")
        return _held(group)
    finally:
        remove_placement_group(group)


def _held(group: Any) -> Release:
    """Keep the nodes of a group from being idle, for `HOLD_S` at most; return what lets them go."""
    from ray.util.placement_group import placement_group, placement_group_table, remove_placement_group

    nodes = sorted(set(placement_group_table(group)["bundles_to_node_id"].values()))
    hold = placement_group([{"memory": 1}] * len(nodes), bundle_label_selector=[{"ray.io/node-id": node} for node in nodes])
    hold.wait(1)
    timer = threading.Timer(HOLD_S, remove_placement_group, (hold,))
    timer.daemon = True
    timer.start()

    def release() -> None:
        """Let the nodes go, once."""
        timer.cancel()
        remove_placement_group(hold)

    return release


def room_words(bundles: Sequence[Bundle], free: Bundle, total: Bundle) -> tuple[str, str]:
    """Return what is asked for and what there is, in words; memory only where it is asked for.

    Example: two of ``{"CPU": 1, "memory": 3e9}`` on one idle CPU -> ``("2 × (1 CPU 3 GB memory)", "1 CPU 2 GB memory free of 1 CPU 2 GB memory")``.
    """
    names = [name for name in ("CPU", "GPU", "memory") if name != "memory" or any(name in bundle for bundle in bundles)]
    counts = Counter(_numbers(bundle, names) for bundle in bundles)
    return ", ".join(f"{n} × ({words})" for words, n in counts.items()), f"{_numbers(free, names)} free of {_numbers(total, names)}"


def _numbers(resources: Bundle, names: Sequence[str]) -> str:
    words = [f"{resources[name] / GB:.3g} GB memory" if name == "memory" else f"{resources[name]:g} {name}" for name in names if name in resources]
    return " ".join(words) or "0 CPU"
