"""Runs our code on Ray: a local cluster where there is none, a group of training workers, parallel trials (the only ray.train import).

`workers: 0` runs the same functions in this process. Ray is told where checkpoints lie and nothing more: which one is the latest is
decided by our own manifests, so its snapshot is disposable and deleted before every start (reliability.md P7, P8, F40).
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch

from ernie_core.errors import DivergedError, ErnieError, PreemptedError, ResourceError
from ernie_core.training.worker import GroupWorker, LocalWorker, Worker
from pipelines.host import LocalHost, TrainFunction

Item = TypeVar("Item")
Out = TypeVar("Out")
_SNAPSHOT = "checkpoint_manager_snapshot.json"
_NOT_STARTED = "E-RANKS-START"
_OF_ALL_RANKS = (PreemptedError, DivergedError)
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
        raise _cause(e) from e
    except (ray.exceptions.WorkerCrashedError, ray.exceptions.OutOfMemoryError) as e:
        raise ResourceError(
            "E-WORKER-DIED", "a process died again and again at the same piece of work", expected="a process that lives", found=str(e).strip(),
            fix="lower `workers` in the recipe if memory ran out, then run the same command again: what is done is kept",
        ) from e  # fmt: skip


def _cause(error: BaseException) -> BaseException:
    """Return our own error inside Ray's wrappers, or the wrapper."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, ErnieError):
            return seen
        inner = getattr(seen, "cause", None) or next(iter(getattr(seen, "worker_failures", {}).values()), None)
        seen = inner if isinstance(inner, BaseException) and inner is not seen else seen.__cause__
    return error


def run_workers(
    train: TrainFunction, arguments: dict[str, Any], *, workers: int, threads: int, folder: Path, max_failures: int, progress: Callable[[], object],
    timeout_s: float, memory_bytes: int = 0, stopped: Callable[[], bool] = lambda: True, room: Callable[[], None] = lambda: None,
    say: Callable[[str], object] = print,
) -> None:  # fmt: skip
    """Run `train(arguments, worker, host)` on every rank until it ends; a dead rank, a dead controller of Ray's or a node taken away restarts the group.

    Args:
        train: importable; goes on from the newest checkpoint of ours by itself.
        arguments: JSON values.
        workers: ranks; 0 = one rank in this process, without Ray.
        threads: CPU threads of each rank; set explicitly, as bits depend on it. Each rank gets a GPU too where the cluster has any.
        folder: the step's folder, which holds the checkpoints.
        max_failures: restarts before giving up, counted anew once `progress()` gives another value. Preempted nodes are not counted.
        progress: what tells that work got on.
        timeout_s: longest wait of a rank for the others, and of Ray for a sign of a rank.
        memory_bytes: memory that each rank asks the cluster for; 0 = none.
        stopped: whether a stop was asked for; ranks that stopped without that left a node which is taken away, and begin again on others.
        room: returns once the cluster has room for the ranks; called before they are started again by us, and raises if there is none.
        say: receives a line at each such start.

    Raises:
        ErnieError: what a rank raised; E-WORKER-DIED; what `room` raises.
    """
    if workers == 0:
        torch.set_num_threads(threads)
        train(arguments, LocalWorker(), LocalHost())
        return
    os.environ["RAY_TRAIN_WORKER_HEALTH_CHECK_TIMEOUT_S"] = str(timeout_s)
    config = {"train": train, "arguments": arguments, "threads": threads}
    vain = 0
    with ray_cluster(workers * threads):
        while True:
            before = progress()
            (folder / _SNAPSHOT).unlink(missing_ok=True)  # Ray's own idea of where to resume; a damaged one would end the next start
            resources: dict[str, float] = {
                "CPU": threads,
                **({"GPU": 1} if _gpu_share() else {}),
                **({"memory": memory_bytes} if memory_bytes else {}),
            }
            error = _in_thread(partial(_fit, config, workers, resources, folder, max_failures, timeout_s))
            (folder / _SNAPSHOT).unlink(missing_ok=True)
            if error is None:
                return
            vain = vain + 1 if progress() == before else 0
            why = _why_again(error, stopped=stopped(), vain=vain, max_failures=max_failures)
            say(f"{folder.name}: {why}; starts again from the newest checkpoint")
            room()


