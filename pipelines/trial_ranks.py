"""One trial on several workers: each takes its slice of every batch, and its share of what is evaluated."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ernie_core.training.worker import Worker
from pipelines.host import Host
from pipelines.ray_train import map_tasks, run_workers
from pipelines.resources import ray_cluster
from pipelines.trial import Trial, finished, run_trial

MAX_FAILURES = 3
"""Times that the ranks of a trial may be started again."""
RANKS_WAIT_S = 105.0
"""What a rank waits for the others, as in pretraining."""


def trial_rank(arguments: dict[str, Any], worker: Worker, _host: Host) -> None:
    """Run one rank of a trial, whose fields `arguments` are; a restarted group begins it anew, as one process does."""
    run_trial(Trial(**{**arguments, "guests": tuple(arguments["guests"])}), worker)


def run_trials(trials: Sequence[Trial], workers: int, workers_per_trial: int, memory_bytes: int = 0) -> Iterator[dict[str, Any]]:
    """Yield the result of each trial as it is done.

    Args:
        trials: to run.
        workers: trials at once where each has one worker; 0 = one after the other in this process, without Ray.
        workers_per_trial: ranks of a trial; where there are several, trials follow each other.
        memory_bytes: memory that each process asks the cluster for; 0 = none.

    Raises:
        ErnieError: what a trial raised; E-WORKER-DIED.
    """
    if workers == 0 or workers_per_trial == 1:
        yield from map_tasks(run_trial, trials, workers, memory_bytes)
        return
    with ray_cluster(workers_per_trial):
        for trial in trials:
            folder = Path(trial.folder)
            folder.mkdir(parents=True, exist_ok=True)
            run_workers(
                trial_rank, asdict(trial), workers=workers_per_trial, threads=1, folder=folder, max_failures=MAX_FAILURES, progress=lambda: None,
                timeout_s=RANKS_WAIT_S, memory_bytes=memory_bytes,
            )  # fmt: skip
            result = finished(trial)
            assert result is not None, folder
            yield result


def batch_words(batch_size: int, ranks: int) -> str:
    """Return how a batch lies over the ranks.

    Example: ``batch_words(16, 3)`` -> ``"16 rows a batch (per device 6, 5, 5 x 3 devices x 1 micro-batch)"``.
    """
    least, more = divmod(batch_size, ranks)
    sizes = str(least) if not more else ", ".join(str(least + (rank < more)) for rank in range(ranks))
    return f"{batch_size} rows a batch (per device {sizes} x {ranks} device{'s' if ranks > 1 else ''} x 1 micro-batch)"
