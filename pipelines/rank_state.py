"""What a rank of pretraining is built of, where it stands, and how that goes into checkpoints and comes back."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from ernie_core.errors import DivergedError, ErnieError, ResourceError
from ernie_core.manifest import disk_errors, read_manifest
from ernie_core.model.config import ErnieConfig
from ernie_core.model.ernie import ErnieForPretraining
from ernie_core.model.heads import LM, Head
from ernie_core.object_store import put, take_longer
from ernie_core.training import checkpoint
from ernie_core.training.flops import matmul_peak
from ernie_core.training.health import MAX_BAD_STEPS, MAX_ROLLBACKS, Health
from ernie_core.training.optim import adamw, reset
from ernie_core.training.retention import complete, step_of
from ernie_core.training.saver import Saver
from ernie_core.training.watched import WatchedFeed
from ernie_core.training.worker import Worker
from pipelines.host import Host
from pipelines.initial import initial_tensors, start_from
from pipelines.journal import JOURNAL_NAME, Journal
from pipelines.machine_load import MachineLoad
from pipelines.meter import Meter, more_is_better
from pipelines.prepared import prepared_tokenizer
from pipelines.rank_data import RankData

LOG_NAME, STOP_NAME, LOCK_NAME, CHECKPOINTS = "train.log", "stop", "rank.lock", "checkpoints"
REGROUP_NAME = "regroup"
"""File by which the driver asks the ranks to stop, so that a larger group can go on."""
STATE_VERSION = 3
"""Of what a checkpoint's state holds: one of another version is refused by name."""


