"""One fine-tuning trial: one start, one benchmark, one learning rate, one seed. Dev chooses the step, test is read once."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ernie_core.benchmarks.base import CHOOSING, Benchmark, Encoded, Outputs
from ernie_core.data.batches import collate, split_rows
from ernie_core.data.rows import Rows
from ernie_core.errors import DivergedError
from ernie_core.model.embeddings import TorchBatch
from ernie_core.model.ernie import BENCHMARK, ErnieForBenchmark
from ernie_core.seeding import key
from ernie_core.training.checkpoint import load_weights, read_config
from ernie_core.training.loop import train
from ernie_core.training.optim import adamw
from ernie_core.training.precision import autocast, resolve
from ernie_core.training.schedule import learning_rate
from ernie_core.training.trial_feed import TASK_ID, TrialFeed
from ernie_core.training.worker import LocalWorker, Worker

ADAM_BETA2 = 0.98
CLIP_NORM = 1.0
EVAL_TOKENS = 4096
"""Padded tokens in an evaluation batch."""


@dataclass(frozen=True)
class Settings:
    """How a trial trains.

    Args:
        epochs: passes over the training rows.
        batch_size: rows in a batch.
        learning_rate: peak; linear warmup over `warmup_share` of the steps, then linearly down, or constant under `schedule` "constant".
        eval_times: evaluations on dev, evenly spaced, the last after the last step.
        precision: see `precision.resolve`.
        dropout: everywhere the model has one.
        weight_decay: decoupled.
        pooling: see `ErnieForBenchmark`.
        schedule: "linear", or "constant" as ERNIE's own scripts have it where they do not warm up (ernie.md 6.1).
        layer_decay: each layer's rate is this times that of the layer above it; 1 = one rate for all.
        patience: evaluations without a better dev score after which training stops; None = never.
        class_weights: "balanced" weighs a class by 1 over its share of the training rows, their mean 1; None = all alike.
    """

    epochs: int
    batch_size: int
    learning_rate: float
    eval_times: int
    precision: str
    dropout: float
    warmup_share: float
    weight_decay: float
    pooling: str = "cls"
    schedule: str = "linear"
    layer_decay: float = 1.0
    patience: int | None = None
    class_weights: str | None = None


@dataclass(frozen=True)
class TrialResult:
    """What a trial found. Scores are None where the metric is undefined.

    Args:
        dev_curve: (step, dev score), one an evaluation.
        best_step: the earliest step of the best dev score, whose weights `outputs` come from.
        outputs: subset -> what the model gives for its samples, of every subset but "train"; see `benchmarks.base.Encoded`.
        diverged: training stopped on non-finite numbers; the figures are those of the steps before.
        stopped_early: after `Settings.patience` evaluations without a better one.
        rows_per_s: training rows a second, evaluations left out.
    """

    dev_curve: tuple[tuple[int, float | None], ...]
    best_step: int
    outputs: dict[str, Outputs]
    diverged: bool
    stopped_early: bool
    rows_per_s: float


def predict(model: ErnieForBenchmark, rows: Rows, *, pad_id: int, precision: str, worker: Worker | None = None) -> Outputs:
    """Return logits in the order of `rows`: float32[n, C], or float32[N, C] for every token where the head reads each; rows are read sorted by length.

    Each rank reads its share of the batches; every rank gets the logits of all, which follow from the rows alone.
    """
    worker = worker or LocalWorker()
    device = next(model.parameters()).device
    order = np.argsort(rows.lengths, kind="stable")
    out = np.zeros((rows.num_tokens if model.reads_tokens else len(rows), model.output.out_features), dtype=np.float32)
    for part in split_rows(rows.lengths[order], EVAL_TOKENS)[worker.rank :: worker.world]:
        batch = collate(rows.take(order[part]), None, task_id=TASK_ID, pad_id=pad_id)
        with autocast(precision, device):
            logits = model.predict(TorchBatch.from_numpy(batch, device))
        found = logits.cpu().numpy()  # waits for the device: once a batch, evaluation only
        if not model.reads_tokens:
            out[order[part]] = found
            continue
        for i, row in enumerate(order[part]):
            out[rows.offsets[row] : rows.offsets[row + 1]] = found[i, : batch.lengths[i]]
    if worker.world == 1:
        return out
    whole = torch.from_numpy(out).to(device)
    worker.all_reduce_sum(whole)  # each place is filled by one rank, and 0 on the others
    return np.asarray(whole.cpu().numpy())


def run_trial(
    *,
    model_folder: Path,
    pretrained: bool,
    benchmark: Benchmark,
    data: Mapping[str, Encoded],
    pad_id: int,
    seed: int,
    settings: Settings,
    threads: int,
    on_evaluation: Callable[[int, str, Outputs, float], None] = lambda *_: None,
    worker: Worker | None = None,
) -> TrialResult:
    """Fine-tune on "train", evaluate on "dev" along the way, and on every other subset once, with the weights of the best evaluation.

    Both arms have the same shape, the same start of the output layer, the same batches and the same dropout for one seed; all that
    differs is what the encoder starts from.

    Args:
        model_folder: a checkpoint.
        pretrained: start from its weights; else from its shape alone.
        benchmark: what the data is of.
        data: "train" and "dev", and what else is to be predicted ("test"); CHOOSING, where it is there, is evaluated along the way instead of "dev".
        pad_id: of the vocabulary.
        seed: of the start, the order and dropout.
        settings: how to train.
        threads: CPU threads while this runs; bits depend on it.
        on_evaluation: told (step, subset, outputs, seconds) of each evaluation along the way and at the end, there with the best step.
        worker: this rank; None = the only one. All ranks give the same result; where there are several, `settings.precision` is not "auto".
    """
    worker = worker or LocalWorker()
    rows = {name: Rows.from_samples(encoded.samples, encoded.token_labels) for name, encoded in data.items()}
    model = _start(model_folder, benchmark, rows["train"].labels, seed, settings, pretrained=pretrained).to(worker.device)
    precision = resolve(settings.precision)
    feed = TrialFeed(rows["train"], settings.batch_size, seed, pad_id, data["train"].values, rank=worker.rank, world=worker.world)
    total_steps = settings.epochs * feed.steps_per_epoch
    best, clock = _Best(model, settings.patience), _Clock()
    evaluate = _Evaluator(model, rows, pad_id, precision, on_evaluation, worker)
    choosing = CHOOSING if CHOOSING in data else "dev"

    def validate(step: int) -> None:
        """Offer the weights at this step to the best."""
        with clock.stopped():
            best.offer(step, benchmark.metric.of(data[choosing].outcomes(evaluate(step, choosing))))

    with _threads(threads):
        try:
            done = train(
                model, feed, adamw(model, weight_decay=settings.weight_decay, beta2=ADAM_BETA2, layer_decay=settings.layer_decay), worker=worker,
                start_step=0, total_steps=total_steps, lr_at=_rates(settings, total_steps), loss_weights={BENCHMARK: 1.0}, clip_norm=CLIP_NORM, precision=precision,
                dropout_seed=key(seed, "fine-tuning"), on_step=lambda result: clock.count(len(result.feed.global_sample_ids)),
                save_every=0, save=lambda _step, _stop: None, should_stop=lambda: best.given_up,
                validate_every=-(-total_steps // settings.eval_times), validate=validate,
            )  # fmt: skip
            diverged, stopped = False, done.stopped
        except DivergedError:
            diverged, stopped = True, False  # a rate of the grid may be too high: that is a result, not a fault
        best.restore()
        found = {subset: evaluate(best.step, subset) for subset in data if subset not in {"train", CHOOSING}}
    return TrialResult(tuple(best.curve), best.step, found, diverged, stopped, clock.rows_per_s)


def _rates(settings: Settings, total_steps: int) -> Callable[[int], float]:
    """Return the learning rate of a step, counted from 0."""
    if settings.schedule == "constant":
        return lambda _step: settings.learning_rate
    return lambda step: learning_rate(step, total_steps, settings.learning_rate, settings.warmup_share)


@dataclass(frozen=True)
class _Evaluator:
    """Evaluates the model as it is on a subset, and tells of it; fields as in `run_trial`."""

    model: ErnieForBenchmark
    rows: Mapping[str, Rows]
    pad_id: int
    precision: str
    on_evaluation: Callable[[int, str, Outputs, float], None]
    worker: Worker

    def __call__(self, step: int, subset: str) -> Outputs:
        """Return what the model gives for the rows of `subset`; `step` is told alone."""
        begun = time.perf_counter()
        found = predict(self.model, self.rows[subset], pad_id=self.pad_id, precision=self.precision, worker=self.worker)
        self.on_evaluation(step, subset, found, time.perf_counter() - begun)
        return found


def _start(
    model_folder: Path, benchmark: Benchmark, labels: NDArray[np.integer[Any]], seed: int, settings: Settings, *, pretrained: bool
) -> ErnieForBenchmark:
    """Return the model as a trial starts it; `labels` are those of the training rows."""
    config = replace(read_config(model_folder), hidden_dropout_prob=settings.dropout, attention_probs_dropout_prob=settings.dropout)
    model = ErnieForBenchmark(config, benchmark.kind, benchmark.num_outputs, seed, settings.pooling)
    if pretrained:
        load_weights(model_folder, model, new=("output.",), unused=("lm_head.", "heads."))
    if settings.class_weights == "balanced":
        model.class_weights = balanced_weights(labels, benchmark.num_outputs)
    return model


def balanced_weights(labels: NDArray[np.integer[Any]], num_classes: int) -> Tensor:
    """Return float32[C], 1 over each class's share of the rows, scaled so that their mean over the rows is 1; a class without rows has 0.

    Example: ``balanced_weights(np.array([0, 0, 0, 1]), 2)`` -> ``tensor([0.6667, 2.0000])``.
    """
    counts = np.bincount(labels[labels >= 0], minlength=num_classes)
    present = max(1, np.count_nonzero(counts))
    weights = np.divide(counts.sum() / present, counts, out=np.zeros(num_classes), where=counts > 0)
    return torch.from_numpy(weights.astype(np.float32))


class _Clock:
    """Time spent training, evaluations left out."""

    def __init__(self) -> None:
        self._begun = self._now = time.perf_counter()
        self._out, self._rows = 0.0, 0

    def count(self, rows: int) -> None:
        """Take note of a step over `rows` rows."""
        self._rows, self._now = self._rows + rows, time.perf_counter()

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Leave out the time that the block takes."""
        begun = time.perf_counter()
        yield
        self._out += time.perf_counter() - begun

    @property
    def rows_per_s(self) -> float:
        """Rows a second up to the last step counted."""
        return self._rows / max(self._now - self._begun - self._out, 1e-9)


class _Best:
    """The dev curve, and the weights where it was highest: those of the start until the first evaluation."""

    def __init__(self, model: ErnieForBenchmark, patience: int | None = None) -> None:
        self.model, self._patience = model, patience
        self.curve: list[tuple[int, float | None]] = []
        self.step = 0
        self._weights = _copy(model)

    @property
    def score(self) -> float | None:
        """The highest defined score."""
        return max((s for _, s in self.curve if s is not None), default=None)

    @property
    def given_up(self) -> bool:
        """Whether so many evaluations brought nothing that training may stop."""
        return self._patience is not None and bool(self.step) and sum(step > self.step for step, _ in self.curve) >= self._patience

    def offer(self, step: int, score: float | None) -> None:
        """Take note of an evaluation; the earlier of equal ones stays."""
        before = self.score
        self.curve.append((step, score))
        if not self.step or (score is not None and (before is None or score > before)):
            self.step, self._weights = step, _copy(self.model)

    def restore(self) -> None:
        """Give the model the best weights."""
        self.model.load_state_dict(self._weights)


def _copy(model: ErnieForBenchmark) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


@contextmanager
def _threads(threads: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
