"""The training loop, one for pretraining and fine-tuning (DESIGN, A step).

A step: next batches; global counts; forward and backward of each micro-batch; one exchange between ranks; clip; update; report;
maybe save; maybe validate. Losses are sums divided by the *global* count of scored items, so any world size and any accumulation
give equal gradients.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ernie_core.data.batches import Batch
from ernie_core.failpoints import failpoint
from ernie_core.model.embeddings import TorchBatch
from ernie_core.model.heads import LM, LossSum
from ernie_core.seeding import key
from ernie_core.training.health import Health
from ernie_core.training.optim import clip_gradients, scale_gradients, set_learning_rate
from ernie_core.training.precision import autocast
from ernie_core.training.worker import Worker


class Model(Protocol):
    """What the loop asks of a model beside being an `nn.Module`; `ErnieForPretraining` and `ErnieForBenchmark` have it."""

    @property
    def loss_names(self) -> tuple[str, ...]: ...

    def counts(self, batch: Batch) -> dict[str, int]: ...

    def losses(self, batch: TorchBatch, dropout_key: int | None) -> dict[str, LossSum]: ...


class Step(Protocol):
    """What a feed gives for one step: its task, this rank's micro-batches, maybe none, and the ids of all ranks' samples."""

    @property
    def task(self) -> str: ...

    @property
    def batches(self) -> list[Batch]: ...

    @property
    def global_sample_ids(self) -> NDArray[np.uint64]: ...


StepT = TypeVar("StepT", bound=Step)
StepT_co = TypeVar("StepT_co", bound=Step, covariant=True)


class Feed(Protocol[StepT_co]):
    """Gives step after step."""

    def next(self) -> StepT_co: ...


@dataclass(frozen=True)
class StepResult(Generic[StepT]):
    """What a step did, the same on every rank but for `feed`, `seconds`, `data_seconds` and `places`, which are this rank's.

    Args:
        step: steps done, this one included.
        learning_rate: used by it.
        losses: loss name -> mean over the global batch, unweighted; only losses that were there.
        correct: loss name -> share of right classes.
        counts: loss name -> scored items of the global batch.
        grad_norm: global norm before clipping.
        tokens: real tokens of the global batch.
        seconds: wall time of the step, waiting for data included.
        data_seconds: of these, waiting for data.
        places: places of this rank's micro-batches, padding included.
        loss_scale: factor on the loss in backward; 1 but for fp16.
        skipped: why nothing was updated, see `health.Health.judge`; "" if it was.
        feed: what the feed gave.
    """

    step: int
    learning_rate: float
    losses: dict[str, float]
    correct: dict[str, float]
    counts: dict[str, int]
    grad_norm: float
    tokens: int
    seconds: float
    data_seconds: float
    places: int
    loss_scale: float
    skipped: str
    feed: StepT


@dataclass(frozen=True)
class Outcome:
    """How training ended: steps done, and whether it was asked to stop before the last."""

    step: int
    stopped: bool


def train(
    model: nn.Module, feed: Feed[StepT], optimizer: torch.optim.Optimizer, *, worker: Worker, start_step: int, total_steps: int,
    lr_at: Callable[[int], float], loss_weights: Mapping[str, float], clip_norm: float, precision: str, dropout_seed: int,
    on_step: Callable[[StepResult[StepT]], None], save_every: int, save: Callable[[int, bool], None],
    validate_every: int, validate: Callable[[int], None], should_stop: Callable[[], bool], health: Health | None = None,
) -> Outcome:  # fmt: skip
    """Train from `start_step` steps done to `total_steps`, on every rank alike.

    Args:
        model: a `Model`, on the worker's device.
        feed: gives the batches of the next step; already at `start_step`.
        optimizer: over the model's parameters, already at `start_step`.
        worker: this rank.
        start_step, total_steps: counted over the whole run; call once a stage where the optimiser restarts.
        lr_at: learning rate of a step, counted from 0.
        loss_weights: loss name -> weight, for every name the model can give.
        clip_norm: largest global gradient norm.
        precision: see `precision.autocast`.
        dropout_seed: dropout is keyed by (this, step, rank, micro-batch).
        on_step: called after each step.
        save_every: steps between calls of save(steps done, whether training stops there), also made after the last step and before a
            stop; 0 = never. Rank 0 writes, but every rank calls it.
        validate_every: steps between calls of validate(steps done), after the save, also after the last step; 0 = never.
        should_stop: asked after each step; true on any rank stops all.
        health: judges the steps, at `start_step`; None = a fresh one.

    Raises:
        DivergedError: E-DIVERGED, three steps in a row gave numbers that are not finite, see `Health.check`.
    """
    health = health or Health(precision)
    take_step = _StepTaker(model, feed, optimizer, worker, lr_at, loss_weights, clip_norm, precision, dropout_seed, health)
    for step in range(start_step + 1, total_steps + 1):
        result = take_step(step)
        on_step(result)
        failpoint("train.after_report")
        health.check(step, result.feed.global_sample_ids)
        stop = worker.any(should_stop())
        if save_every and (stop or _due(step, save_every, total_steps)):
            save(step, stop)
        if stop and step < total_steps:
            return Outcome(step, stopped=True)
        if _due(step, validate_every, total_steps):
            validate(step)
    return Outcome(max(start_step, total_steps), stopped=False)


@dataclass(frozen=True)
class _StepTaker(Generic[StepT]):
    """Takes one step of `train`, whose arguments its fields are: batches, gradients, update, and what came of it."""

    model: nn.Module
    feed: Feed[StepT]
    optimizer: torch.optim.Optimizer
    worker: Worker
    lr_at: Callable[[int], float]
    loss_weights: Mapping[str, float]
    clip_norm: float
    precision: str
    dropout_seed: int
    health: Health

    def __call__(self, step: int) -> StepResult[StepT]:
        """Take step number `step`, counted from 1; where its numbers are no good, leave model and optimiser as they were."""
        begun = time.perf_counter()
        taken = self.feed.next()
        waited = time.perf_counter() - begun
        rate, scale = self.lr_at(step - 1), self.health.scaling.scale
        scaled = {name: weight * scale for name, weight in self.loss_weights.items()}
        dropout_parts = (self.dropout_seed, "dropout", step, self.worker.rank)
        sums = _forward_backward(self.model, taken.batches, self.worker, scaled, self.precision, dropout_parts)
        scale_gradients(self.model.parameters(), 1 / scale)
        grad_norm = clip_gradients(self.model.parameters(), self.clip_norm)
        skipped = self.health.judge(step, taken.task, sums.losses, sums.losses.get(LM), grad_norm)
        if not skipped:
            failpoint("train.before_step")
            set_learning_rate(self.optimizer, rate)
            self.optimizer.step()
            failpoint("train.after_step")
        self.optimizer.zero_grad(set_to_none=True)
        failpoint("train.before_report")
        seconds = time.perf_counter() - begun
        places = sum(batch.token_ids.size for batch in taken.batches)
        return StepResult(step, rate, sums.losses, sums.correct, sums.counts, grad_norm, sums.tokens, seconds, waited, places, scale, skipped, taken)


@dataclass(frozen=True)
class _Sums:
    losses: dict[str, float]
    correct: dict[str, float]
    counts: dict[str, int]
    tokens: int


def _due(step: int, every: int, total_steps: int) -> bool:
    return every > 0 and (step % every == 0 or step == total_steps)


def _forward_backward(
    model: Any, batches: Sequence[Batch], worker: Worker, loss_weights: Mapping[str, float], precision: str, dropout_parts: tuple[int | str, ...]
) -> _Sums:
    """Leave the gradients of the global batch in the model, and return its losses."""
    names: tuple[str, ...] = model.loss_names
    counts, tokens = _global_counts(model, names, batches, worker)
    totals = torch.zeros(2 * len(names), device=worker.device)  # sums of losses, then numbers of right classes
    for i, batch in enumerate(batches):
        with autocast(precision, worker.device):
            losses: dict[str, LossSum] = model.losses(TorchBatch.from_numpy(batch, worker.device), key(*dropout_parts, i))
        failpoint("train.after_forward")
        if not losses:
            continue
        for name, loss in losses.items():
            at = names.index(name)
            totals[at] += loss.sum.detach()
            totals[len(names) + at] += loss.correct
        weighted = [loss_weights[name] * loss.sum / counts[name] for name, loss in losses.items()]
        torch.stack(weighted).sum().backward()  # type: ignore[no-untyped-call]
    if worker.world > 1:
        totals = _exchange(model, totals, worker)
    values = totals.tolist()  # waits for the device, once a step
    present = [(i, name) for i, name in enumerate(names) if counts[name]]
    return _Sums(
        losses={name: values[i] / counts[name] for i, name in present},
        correct={name: values[len(names) + i] / counts[name] for i, name in present},
        counts={name: counts[name] for _, name in present},
        tokens=tokens,
    )


def _global_counts(model: Model, names: Sequence[str], batches: Sequence[Batch], worker: Worker) -> tuple[dict[str, int], int]:
    """Return scored items by loss name, and real tokens, summed over micro-batches and ranks."""
    mine = [model.counts(batch) for batch in batches]
    numbers = [sum(counts.get(name, 0) for counts in mine) for name in names]
    numbers.append(sum(int(batch.lengths.sum()) for batch in batches))
    if worker.world > 1:
        shared = torch.tensor(numbers, device=worker.device)
        worker.all_reduce_sum(shared)
        numbers = shared.tolist()  # waits for the device: the losses' divisors are needed first
    return dict(zip(names, numbers, strict=False)), numbers[-1]


def _exchange(model: nn.Module, totals: Tensor, worker: Worker) -> Tensor:
    """Sum gradients and totals over ranks in one buffer: all parameters by name, a flag for each whether it has a gradient, the totals.

    The layout depends on the model alone. A parameter without a gradient on any rank keeps None; one present on some ranks
    only (a rank may have no row of the batch) counts as 0 elsewhere.
    """
    named = sorted(model.named_parameters())
    flags = torch.tensor([p.grad is not None for _, p in named], dtype=torch.float32, device=worker.device)
    parts = [torch.zeros_like(p).view(-1) if p.grad is None else p.grad.reshape(-1) for _, p in named]
    *gradients, flags, totals = worker.all_reduce_sums([*parts, flags, totals])
    for (_, parameter), gradient, flag in zip(named, gradients, flags.tolist(), strict=True):
        parameter.grad = gradient.view_as(parameter) if flag else None
    return totals
