"""Runs our code on Ray: a group of training workers, parallel trials (the only ray.train import).

`workers: 0` runs the same functions in this process. Ray is told where checkpoints lie and nothing more: which one is the latest is
decided by our own manifests, so its snapshot is disposable and deleted before every start (reliability.md P7, P8, F40).
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch

from ernie_core.errors import ErnieError, ResourceError
from ernie_core.training.worker import GroupWorker, LocalWorker, Worker, exchange
from pipelines.groups import NOT_STARTED, OF_ALL_RANKS, Growth, cause_of, error_of, in_thread, parts_of, why_again
from pipelines.host import LocalHost, TrainFunction
from pipelines.resources import Grower, Room, ray_cluster

Item = TypeVar("Item")
Out = TypeVar("Out")
_SNAPSHOT = "checkpoint_manager_snapshot.json"


class _RayHost:
    """Ray Train, inside a rank."""

    def __init__(self) -> None:
        from ray.train.v2._internal.execution.context import get_train_context

        # The public `get_preemption_info` waits for all ranks at each call; this is what it then reads.
        self._notice = get_train_context().preemption_context

    def report(self, metrics: Mapping[str, float], checkpoint: Path | None) -> None:
        """Tell Ray Train; waits for all ranks."""
        import ray.train
        from ray.train import Checkpoint, CheckpointUploadMode

        told = None if checkpoint is None else Checkpoint.from_directory(checkpoint)
        ray.train.report(dict(metrics), checkpoint=told, checkpoint_upload_mode=CheckpointUploadMode.NO_UPLOAD)

    def leaving(self) -> bool:
        """Return whether Ray drains a node of one of the ranks; it looks every 5 s."""
        return self._notice.preemption_info is not None

    def notes(self) -> list[str]:
        """Return that the GPU which Ray gave this rank is none, if so."""
        import ray

        if not ray.get_gpu_ids() or torch.cuda.is_available():
            return []
        return ["WARN E-GPU-NONE the cluster counts a GPU for this rank, and its machine has none: it trains on the CPU"]


def map_tasks(function: Callable[[Item], Out], items: Sequence[Item], workers: int, memory_bytes: int = 0) -> Iterator[Out]:
    """Yield `function(item)` for every item, as each is done.

    Args:
        function: importable, its argument and result plain values; an error it raises ends the whole.
        items: the work.
        workers: calls at once, one CPU each; 0 = one after the other in this process.
        memory_bytes: memory that each call asks the cluster for; 0 = none.
    """
    if workers == 0:
        yield from map(function, items)
        return
    import ray

    with ray_cluster(workers):
        remote = ray.remote(num_cpus=1, num_gpus=_gpu_share(), memory=memory_bytes, max_retries=3)(function)
        waiting = list(reversed(items))
        running: list[Any] = []
        while waiting or running:
            while waiting and len(running) < workers:
                running.append(remote.remote(waiting.pop()))
            done, running = ray.wait(running, num_returns=1)
            yield _get(done[0])


def _gpu_share() -> int:
    """Return the GPUs that a rank or trial takes: 1 where the cluster has any, whatever the driver's own machine has."""
    import ray

    return 1 if ray.cluster_resources().get("GPU", 0) else 0  # type: ignore[no-untyped-call]


def _get(reference: Any) -> Any:
    import ray

    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as e:
        raise cause_of(e) from e
    except (ray.exceptions.WorkerCrashedError, ray.exceptions.OutOfMemoryError) as e:
        raise ResourceError(
            "E-WORKER-DIED", "a process died again and again at the same piece of work", expected="a process that lives", found=str(e).strip(),
            fix="lower `workers` in the recipe if memory ran out, then run the same command again: what is done is kept",
        ) from e  # fmt: skip


def run_workers(
    train: TrainFunction, arguments: dict[str, Any], *, workers: int, threads: int, folder: Path, max_failures: int, progress: Callable[[], object],
    timeout_s: float, memory_bytes: int = 0, stopped: Callable[[], bool] = lambda: True, room: Callable[[], Room] | None = None,
    say: Callable[[str], object] = print, growth: Growth | None = None,
) -> None:  # fmt: skip
    """Run `train(arguments, worker, host)` on every rank until it ends; a dead rank, a dead controller of Ray's or a node taken away restarts the group.

    Args:
        train: importable; goes on from the newest checkpoint of ours by itself.
        arguments: JSON values.
        workers: ranks, the least where there is `growth`; 0 = one rank in this process, without Ray.
        threads: CPU threads of each rank; set explicitly, as bits depend on it. Each rank gets a GPU too where the cluster has any.
        folder: the step's folder, which holds the checkpoints.
        max_failures: restarts before giving up, counted anew once `progress()` gives another value. Preempted nodes are not counted.
        progress: what tells that work got on.
        timeout_s: longest wait of a rank for the others, and of Ray for a sign of a rank.
        memory_bytes: memory that each rank asks the cluster for; 0 = none.
        stopped: whether a stop was asked for; ranks that stopped without that left a node which is taken away, and begin again on others.
        room: returns once the cluster has room for the ranks, and for how many; called before they are started again by us, and raises if there is none.
        say: receives a line at each such start.
        growth: how the number of ranks changes with the room, see decisions/0009-elastic.md; `room` is called before the first start, too.

    Raises:
        ErnieError: what a rank raised; E-WORKER-DIED; what `room` raises.
    """
    if workers == 0:
        torch.set_num_threads(threads)
        train(arguments, LocalWorker(), LocalHost())
        return
    os.environ["RAY_TRAIN_WORKER_HEALTH_CHECK_TIMEOUT_S"] = str(timeout_s)
    config = {"train": train, "arguments": arguments, "threads": threads}
    vain, ranks = 0, workers
    with ray_cluster(workers * threads):
        while True:
            before = progress()
            if growth is not None and room is not None:
                ranks = room().processes
                say(f"{folder.name}: {ranks} of {workers} to {growth.most} workers")
            (folder / _SNAPSHOT).unlink(missing_ok=True)  # Ray's own idea of where to resume; a damaged one would end the next start
            resources: dict[str, float] = {
                "CPU": threads,
                **({"GPU": 1} if _gpu_share() else {}),
                **({"memory": memory_bytes} if memory_bytes else {}),
            }
            with contextlib.closing(Grower(growth, resources, ranks, progress)) as grower:
                error = in_thread(partial(_fit, config, ranks, resources, folder, max_failures if growth is None else 0, timeout_s), grower.look)
            (folder / _SNAPSHOT).unlink(missing_ok=True)
            if error is None:
                return
            vain = vain + 1 if progress() == before else 0
            why = why_again(error, stopped=stopped(), vain=vain, max_failures=max_failures, elastic=growth is not None, grows=grower.grows)
            say(f"{folder.name}: {why}; starts again from the newest checkpoint")
            if growth is None and room is not None:
                room()