class RankState:
    """State of one rank; `arguments` is what `pipelines.pretrain.pretrain` gives."""

    def __init__(self, arguments: dict[str, Any], worker: Worker, host: Host) -> None:
        self.arguments, self.worker, self.host = arguments, worker, host
        self.settings, self.machine, self.seed = arguments["settings"], arguments["machine"], int(arguments["seed"])
        self.folder, prepared = Path(arguments["folder"]), Path(arguments["prepared"])
        for name in (JOURNAL_NAME, LOG_NAME) if worker.rank == 0 else ():
            take_longer(self.folder / name)
        manifest = read_manifest(prepared)
        tokenizer = prepared_tokenizer(prepared, manifest)
        self.vocab, self.normaliser = tokenizer.vocab, tokenizer.normaliser
        self.config = ErnieConfig(**arguments["config"])
        self.data = RankData(arguments, self.vocab, manifest, worker, self.log)
        self.feed = self.data.feed
        self.watched = WatchedFeed(self.feed, self.machine["timeout_s"])
        heads = {name: Head(*spec) for name, spec in arguments["heads"].items()}
        self.model = ErnieForPretraining(self.config, heads, self.seed).to(worker.device)
        self.model.encoder.recompute = self.machine["recompute"]
        init = arguments["init"]
        self.known = frozenset[str]() if init is None else start_from(initial_tensors(Path(init)), self.model)
        self.optimizer = adamw(self.model, weight_decay=self.settings["weight_decay"], beta2=self.settings["adam_beta2"])
        self.health = Health(self.settings["precision"], self.settings["spike_sigma"])
        self.step, self.tokens = 0, dict.fromkeys(self.data.tasks, 0)
        self.scores: dict[int, float] = {}
        self.meter = Meter(self.weights())
        self.peak = matmul_peak(self.settings["precision"], worker.device)
        self.load = MachineLoad(self.folder, worker.device, self.log) if self.machine["system_metrics"] and not worker.rank else None
        self.replays_bits = True
        self.journal: Journal | None = None
        self._saver: Saver | None = None

    def weights(self) -> dict[str, float]:
        """Return loss name -> weight."""
        s = self.settings
        return {
            LM: s["lm_weight"],
            **{name: s["loss_weight"] if spec[0] == "sentence" else s["token_loss_weight"] for name, spec in self.arguments["heads"].items()},
        }

    def fingerprint(self) -> dict[str, Any]:
        """Return what must be equal to resume; the names are what a refusal prints."""
        return {
            "state": STATE_VERSION,
            "settings": self.settings,
            **{name: self.arguments[name] for name in ("seed", "config", "vocab_sha256", "shards_sha256")},
        }

    def layout(self) -> dict[str, int | str]:
        """Return what must be equal too, beside `environment.environment`, for a resumed run to give the same bits."""
        return {"world": self.worker.world, "device_tokens": self.machine["device_tokens"], "ray": version("ray")}

    def restore(self) -> bool:
        """Go on from the newest good checkpoint; return whether there is one.

        Raises:
            ErnieError: E-CKPT-BAD, E-CKPT-RANKS, E-CKPT-FINGERPRINT and others, see `checkpoint`.
        """
        latest = checkpoint.latest(self.folder / CHECKPOINTS, self.log)
        agree_on_checkpoint(latest, self.worker, self.folder)
        state: dict[str, Any] = {"journal": 0}
        if latest is not None:
            checkpoint.check_fingerprint(latest, self.fingerprint())
            state = checkpoint.load(latest, self.model, self.optimizer)
            self._take(state)
            self.log(f"resumed from {latest.name} at step {self.step} of {self.feed.num_steps}")
            self._compare_machines(latest, state["layout"])
        if self.worker.rank == 0:
            self.journal = Journal(self.folder / JOURNAL_NAME, state["journal"])
            self._saver = Saver(self.folder / CHECKPOINTS, self.machine["keep_checkpoints"], self.machine["timeout_s"], self._keep_journal)
        return latest is not None

    def _keep_journal(self) -> None:
        """Make durable what a checkpoint refers to, in the run's object store too, if it has one."""
        assert self.journal is not None
        self.journal.flush()
        put(path for name in (JOURNAL_NAME, LOG_NAME) if (path := self.folder / name).exists())

    def _take(self, state: Mapping[str, Any]) -> None:
        self.step, self.tokens = state["step"], dict(state["tokens"])
        self.feed.load_state(state["feed"])
        self.health.load_state(state["health"])
        self.meter = Meter(self.weights(), state["meter"])
        self.scores = {int(step): score for step, score in state["scores"].items()}

    def _compare_machines(self, folder: Path, layout: Mapping[str, int | str]) -> None:
        now = self.layout()
        differs = checkpoint.environment_differences(folder)
        differs += [f"{name}: {was} in the checkpoint, {now[name]} now" for name, was in layout.items() if now[name] != was]
        if differs:
            self.replays_bits = False
            self.log(
                f"WARN E-RESUME-BITS the samples are the same, but the last bits of the losses may differ from an unbroken run: {'; '.join(differs)}"
            )

    def save(self, step: int, stops: bool) -> None:
        """Begin to write a checkpoint on rank 0, and tell Ray where the last committed one lies; before a stop, wait for this one."""
        if self._saver is not None:
            assert self.journal is not None
            state = {
                "step": step,
                "tokens": self.tokens,
                "feed": self.feed.state(),
                "health": self.health.state(),
                "meter": self.meter.state(),
                "scores": self.scores,
                "journal": self.journal.mark(step),
                "layout": self.layout(),
            }
            self._saver.save(step, self.model, self.optimizer, state, self.fingerprint(), self.scores)
            if stops:
                self._saver.wait()
        self.host.report({"step": step}, None if self._saver is None else self._saver.committed)

    def check_saved(self) -> None:
        """Raise why a checkpoint could not be written, as soon as that is known."""
        if self._saver is not None:
            self._saver.check()

    def score(self, step: int, metrics: Mapping[str, float]) -> None:
        """Take note of how good the model is at `step`, by the metric that chooses the best checkpoint."""
        name = self.machine["keep_best"]
        if name in metrics:
            self.scores[step] = metrics[name] if more_is_better(name) else -metrics[name]

    def enter(self, stage: int) -> None:
        """Begin a stage: weights stay, moments restart, entering tasks start fresh."""
        if stage and self.settings["stage_optimizer"] == "reset":
            reset(self.optimizer)
        for name in self.arguments["stages"][stage]["enter"] if stage else ():
            if name not in self.known:
                self.model.start_task(name, self.data.tasks[name].task_id, self.seed)
        self.health.spikes.restart()

    def stage_start(self, stage: int) -> int:
        """Return the steps of all stages before this one."""
        return sum(len(s.sequence) for s in self.feed.stages[:stage])

    def go_back(self, error: DivergedError, stage: int) -> None:
        """Take weights and moments of the newest checkpoint on which a step gave finite numbers; the samples go on after the bad ones.

        What lies between is left out for good, so the next checkpoint, made at once, says so.

        Raises:
            DivergedError: `error`, if there is no such checkpoint or the run went back twice before.
        """
        if self.health.rollbacks == MAX_ROLLBACKS:
            raise error
        self.settle()
        self.worker.barrier()
        first_bad = self.step - MAX_BAD_STEPS + 1
        good = next((folder for folder in complete(self.folder / CHECKPOINTS) if step_of(folder) < first_bad - 1), None)
        good_step = agree_on_checkpoint(good, self.worker, self.folder)
        if good is None:
            raise error
        self.log(
            f"WARN E-ROLLBACK steps {good_step + 1} to {self.step} are left out, training goes on with the weights of step {good_step}: {error.found}"
        )
        state = checkpoint.load(good, self.model, self.optimizer)
        self.health.scaling.load_state(state["health"]["loss_scale"])
        self.health.spikes.load_state(state["health"]["spikes"])
        self.health.went_back(good_step, self.step)
        for entered in range(1, stage + 1):
            if self.stage_start(entered) >= good_step:
                self.enter(entered)
        self.save(self.step, stops=True)

    def settle(self) -> None:
        """Wait for a checkpoint in flight."""
        if self._saver is not None:
            self._saver.wait()

    def close(self, error: BaseException | None) -> None:
        """Let go of files and threads; after an error of ours, once what is in flight has been committed and the log names it."""
        if isinstance(error, Exception):
            with suppress(ErnieError):
                self.settle()
        if isinstance(error, ResourceError):  # any rank may be the one that can still tell
            with suppress(OSError), (self.folder / LOG_NAME).open("a", encoding="utf-8") as f:
                f.write(f"ERROR {error}\n")
        self.watched.close()
        if self.journal is not None:
            self.journal.close()

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
    found = -1 if latest is None else step_of(latest)
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
