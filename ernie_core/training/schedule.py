"""Which task trains at which iteration, and at which learning rate (TASKS, Counts are exact; ERNIE 2.0, section 3.2).

The paper's own split of iterations is known as recalled only; `stage_plan` reproduces that table.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from ernie_core.errors import RecipeError, closest
from ernie_core.seeding import generator

SCHEDULES = ("continual", "multi_task", "sequential")


def stage_plan(schedule: str, entering: Sequence[Sequence[str]], iterations: Mapping[str, int]) -> list[dict[str, int]]:
    """Return the iterations of each task in each stage.

    Args:
        schedule: "continual" (tasks enter stage by stage, earlier ones keep a share), "multi_task" (one stage of all tasks) or
            "sequential" (a stage trains the tasks that enter it and no others).
        entering: the tasks that enter at each stage.
        iterations: N_t of each task, over all stages.

    Returns:
        One mapping a stage, in the order of `entering`, tasks in order of entering; a task without iterations in a stage is not
        in it. Under "continual" with S stages a slice is N_t // (S + 1); a task that enters at stage s gets
        N_t - (S - s) * slice there and one slice in each later stage.

    Raises:
        RecipeError: E-NAME, unknown schedule; E-SCHEDULE, a task enters twice, has no iterations, or never enters, or a stage is empty.

    Example: ``stage_plan("continual", [["a"], ["b"]], {"a": 9, "b": 9})`` -> ``[{"a": 6}, {"a": 3, "b": 9}]``.
    """
    _check_plan(schedule, entering, iterations)
    if schedule == "multi_task":
        return [{task: iterations[task] for tasks in entering for task in tasks}]
    if schedule == "sequential":
        return [{task: iterations[task] for task in tasks} for tasks in entering]
    num_stages = len(entering)
    plan: list[dict[str, int]] = [{} for _ in entering]
    for entry, tasks in enumerate(entering):
        for task in tasks:
            share = iterations[task] // (num_stages + 1)
            plan[entry][task] = iterations[task] - (num_stages - 1 - entry) * share
            for later in plan[entry + 1 :]:
                if share:
                    later[task] = share
    return plan


def _check_plan(schedule: str, entering: Sequence[Sequence[str]], iterations: Mapping[str, int]) -> None:
    fix = "correct pretrain.stages and pretrain.iterations in the recipe"
    if schedule not in SCHEDULES:
        raise RecipeError(
            "E-NAME",
            f"unknown schedule {schedule!r}",
            expected=f"one of {closest(schedule, SCHEDULES)}",
            fix="correct pretrain.schedule in the recipe",
        )
    tasks = [task for stage in entering for task in stage]
    if not tasks or not all(entering):
        raise RecipeError("E-SCHEDULE", "a stage without entering tasks", found=str([list(stage) for stage in entering]), fix=fix)
    twice = sorted({task for task in tasks if tasks.count(task) > 1})
    if twice:
        raise RecipeError("E-SCHEDULE", f"{', '.join(twice)} enters more than once", fix=fix)
    idle = [task for task in tasks if iterations.get(task, 0) < 1]
    if idle:
        raise RecipeError("E-SCHEDULE", f"no iterations for {', '.join(idle)}", expected="a count of at least 1", fix=fix)
    outside = sorted(set(iterations) - set(tasks))
    if outside:
        raise RecipeError("E-SCHEDULE", f"{', '.join(outside)} has iterations but enters no stage", fix=fix)


def long_stage(iterations: Mapping[str, int], share: float) -> tuple[dict[str, int], dict[str, int]]:
    """Cut each task's iterations into those on short rows and those of the last stage, on long rows (TASKS, Defaults: the last 10 %).

    Returns:
        (iterations before, iterations of the long stage; tasks with none are left out of it). A task keeps at least one before.

    Example: ``long_stage({"a": 20, "b": 3}, 0.1)`` -> ``({"a": 18, "b": 3}, {"a": 2})``.
    """
    late = {task: min(round(count * share), count - 1) for task, count in iterations.items()}
    return {task: count - late[task] for task, count in iterations.items()}, {task: count for task, count in late.items() if count}


def task_sequence(plan: Sequence[Mapping[str, int]], stage: int, seed: int) -> list[str]:
    """Return the task of every iteration of stage `stage` (from 0): a seeded permutation of exactly the planned counts.

    Example: ``task_sequence([{"a": 2, "b": 1}], 0, 7)`` -> ``["a", "b", "a"]`` or another order of the same three.
    """
    names = [name for name in sorted(plan[stage]) for _ in range(plan[stage][name])]
    return [names[i] for i in generator(seed, "sequence", stage).permutation(len(names)).tolist()]


def learning_rate(step_in_stage: int, steps_in_stage: int, peak: float, warmup_share: float) -> float:
    """Return the learning rate of a step: linear warmup to `peak`, then a linear way down; never 0 inside the stage.

    Args:
        step_in_stage: from 0.
        steps_in_stage: steps of the stage; every stage warms up anew.
        peak: highest learning rate.
        warmup_share: part of the stage's steps spent on warmup, 0 to 1.

    Example (10 steps, peak 1, share 0.2): 0.5, 1, 1, 0.875, … 0.125.
    """
    warmup = round(warmup_share * steps_in_stage)
    if step_in_stage < warmup:
        return peak * ((step_in_stage + 1) / warmup)
    return peak * ((steps_in_stage - step_in_stage) / (steps_in_stage - warmup))


def linear_warmup_decay(step: int, peak: float, warmup_steps: int, num_train_steps: int) -> float:
    """Return the rate of the seed's `linear_warmup_decay`: 0 at step 0, decay not shifted by the warmup, floor 0.

    Without warmup the rate is constant, as in the published code (PaddlePaddle/ERNIE v2.1.0, `optimization.py`).

    Example (peak 1, warmup 4, 10 steps): 0, 0.25, 0.5, 0.75, 0.6, 0.5, … 0.1, 0.
    """
    if warmup_steps <= 0:
        return peak
    if step < warmup_steps:
        return peak * step / warmup_steps
    return peak * max(0.0, 1.0 - step / num_train_steps)


def noam_decay(step: int, peak: float, warmup_steps: int) -> float:
    """Return the rate of the seed's `noam_decay` at `step` (from 0; its counter starts at 1): `peak` at the end of warmup, then 1/sqrt.

    Without warmup the rate is constant (PaddlePaddle/ERNIE v2.1.0, `optimization.py`).

    Example (peak 1, warmup 4): 0.25, 0.5, 0.75, 1, 0.894, …
    """
    if warmup_steps <= 0:
        return peak
    counter = step + 1
    return peak * min(math.sqrt(warmup_steps / counter), counter / warmup_steps)
