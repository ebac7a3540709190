"""What each rank of a pretraining run does: build feed and model from plain arguments, go on from the newest checkpoint, train stage by stage.

Rank 0 writes the log (the seed's lines), the metrics journal and the checkpoints. Everything that a resume needs is in the checkpoint.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch

from ernie_core.errors import PreemptedError, ResourceError
from ernie_core.failpoints import failpoint
from ernie_core.manifest import Manifest, atomic_write, canonical_json, disk_errors, read_manifest, write_manifest
from ernie_core.model.config import ErnieConfig
from ernie_core.model.ernie import ErnieForPretraining
from ernie_core.model.heads import LM, Head
from ernie_core.normalise import NORMALISER_NAME
from ernie_core.training import checkpoint
from ernie_core.training.evaluate import evaluate
from ernie_core.training.feed import LONG, FeedStep
from ernie_core.training.flops import matmul_peak, step_flops
from ernie_core.training.loop import StepResult, train
from ernie_core.training.optim import adamw, reset
from ernie_core.training.precision import LossScale
from ernie_core.training.schedule import learning_rate, linear_warmup_decay, noam_decay
from ernie_core.training.worker import Worker
from pipelines.initial import initial_tensors, start_from
from pipelines.journal import JOURNAL_NAME, Journal
from pipelines.meter import Meter, log_line, memory_mb, validation_line, validation_metrics
from pipelines.prepared import prepared_tokenizer
from pipelines.rank_data import RankData

LOG_NAME, STOP_NAME, RESULT_NAME = "train.log", "stop", "result.json"
STATE_VERSION = 2
"""Of what a checkpoint's state holds: one of another version is refused by name."""
CHECKPOINTS, MODEL_FOLDER = "checkpoints", "model"


def train_rank(arguments: dict[str, Any], worker: Worker, report: Callable[[Mapping[str, float], Path | None], None]) -> None:
    """Train until all stages are done; see `pipelines.pretrain.pretrain` for what `arguments` holds.

    Raises:
        PreemptedError: the stop file appeared; a checkpoint is committed.
    """
    run = _Rank(arguments, worker, report)
    run.resume()
    for stage in range(run.feed.stage_of(min(run.step, run.feed.num_steps - 1))[0], len(run.feed.stages)):
        run.train_stage(stage)
    run.finish()