def _fit(config: dict[str, Any], workers: int, resources: dict[str, float], folder: Path, max_failures: int, timeout_s: float) -> ErnieError | None:
    """Run one group of ranks, each with `resources`, to its end; return the error with which all ended, or one raised too often, or that ranks died so."""
    import ray
    import ray.train
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    # Ranks that cannot be started within `RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S` come back to us: Ray would try for ever and say nothing.
    failures = FailureConfig(max_failures=max_failures, controller_failure_limit=0)  # type: ignore[call-arg]
    trainer = TorchTrainer(
        _rank_loop,
        train_loop_config=config,
        torch_config=_torch_config(timeout_s),
        scaling_config=ScalingConfig(num_workers=workers, use_gpu="GPU" in resources, resources_per_worker=resources),
        # Ray takes only checkpoints below storage_path/name, so that is the step's own folder.
        run_config=RunConfig(name=folder.name, storage_path=str(folder.parent), failure_config=failures),
    )
    try:
        result: Any = trainer.fit()
    except (ray.train.TrainingFailedError, ray.exceptions.RayActorError) as e:
        cause = cause_of(e)
        if isinstance(cause, ErnieError):
            return cause
        not_started = hasattr(e, "controller_failure")
        return ResourceError(
            NOT_STARTED if not_started else "E-WORKER-DIED",
            "training processes could not be started" if not_started else "training processes died again and again", where=str(folder), expected="processes that live",
            found=" ".join(str(cause).split())[:500],
            fix="lower `workers` in the recipe if memory ran out, then run the same command again: it goes on from the newest checkpoint",
        )  # fmt: skip
    if (ended := result.return_value) is None:
        return None
    return error_of(ended)


def _torch_config(timeout_s: float) -> Any:
    """Return how Ray Train joins the ranks: by what they themselves find on their machines, as the driver's may have no GPU."""
    from ray.train.torch import TorchConfig
    from ray.train.torch.config import _TorchBackend

    class OneExchange(_TorchBackend):
        """Joins ranks that all choose NCCL by it, others by gloo; a rank for which that is wrong says so itself, see `_rank_loop`."""

        def on_start(self, worker_group: Any, backend_config: Any) -> None:
            """Ask the ranks, then join them."""
            found = worker_group.execute(_exchange_here)
            super().on_start(worker_group, dataclasses.replace(backend_config, backend="nccl" if set(found) == {"nccl"} else "gloo"))

    class Config(TorchConfig):
        """Ray's, with the choice above."""

        @property
        def backend_cls(self) -> type[_TorchBackend]:
            """Return what joins the ranks."""
            return OneExchange

    return Config(backend="gloo", timeout_s=math.ceil(timeout_s))


def _exchange_here() -> str:
    """Return what this rank, of a group of several, would exchange gradients by; the code of the error where there is nothing."""
    import ray

    try:
        return exchange(2, given_gpu=bool(ray.get_gpu_ids()))
    except ErnieError as e:
        return e.code


def _worker(world: int, given_gpu: bool) -> Worker:
    """Return this rank.

    Raises:
        ResourceError: E-NO-NCCL, E-NO-CUDA, E-RANK-DEVICES.
    """
    chosen = exchange(world, given_gpu=given_gpu)
    if world == 1:
        return LocalWorker()
    if (joined := torch.distributed.get_backend()) != chosen:
        raise ResourceError(
            "E-RANK-DEVICES", "some ranks have GPUs and others have none", where=socket.gethostname(), expected=f"{chosen} on all ranks",
            found=joined, fix="set gpus_on_demand: true, or train on nodes of one kind",
        )  # fmt: skip
    return GroupWorker()


def _rank_loop(config: dict[str, Any]) -> Any:
    """What each rank runs inside Ray Train; returns the error with which all ranks end together, as its arguments and its "kind"."""
    import ray
    import ray.train

    torch.set_num_threads(config["threads"])
    worker = _worker(ray.train.get_context().get_world_size(), bool(ray.get_gpu_ids()))
    try:
        config["train"](config["arguments"], worker, _RayHost())
    except OF_ALL_RANKS as e:
        # Every rank is here with the same error: the group ends in peace, since Ray would restart one that failed.
        return parts_of(e)
    return None
