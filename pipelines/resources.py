"""Waits for what a step needs of the cluster, and says what is asked and what is there (reliability F13)."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence

from ernie_core.errors import ResourceError
from pipelines.recipe_schema import Recipe
from pipelines.steps import Say

SAY_EVERY_S = 30.0
GB = 1e9
Bundle = Mapping[str, float]


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


def wait_for_step(recipe: Recipe, say: Say, step: str) -> None:
    """Wait until the cluster has room for a step of the recipe; see `wait_for`."""
    wait_for(bundles_of(recipe, step), step, recipe.resources_wait_s, say)


def wait_for(bundles: Sequence[Bundle], what: str, wait_s: float, say: Say, every_s: float = SAY_EVERY_S) -> None:
    """Wait until the cluster has room for `bundles` at once; an autoscaler sees the demand and starts nodes for it.

    Args:
        bundles: resources of each process.
        what: the step, for messages.
        wait_s: seconds to wait.
        say: receives asked against available every `every_s` seconds.

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
    finally:
        remove_placement_group(group)


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