class _Rank:
    """State of one rank: what is built once, and the step it stands at."""

    def __init__(self, arguments: dict[str, Any], worker: Worker, report: Callable[[Mapping[str, float], Path | None], None]) -> None:
        self.arguments, self.worker, self.report = arguments, worker, report
        self.settings, self.machine, self.seed = arguments["settings"], arguments["machine"], int(arguments["seed"])
        self.folder, prepared = Path(arguments["folder"]), Path(arguments["prepared"])
        manifest = read_manifest(prepared)
        tokenizer = prepared_tokenizer(prepared, manifest)
        self.vocab, self.normaliser = tokenizer.vocab, tokenizer.normaliser
        self.config = ErnieConfig(**arguments["config"])
        self.data = RankData(arguments, self.vocab, manifest, worker, self.log)
        self.feed = self.data.feed
        heads = {name: Head(*spec) for name, spec in arguments["heads"].items()}
        self.model = ErnieForPretraining(self.config, heads, self.seed).to(worker.device)
        self.model.encoder.recompute = self.machine["recompute"]
        init = arguments["init"]
        self.known = frozenset[str]() if init is None else start_from(initial_tensors(Path(init)), self.model)
        self.optimizer = adamw(self.model, weight_decay=self.settings["weight_decay"], beta2=self.settings["adam_beta2"])
        self.loss_scale = LossScale(self.settings["precision"])
        self.step, self.tokens = 0, dict.fromkeys(self.data.tasks, 0)
        self.skipped: tuple[int, ...] = ()
        self.meter = Meter(self._weights())
        self.peak = matmul_peak(self.settings["precision"], worker.device)
        if self.settings["precision"] == "fp16" and worker.device.type == "cpu":
            self.log("WARN E-FP16-CPU a CPU multiplies fp16 in software, measured 65 times slower than fp32; precision bf16 or fp32 is meant for it")
        self.journal = Journal(self.folder / JOURNAL_NAME) if worker.rank == 0 else None

    def fingerprint(self) -> dict[str, Any]:
        """Return what must be equal to resume; the names are what a refusal prints."""
        return {
            "state": STATE_VERSION,
            "settings": self.settings,
            **{name: self.arguments[name] for name in ("seed", "config", "vocab_sha256", "shards_sha256")},
        }

    def layout(self) -> dict[str, int]:
        """Return what must be equal too, beside `checkpoint.environment`, for a resumed run to give the same bits."""
        return {"world": self.worker.world, "device_tokens": self.machine["device_tokens"]}

    def resume(self) -> None:
        """Go on from the newest good checkpoint, if there is one."""
        latest = checkpoint.latest(self.folder / CHECKPOINTS, self.log)
        agree_on_checkpoint(latest, self.worker, self.folder)
        if latest is None:
            return
        checkpoint.check_fingerprint(latest, self.fingerprint())
        state = checkpoint.load(latest, self.model, self.optimizer)
        self.step, self.tokens, self.skipped = state["step"], dict(state["tokens"]), tuple(state["skipped"])
        self.feed.load_state(state["feed"])
        self.loss_scale.load_state(state["loss_scale"])
        self.meter = Meter(self._weights(), state["meter"])
        self.log(f"resumed from {latest.name} at step {self.step} of {self.feed.num_steps}")
        differs = checkpoint.environment_differences(latest)
        differs += [
            f"{name}: {was} in the checkpoint, {self.layout()[name]} now" for name, was in state["layout"].items() if self.layout()[name] != was
        ]
        if differs:
            self.log(
                f"WARN E-RESUME-BITS the samples are the same, but the last bits of the losses may differ from an unbroken run: {'; '.join(differs)}"
            )
        stage, done, size = self.feed.stage_of(self.step - 1)
        if self.step % self.settings["validation_steps"] == 0 or done + 1 == size:
            self.validate(stage, self.step)  # a kill may have fallen between the save and its validation; known values are not written twice

    def train_stage(self, stage: int) -> None:
        """Train what is left of a stage. At its start weights stay, moments and the learning rate restart, entering tasks start fresh."""
        start = sum(len(s.sequence) for s in self.feed.stages[:stage])
        steps = len(self.feed.stages[stage].sequence)
        if self.step == start:
            failpoint("train.stage_border")
            if stage and self.settings["stage_optimizer"] == "reset":
                reset(self.optimizer)
            for name in self.arguments["stages"][stage]["enter"] if stage else ():
                if name not in self.known:
                    self.model.start_task(name, self.data.tasks[name].task_id, self.seed)
            self.log(
                f"stage {stage + 1} of {len(self.feed.stages)}: {steps} steps, masking {self.feed.stages[stage].mask_unit}{LONG if self.feed.stages[stage].long else ''}"
            )
        outcome = train(
            self.model, self.feed, self.optimizer, worker=self.worker, start_step=self.step, total_steps=start + steps,
            lr_at=partial(_rate, self.settings, self.arguments["stages"][stage]["learning_rate"], start, steps), loss_weights=self._weights(), clip_norm=self.settings["clip_norm"],
            precision=self.settings["precision"], dropout_seed=self.seed, on_step=self.on_step, save_every=self.machine["save_steps"], save=self.save,
            validate_every=self.settings["validation_steps"], validate=partial(self.validate, stage), should_stop=(self.folder / STOP_NAME).exists, skipped=self.skipped,
            loss_scale=self.loss_scale,
        )  # fmt: skip
        self.step, self.skipped = outcome.step, outcome.skipped
        if outcome.stopped:
            raise PreemptedError(
                "E-STOPPED",
                f"stopped at step {self.step} of {self.feed.num_steps} with a good checkpoint",
                where=str(self.folder),
                fix="run the same command again to go on",
            )

    def _weights(self) -> dict[str, float]:
        s = self.settings
        return {
            LM: s["lm_weight"],
            **{name: s["loss_weight"] if spec[0] == "sentence" else s["token_loss_weight"] for name, spec in self.arguments["heads"].items()},
        }

    def on_step(self, result: StepResult[FeedStep]) -> None:
        """Count, and every `skip_steps` write the log line and the journal."""
        self.step = result.step
        self.tokens[result.feed.task] += result.tokens
        self.meter.add(result, sum(step_flops(self.config, batch) for batch in result.feed.batches))
        if result.skipped:
            self.log(f"WARN E-NONFINITE step {result.step} gave numbers that are not finite and was left out; task {result.feed.task}")
        if result.step % self.machine["skip_steps"] and result.step != self.feed.num_steps:
            return
        if self.journal is not None:
            self.log(log_line(result, self.meter))
            figures = {"train/learning_rate": result.learning_rate, "train/grad_norm": result.grad_norm, "train/stage": result.feed.stage + 1}
            shares = {f"train/{name}/share": count / sum(self.tokens.values()) for name, count in self.tokens.items() if count}
            machine = {"train/loss_scale": result.loss_scale, "perf/memory_mb": memory_mb(self.worker.device)}
            self.journal.log(
                result.step, {**self.meter.metrics(self.peak), **figures, **shares, **machine, "train/tokens": sum(self.tokens.values())}
            )
        self.meter.restart()

    def save(self, step: int, skipped: tuple[int, ...]) -> None:
        """Commit a checkpoint on rank 0, and tell Ray where it lies."""
        path = None
        if self.worker.rank == 0:
            assert self.journal is not None
            self.journal.flush()
            state = {
                "step": step,
                "tokens": self.tokens,
                "skipped": list(skipped),
                "feed": self.feed.state(),
                "loss_scale": self.loss_scale.state(),
                "meter": self.meter.state(),
                "layout": self.layout(),
            }
            keep = self.machine["keep_checkpoints"]
            path = checkpoint.save(self.folder / CHECKPOINTS, step, self.model, self.optimizer, state, keep, self.fingerprint())
        self.worker.barrier()
        self.report({"step": step}, path)

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
        if self.journal is not None:
            self.journal.log(step, metrics)
            self.log(validation_line(step, entered, metrics))

    def finish(self) -> None:
        """Write the model folder and the result, on rank 0."""
        if self.journal is None:
            return
        self.journal.close()
        folder = self.folder / MODEL_FOLDER
        folder.mkdir(exist_ok=True)
        with disk_errors(folder):
            tables = {"vocab.txt": self.vocab.to_bytes(), NORMALISER_NAME: self.normaliser.to_bytes()}
            files = (*checkpoint.save_model(folder, self.model), *(atomic_write(folder / name, data) for name, data in tables.items()))
        write_manifest(folder, Manifest("model", {"config": self.arguments["config"]}, {}, files))
        state = self.feed.state()
        result = {
            "steps": self.step,
            "tokens": sum(self.tokens.values()),
            "skipped": list(self.skipped),
            "chain": state["chain"],
            "trained_positions": self.data.trained_positions,
            "parameters": sum(p.numel() for p in self.model.parameters()),
        }
        atomic_write(self.folder / RESULT_NAME, canonical_json(result))

    def log(self, line: str) -> None:
        """Append a line to the log, on rank 0."""
        if self.worker.rank == 0:
            with disk_errors(self.folder), (self.folder / LOG_NAME).open("a", encoding="utf-8") as f:
                f.write(line + "\n")


