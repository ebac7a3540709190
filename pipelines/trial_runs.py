"""Trials as MLflow runs: the fine-tune step (suite), below it a run a benchmark and arm, below that one a trial (rate and seed).

The driver writes what MLflow shall hold into `trials/<trial>/` and `groups/<benchmark>-<arm>/`, wherever a trial ran; the step's shipper
sends it (`tracking.ship_tree`). A trial that is run again goes on in its run.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ernie_core.errors import PreemptedError
from ernie_core.manifest import sha256_of
from pipelines.journal import JOURNAL_NAME, Journal
from pipelines.lineage import dataset, step_links
from pipelines.outbox import now_ms
from pipelines.steps import StepContext
from pipelines.trial import Trial

GROUPS = "groups"


class TrialRuns:
    """The runs of one fine-tune step; as a context it ends those still running, FAILED or KILLED, when the block is left by an error.

    Args:
        context: of the step; nothing is written where its `run` is None.
        metrics: benchmark -> name of its headline metric.
        rows: benchmark -> subset -> rows.
    """

    def __init__(self, context: StepContext, metrics: Mapping[str, str], rows: Mapping[str, Mapping[str, int]]) -> None:
        self.context, self.metrics, self.rows = context, metrics, rows
        self._running: dict[Path, None] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _where: TracebackType | None) -> None:
        if error is not None:
            status = "KILLED" if isinstance(error, KeyboardInterrupt | PreemptedError) else "FAILED"
            for folder in list(self._running):
                self._end(folder, status)

    def begin(self, trial: Trial) -> None:
        """Open the run of a trial that starts now, and its group's."""
        if self.context.run is None:
            return
        folder, group, tags = self._group_folder(trial), f"{trial.benchmark}-{trial.arm}", _tags(trial)
        if folder not in self._running:
            self._open_group(trial)
        identity = {k: v for k, v in trial.identity.items() if v is not None and k not in {"custom", "method"}}
        data = {trial.benchmark: dataset(Path(trial.data), self._data_sha256(trial), "fine-tuning", {
            "num_rows": sum(self.rows[trial.benchmark].values()), **self.rows[trial.benchmark],
        })}  # fmt: skip
        name = f"{group}-{trial.learning_rate:g}-seed{trial.seed}"
        inputs = sha256_of([trial.identity, trial.inputs])
        self._open(Path(trial.folder), name, {**tags, "level": "trial"}, identity, inputs, above=folder, datasets=data, links=self._links(trial))

    def _group_folder(self, trial: Trial) -> Path:
        return self.context.folder / GROUPS / f"{trial.benchmark}-{trial.arm}"

    def _open_group(self, trial: Trial) -> None:
        folder = self._group_folder(trial)
        params = {k: v for k, v in trial.settings.items() if v is not None}
        self._open(
            folder,
            folder.name,
            {**_tags(trial), "level": "group"},
            params,
            sha256_of([trial.settings, sorted(trial.inputs.items())]),
            above=self.context.folder,
        )

    def _open(self, folder: Path, name: str, tags: dict[str, str], params: Mapping[str, Any], inputs: str, **rest: Any) -> None:
        """Open the run of a folder; `rest`: see `Run.child`."""
        folder.mkdir(parents=True, exist_ok=True)
        self.context.run.child(folder, name, tags, params, inputs={"work": inputs}, **rest)
        self._running[folder] = None

    def _data_sha256(self, trial: Trial) -> str:
        return sha256_of({k: v for k, v in trial.inputs.items() if k in self.rows[trial.benchmark]})

    def _links(self, trial: Trial) -> dict[str, Path]:
        """Return the run that made the weights of the trial's start."""
        made = {k: v for k, v in step_links(self.context).items() if k in {"run.pretrain", "run.model"}}
        return made if trial.arm == "pretrained" else {}

    def end(self, trial: Trial, result: Mapping[str, Any]) -> None:
        """Journal a trial's curve and figures, and end its run; one that was done before has its run already, or gets it now."""
        folder = Path(trial.folder)
        if self.context.run is None:
            return
        group = self._group_folder(trial)
        if group not in self._running and not self.context.run.has_finished(group):  # killed after its last trial
            self._open_group(trial)
        if folder not in self._running:
            if self.context.run.has_finished(folder):
                return
            self.begin(trial)
        journal = Journal(folder / JOURNAL_NAME)
        for step, score in result["dev_curve"]:
            _log(journal, step, {f"dev/{self.metrics[trial.benchmark]}": score})
        parts = {"": result["scores"], **{f"{name}/": guest["scores"] for name, guest in result["guests"].items()}}
        figures = {f"final/{part}{subset}/{m}": v for part, scores in parts.items() for subset, found in scores.items() for m, v in found.items()}
        _log(journal, result["best_step"], {**figures, "perf/rows_per_s": result["rows_per_s"]})
        journal.close()
        self._end(folder, "FINISHED")

    def finish(self, results: Mapping[str, Any]) -> None:
        """Journal each group's figures over its seeds, and end it."""
        for name, benchmark in results["benchmarks"].items():
            for arm, entry in benchmark["arms"].items():
                folder = self.context.folder / GROUPS / f"{name}-{arm}"
                if folder not in self._running:
                    continue  # all of its trials were done before, or they are of a guest's host
                figures = {
                    f"{subset}/{m}/{k}": x
                    for subset, found in entry["scores"].items()
                    for m, v in found.items()
                    for k, x in v.items()
                    if _is_number(x)
                }
                journal = Journal(folder / JOURNAL_NAME)
                _log(journal, 0, {**figures, "learning_rate": entry["learning_rate"]})
                journal.close()
                self._end(folder, "FINISHED")

    def _end(self, folder: Path, status: str) -> None:
        del self._running[folder]
        self.context.run.end_child(folder, status, now_ms())


def _tags(trial: Trial) -> dict[str, str]:
    return {"step": "finetune", "benchmark": trial.benchmark, "arm": trial.arm}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _log(journal: Journal, step: int, metrics: Mapping[str, float | None]) -> None:
    journal.log(step, {k: v for k, v in metrics.items() if v is not None})