def _why_again(error: ErnieError, *, stopped: bool, vain: int, max_failures: int) -> str:
    """Return why a group that ended with `error` is started again; raise the error where it is not.

    Args:
        error: with which the group ended.
        stopped: a stop was asked for.
        vain: groups in a row that ended without a newer checkpoint, this one included.
        max_failures: groups in a row that may fail to start, as when nodes go while they do.
    """
    if isinstance(error, PreemptedError) and not stopped:
        return "a node is taken away, and the ranks left it with a checkpoint"
    if isinstance(error, ResourceError) and (vain == 0 or (error.code == _NOT_STARTED and vain <= max_failures)):
        return f"{error.code} {error.what}"
    raise error


def _in_thread(work: Callable[[], Out]) -> Out:
    """Do it in another thread: Ray Train takes SIGINT for itself in the main one, and a stop must reach our own handler."""
    done: list[Out] = []
    failed: list[BaseException] = []

    def do() -> None:
        """Keep what comes of it for the thread that waits."""
        try:
            done.append(work())
        except BaseException as e:  # noqa: BLE001  raised below
            failed.append(e)

    thread = threading.Thread(target=do, name="ray-train", daemon=True)
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
    return done[0]


def _fit(config: dict[str, Any], workers: int, resources: dict[str, float], folder: Path, max_failures: int, timeout_s: float) -> ErnieError | None:
    """Run one group of ranks, each with `resources`, to its end; return the error with which all ended, or one raised too often, or that ranks died so."""
    import ray
    import ray.train
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    # Ranks that cannot be started within `RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S` come back to us: Ray would try for ever and say nothing.
    failures = FailureConfig(max_failures=max_failures, controller_failure_limit=0)  # type: ignore[call-arg]
    trainer = TorchTrainer(
        _rank_loop,
        train_loop_config=config,
        torch_config=TorchConfig(timeout_s=math.ceil(timeout_s)),
        scaling_config=ScalingConfig(num_workers=workers, use_gpu="GPU" in resources, resources_per_worker=resources),
        # Ray takes only checkpoints below storage_path/name, so that is the step's own folder.
        run_config=RunConfig(name=folder.name, storage_path=str(folder.parent), failure_config=failures),
    )
    try:
        result: Any = trainer.fit()
    except (ray.train.TrainingFailedError, ray.exceptions.RayActorError) as e:
        cause = _cause(e)
        if isinstance(cause, ErnieError):
            return cause
        not_started = hasattr(e, "controller_failure")
        return ResourceError(
            _NOT_STARTED if not_started else "E-WORKER-DIED",
            "training processes could not be started" if not_started else "training processes died again and again", where=str(folder), expected="processes that live",
            found=" ".join(str(cause).split())[:500],
            fix="lower `workers` in the recipe if memory ran out, then run the same command again: it goes on from the newest checkpoint",
        )  # fmt: skip
    if (ended := result.return_value) is None:
        return None
    kind = next(k for k in _OF_ALL_RANKS if k.__name__ == ended.pop("kind"))
    return kind(**ended)


def _rank_loop(config: dict[str, Any]) -> Any:
    """What each rank runs inside Ray Train; returns the error with which all ranks end together, as its arguments and its "kind"."""
    import ray.train

    torch.set_num_threads(config["threads"])
    world = ray.train.get_context().get_world_size()
    worker: Worker = GroupWorker() if world > 1 else LocalWorker()
    try:
        config["train"](config["arguments"], worker, _RayHost())
    except _OF_ALL_RANKS as e:
        # Every rank is here with the same error: the group ends in peace, since Ray would restart one that failed.
        return {"kind": type(e).__name__, "code": e.code, "what": e.what, "where": e.where, "expected": e.expected, "found": e.found, "fix": e.fix}
    return None
