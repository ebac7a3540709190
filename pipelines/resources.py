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
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ernie_core.errors import ResourceError
from pipelines.groups import Growth
from pipelines.steps import Say

if TYPE_CHECKING:  # ranks import this file, and need no recipe
    from pipelines.recipe_schema import Recipe

SAY_EVERY_S = 30.0
HOLD_S = 120.0
"""Longest time that nodes are kept for a step whose processes have not begun: as long as Ray Train waits for its ranks."""
GB = 1e9
SETTLE_S = 5.0
"""Time for places beyond the least to be found: each is asked for alone."""
Bundle = Mapping[str, float]
_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_TRAIN_V2_ENABLED": "1",
    # At the default of 2 s each report() stalls by 1.5 s and the newest checkpoint is lost at a kill (measured).
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "120",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
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
    """Return what a step must have at once, a bundle for each process: all ranks of pretraining (the least) or of a trial, one process of preparation.

    Memory is asked for, in bytes, where the recipe names any.

    Example: pretraining with ``workers: 2, threads: 4, memory_gb: 3`` and ``gpus_on_demand: true`` -> two of ``{"CPU": 4, "GPU": 1, "memory": 3e9}``.
    """
    ranks, threads, memory_gb = 1, 1, 0.0
    if step == "prepare":
        memory_gb = recipe.prepare.memory_gb
    elif step == "pretrain" and recipe.pretrain:
        ranks, threads, memory_gb = recipe.pretrain.least_workers, recipe.pretrain.threads, recipe.pretrain.memory_gb
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


@dataclass(frozen=True)
class Room:
    """Room that a step found: for how many of its processes, and what lets their nodes go, if `HOLD_S` have not passed before."""

    processes: int
    release: Callable[[], None]


def wait_for_step(recipe: Recipe, say: Say, step: str) -> Room:
    """Wait until the cluster has room for a step of the recipe; see `wait_for`. A rank or trial takes a GPU too where the cluster has any."""
    import ray

    bundles = bundles_of(recipe, step)
    if step != "prepare" and ray.cluster_resources().get("GPU", 0):  # type: ignore[no-untyped-call]
        bundles = [{**bundle, "GPU": 1.0} for bundle in bundles]
    most = recipe.pretrain.most_workers if step == "pretrain" and recipe.pretrain else len(bundles)
    return wait_for(bundles, step, recipe.resources_wait_s, say, most=most)


def wait_for(bundles: Sequence[Bundle], what: str, wait_s: float, say: Say, every_s: float = SAY_EVERY_S, most: int = 0) -> Room:
    """Wait until the cluster has room for `bundles` at once; an autoscaler sees the demand and starts nodes for it.

    The room is free again at the end, so that the step's own processes find it, and are counted once. Their nodes would be idle until these come, and
    an autoscaler might end them and start others: a byte of each node's memory is held (pipelines/docs/decisions/0008-autoscaling.md).

    Args:
        bundles: resources of each process.
        what: the step, for messages.
        wait_s: seconds to wait.
        say: receives asked against available every `every_s` seconds.
        most: processes like the first to take where there is room for more than `bundles` when these have come.

    Raises:
        ResourceError: E-RESOURCES, the room did not come in time.
    """
    import ray

    asked = Asked(bundles[0], most) if most > len(bundles) else Asked.at_once(bundles)
    said = time.monotonic()
    end = said + wait_s
    try:
        while asked.placed() < len(bundles):
            words, there = room_words(bundles, ray.available_resources(), ray.cluster_resources())  # type: ignore[no-untyped-call]
            if time.monotonic() >= end:
                raise ResourceError(
                    "E-RESOURCES", f"the cluster has no room for {what}", expected=words, found=there,
                    fix="add nodes, lower workers or threads, or raise resources_wait_s; what is done is kept",
                )  # fmt: skip
            if time.monotonic() - said >= every_s:
                said = time.monotonic()
                say(f"{what}: waits for room: asks {words}; {there}")
            asked.wait()
        settled = time.monotonic() + SETTLE_S
        while (found := asked.placed()) < most and time.monotonic() < settled:
            asked.wait()
        return Room(found, _held(asked.nodes()))
    finally:
        asked.close()


class Asked:
    """Processes that the cluster is asked for, each by a placement group of its own: any of them may find its place alone."""

    def __init__(self, bundle: Bundle, count: int) -> None:
        from ray.util.placement_group import placement_group

        self.groups = [placement_group([dict(bundle)]) for _ in range(count)]

    @classmethod
    def at_once(cls, bundles: Sequence[Bundle]) -> Asked:
        """Ask for processes that find their places together, or none does."""
        from ray.util.placement_group import placement_group

        asked = cls(bundles[0], 0)
        asked.groups = [placement_group([dict(bundle) for bundle in bundles])]
        return asked

    def wait(self) -> None:
        """Wait for a change, a second at most."""
        waiting = [group for group in self.groups if self._state(group)["state"] != "CREATED"]
        if waiting:  # else the last one has come since
            waiting[0].wait(1)  # Ray cuts this down to whole seconds

    def placed(self) -> int:
        """Return how many processes have their place."""
        return sum(len(state["bundles"]) for state in map(self._state, self.groups) if state["state"] == "CREATED")

    def nodes(self) -> list[str]:
        """Return the ids of the nodes on which they have it."""
        states = [state for state in map(self._state, self.groups) if state["state"] == "CREATED"]
        return sorted({node for state in states for node in state["bundles_to_node_id"].values()})

    def close(self) -> None:
        """Ask no more, and leave the places."""
        from ray.util.placement_group import remove_placement_group

        for group in self.groups:
            remove_placement_group(group)

    @staticmethod
    def _state(group: Any) -> dict[str, Any]:
        from ray.util.placement_group import placement_group_table

        return dict(placement_group_table(group))


class Grower:
    """Asks the cluster for more ranks while a group works, and the group to stop once there is room for some.

    Args:
        growth: see there; None = there is nothing to ask for.
        bundle: resources of a rank.
        ranks: of the group.
        progress: what gives another value once the group has made a checkpoint.
    """

    def __init__(self, growth: Growth | None, bundle: Bundle, ranks: int, progress: Callable[[], object]) -> None:
        self._growth, self._bundle, self._ranks = growth, bundle, ranks
        self._progress, self._before = progress, progress()
        self._asked: Asked | None = None
        self._since = 0.0
        self.grows = False

    def look(self) -> None:
        """Ask the cluster once the group has its places and a checkpoint, the ranks once more have theirs and it is time; called every second."""
        if self._growth is None or self.grows:
            return
        if self._asked is None:
            if self._progress() != self._before:  # asked for earlier, these would take the places of the group
                self._asked, self._since = Asked(self._bundle, self._growth.most - self._ranks), time.monotonic()
        elif time.monotonic() >= self._since + self._growth.after_s and self._asked.placed():
            self._growth.ask()
            self.grows = True

    def close(self) -> None:
        """Leave what was found: the next group asks for all of it."""
        if self._asked is not None:
            self._asked.close()
        if self._growth is not None:
            self._growth.forget()


def _held(nodes: Sequence[str]) -> Callable[[], None]:
    """Keep nodes from being idle, for `HOLD_S` at most; return what lets them go."""
    from ray.util.placement_group import placement_group, remove_placement_group

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
