"""What each rank of a pretraining run does: go on from the newest checkpoint, train stage by stage, leave the model.

Rank 0 writes the log (the seed's lines), the metrics journal and the checkpoints. Everything that a resume needs is in the checkpoint.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from contextlib import nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import Any

from ernie_core.errors import DivergedError, PreemptedError, ResourceError
from ernie_core.failpoints import failpoint
from ernie_core.manifest import MANIFEST_NAME, Manifest, atomic_write, canonical_json, disk_errors, write_manifest
from ernie_core.normalise import NORMALISER_NAME
from ernie_core.object_store import put, refresh
from ernie_core.training import checkpoint
from ernie_core.training.evaluate import evaluate
from ernie_core.training.feed import LONG, FeedStep
from ernie_core.training.flops import step_flops
from ernie_core.training.health import SPIKE, shown_ids
from ernie_core.training.loop import Outcome, StepResult, train
from ernie_core.training.schedule import learning_rate, linear_warmup_decay, noam_decay
from ernie_core.training.worker import Worker
from pipelines.host import Host
from pipelines.journal import JOURNAL_NAME
from pipelines.machine_load import PREFIX
from pipelines.meter import log_line, memory_mb, validation_line, validation_metrics
from pipelines.rank_state import LOCK_NAME, LOG_NAME, REGROUP_NAME, STOP_NAME, RankState
from pipelines.run_folder import held

RESULT_NAME, MODEL_FOLDER = "result.json", "model"
ASK_STORE_S = 10.0


def train_rank(arguments: dict[str, Any], worker: Worker, host: Host) -> None:
    """Train until all stages are done; see `pipelines.pretrain.pretrain` for what `arguments` holds.

    Raises:
        PreemptedError: the stop file appeared, or this machine is to be taken away; a checkpoint is committed.
        DivergedError: E-DIVERGED, going back to a good checkpoint did not help.
        ResourceError: E-DATA-SILENT, E-RANK-SILENT, E-CKPT-SILENT, E-DISK-FULL.
    """
    # Of the ranks that were before this one, the last may be about to be ended still: two writers must not meet.
    lock = held(Path(arguments["folder"]) / LOCK_NAME, arguments["machine"]["timeout_s"]) if worker.rank == 0 else nullcontext()
    with lock:
        run = _Rank(arguments, worker, host)
        try:
            run.resume()
            for stage in range(run.feed.stage_of(min(run.step, run.feed.num_steps - 1))[0], len(run.feed.stages)):
                run.train_stage(stage)
            run.finish()
        finally:
            run.close(sys.exc_info()[1])


class _Rank(RankState):
    """One rank at work."""

    ask_at = 0.0

    def resume(self) -> None:
        """Go on from the newest good checkpoint, if there is one."""
        for line in self.host.notes():
            self.log(line)
        if self.settings["precision"] == "fp16" and self.worker.device.type == "cpu":
            self.log("WARN E-FP16-CPU a CPU multiplies fp16 in software, measured 65 times slower than fp32; precision bf16 or fp32 is meant for it")
        if not self.restore():
            return
        stage, done, size = self.feed.stage_of(self.step - 1)
        if self.step % self.settings["validation_steps"] == 0 or done + 1 == size:
            self.validate(stage, self.step)  # a kill may have fallen between the save and its validation; known values are not written twice

    def train_stage(self, stage: int) -> None:
        """Train what is left of a stage; where it diverges, go back to a good checkpoint."""
        start, steps = self.stage_start(stage), len(self.feed.stages[stage].sequence)
        if self.step == start:
            failpoint("train.stage_border")
            self.enter(stage)
            self.log(
                f"stage {stage + 1} of {len(self.feed.stages)}: {steps} steps, masking {self.feed.stages[stage].mask_unit}{LONG if self.feed.stages[stage].long else ''}"
            )
        outcome = None
        while outcome is None:
            try:
                outcome = self._train(stage, start, steps)
            except DivergedError as e:
                self.go_back(e, stage)
        self.step = outcome.step
        if outcome.stopped:
            raise PreemptedError(
                "E-STOPPED",
                f"stopped at step {self.step} of {self.feed.num_steps} with a good checkpoint",
                where=str(self.folder),
                fix="run the same command again to go on",
            )

    def _train(self, stage: int, start: int, steps: int) -> Outcome:
        peak = self.arguments["stages"][stage]["learning_rate"]
        return train(
            self.model, self.watched, self.optimizer, worker=self.worker, start_step=self.step, total_steps=start + steps,
            lr_at=partial(_rate, self.settings, peak, start, steps), loss_weights=self.weights(), clip_norm=self.settings["clip_norm"],
            precision=self.settings["precision"], dropout_seed=self.seed, on_step=self.on_step, save_every=self.machine["save_steps"], save=self.save,
            validate_every=self.settings["validation_steps"], validate=partial(self.validate, stage),
            should_stop=self.should_stop, health=self.health,
        )  # fmt: skip

    def should_stop(self) -> bool:
        """Return whether the driver asked to stop or regroup, here or, asked every `ASK_STORE_S`, in the run's object store; or this machine is to be taken away."""
        names = (STOP_NAME, REGROUP_NAME) if self.machine["most_workers"] > self.machine["workers"] else (STOP_NAME,)
        if any((self.folder / name).exists() for name in names) or self.host.leaving():
            return True
        if self.worker.rank or time.monotonic() < self.ask_at:
            return False
        self.ask_at = time.monotonic() + ASK_STORE_S
        with suppress(ResourceError):  # no answer is none
            return any(refresh(self.folder / name, retry_s=1.0) for name in names)
        return False

    def on_step(self, result: StepResult[FeedStep]) -> None:
        """Count, and every `skip_steps` write the log line and the journal."""
        self.step = result.step
        self.tokens[result.feed.task] += result.tokens
        self.check_saved()
        self.meter.add(result, sum(step_flops(self.config, batch) for batch in result.feed.batches))
        if result.skipped:
            self._log_left_out(result)
        if result.step % self.machine["skip_steps"] and result.step != self.feed.num_steps:
            return
        if self.journal is not None:
            self.log(log_line(result, self.meter))
            figures = {"train/learning_rate": result.learning_rate, "train/grad_norm": result.grad_norm, "train/stage": result.feed.stage + 1}
            shares = {f"train/{name}/share": count / sum(self.tokens.values()) for name, count in self.tokens.items() if count}
            machine = {"train/loss_scale": result.loss_scale, "perf/memory_mb": memory_mb(self.worker.device)}
            machine |= {} if self.load is None else self.load.read()
            counts = {"train/tokens": sum(self.tokens.values()), "train/left_out": len(self.health.skipped)}
            self._journal(result.step, {**self.meter.metrics(self.peak), **figures, **shares, **machine, **counts})
        self.meter.restart()

    def _log_left_out(self, result: StepResult[FeedStep]) -> None:
        what = "the masked-LM loss stood out" if result.skipped == SPIKE else f"numbers were not finite ({result.skipped})"
        code = "E-SPIKE" if result.skipped == SPIKE else "E-NONFINITE"
        samples = shown_ids(result.feed.global_sample_ids, 20)
        self.log(f"WARN {code} step {result.step} was left out: {what}; task {result.feed.task}, file {result.feed.file}, samples {samples}")

    def _journal(self, step: int, metrics: Mapping[str, float]) -> None:
        """Journal metrics; a replayed step that gives other numbers than before, where it should not, is said."""
        assert self.journal is not None
        differing = [name for name in self.journal.differing(step, metrics) if not name.startswith(("perf/", PREFIX))]
        if differing and self.replays_bits:
            self.log(f"WARN E-NONDETERMINISM step {step}, done again, gave other numbers than before: {', '.join(differing)}")
        self.journal.log(step, metrics)

    def validate(self, stage: int, step: int) -> None:
        """Measure every task that has entered: on masked input (loss of the LM head, `_masked`) and unmasked (the headline)."""
        entered = [name for earlier in self.arguments["stages"][: stage + 1] for name in earlier["enter"]]
        metrics: dict[str, float] = {}
        figures = {name: task.figures for name, task in self.data.tasks.items() if task.figures is not None}
        precision = self.settings["precision"]
        for name in entered:
            for unit in (self.feed.stages[stage].mask_unit, None):
                if unit is None and name not in self.arguments["heads"]:
                    continue
                found = evaluate(self.model, self.data.validation(name, stage, unit), worker=self.worker, precision=precision, figures=figures)
                metrics |= validation_metrics(name, found, masked=unit is not None)
        self.score(step, metrics)
        if self.journal is not None:
            self._journal(step, metrics)
            self.log(validation_line(step, entered, metrics))

    def finish(self) -> None:
        """Write the model folder and the result, on rank 0."""
        if self.journal is None:
            return
        self.settle()
        self.journal.flush()
        folder = self.folder / MODEL_FOLDER
        folder.mkdir(exist_ok=True)
        refresh(folder / MANIFEST_NAME)  # an earlier end of this run may have left one: it is replaced
        with disk_errors(folder):
            tables = {"vocab.txt": self.vocab.to_bytes(), NORMALISER_NAME: self.normaliser.to_bytes()}
            files = (*checkpoint.save_model(folder, self.model), *(atomic_write(folder / name, data) for name, data in tables.items()))
        write_manifest(folder, Manifest("model", {"config": self.arguments["config"]}, {}, files))
        state = self.feed.state()
        result = {
            "steps": self.step,
            "tokens": sum(self.tokens.values()),
            "skipped": list(self.health.skipped),
            "rollbacks": self.health.rollbacks,
            "chain": state["chain"],
            "trained_positions": self.data.trained_positions,
            "parameters": sum(p.numel() for p in self.model.parameters()),
        }
        atomic_write(self.folder / RESULT_NAME, canonical_json(result))
        put(self.folder / name for name in (RESULT_NAME, LOG_NAME, JOURNAL_NAME))


def _rate(settings: Mapping[str, Any], peak: float, start: int, steps: int, step: int) -> float:
    """Return the learning rate of a step: a recipe's schedule restarts each stage, at its `peak`, the seed's runs over the whole."""
    seed_schedule = settings.get("lr_scheduler")
    if seed_schedule == "linear_warmup_decay":
        return linear_warmup_decay(step, peak, settings["warmup_steps"], settings["num_train_steps"])
    if seed_schedule == "noam_decay":
        return noam_decay(step, peak, settings["warmup_steps"])
    return learning_rate(step - start, steps, peak, settings["warmup_share"])