def agree_on_checkpoint(latest: Path | None, worker: Worker, folder: Path) -> int:
    """Return the step of `latest`, -1 for none, which every rank must have found: else gradients of different steps would be summed in silence.

    Raises:
        ResourceError: E-CKPT-RANKS.
    """
    found = -1 if latest is None else checkpoint.step_of(latest)
    steps = torch.zeros(worker.world, dtype=torch.int64, device=worker.device)
    steps[worker.rank] = found
    if worker.world > 1:
        worker.all_reduce_sum(steps)
    if len(set(steps.tolist())) > 1:
        raise ResourceError(
            "E-CKPT-RANKS", "the ranks see different checkpoints", where=str(folder / CHECKPOINTS), expected="one newest step on all ranks",
            found=f"newest step by rank {steps.tolist()} (-1: none)", fix="put `root` on storage that every node sees alike",
        )  # fmt: skip
    return found


def _rate(settings: Mapping[str, Any], peak: float, start: int, steps: int, step: int) -> float:
    """Return the learning rate of a step: a recipe's schedule restarts each stage, at its `peak`, the seed's runs over the whole."""
    seed_schedule = settings.get("lr_scheduler")
    if seed_schedule == "linear_warmup_decay":
        return linear_warmup_decay(step, peak, settings["warmup_steps"], settings["num_train_steps"])
    if seed_schedule == "noam_decay":
        return noam_decay(step, peak, settings["warmup_steps"])
    return learning_rate(step - start, steps, peak, settings["warmup_share"])
