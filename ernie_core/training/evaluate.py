"""Evaluation of a model's losses over batches, summed over ranks (ernie.md 6.5, 6.6)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ernie_core.data.batches import Batch
from ernie_core.failpoints import failpoint
from ernie_core.model.embeddings import TorchBatch
from ernie_core.model.heads import LM
from ernie_core.tasks.base import Figures
from ernie_core.training.precision import autocast
from ernie_core.training.worker import Worker

_OVERFLOW = 700.0  # exp() of more is infinite in float64


@dataclass(frozen=True)
class Evaluation:
    """One loss over all batches of all ranks.

    Args:
        loss: mean over scored items.
        batch_ppl: mean over batches of exp(mean loss of the batch), as the seed prints it.
        global_ppl: exp(loss).
        accuracy: share of right classes.
        count: scored items.
        average_precision, auc: of class 1 against class 0, where the head has two classes, is not the masked LM, and both classes occur.
        figures: the task's own, see `Task.figures`.
    """

    loss: float
    batch_ppl: float
    global_ppl: float
    accuracy: float
    count: int
    average_precision: float | None
    auc: float | None
    figures: Mapping[str, float] = field(default_factory=dict)


def evaluate(
    model: nn.Module, batches: Iterable[Batch], *, worker: Worker, precision: str, figures: Mapping[str, Figures] | None = None
) -> dict[str, Evaluation]:
    """Evaluate this rank's share of the batches, without dropout; every rank gets the figures of all.

    Args:
        model: a `loop.Model`, on the worker's device.
        batches: this rank's share, maybe none.
        worker: this rank.
        precision: see `precision.autocast`.
        figures: loss name -> its task's further figures (`Task.figures`).

    Returns:
        Loss name -> figures; names without a scored item on any rank are left out.
    """
    source: Any = model
    wanted = figures or {}
    names: Sequence[str] = source.loss_names
    sums = torch.zeros(len(names), 4, dtype=torch.float64)  # loss, correct, count, batches' ppl
    num_batches = torch.zeros(len(names), dtype=torch.float64)
    scores: dict[str, list[NDArray[np.float32]]] = {name: [] for name in names}
    labels: dict[str, list[NDArray[np.int64]]] = {name: [] for name in names}
    predicted: dict[str, list[NDArray[np.int64]]] = {name: [] for name in names}
    for batch in batches:
        with torch.no_grad(), autocast(precision, worker.device):
            losses = source.losses(TorchBatch.from_numpy(batch, worker.device), None)
        failpoint("train.mid_eval")
        for i, name in enumerate(names):
            if name not in losses:
                continue
            loss = losses[name]
            total = loss.sum.item()  # waits for the device, once a loss and batch: evaluation only
            sums[i] += torch.tensor([total, loss.correct.item(), loss.count, _exp(total / loss.count)], dtype=torch.float64)
            num_batches[i] += 1
            ranked, further = name != LM and loss.logits.shape[1] == 2, name in wanted
            if ranked:
                scores[name].append((loss.logits[:, 1] - loss.logits[:, 0]).cpu().numpy())
            if further:
                predicted[name].append(loss.logits.argmax(-1).cpu().numpy())
            if ranked or further:
                labels[name].append(loss.labels.cpu().numpy())
    sums, num_batches = _summed(sums, worker), _summed(num_batches, worker)
    found = {}
    for i, name in enumerate(names):
        all_scores = _gathered(scores[name], np.dtype(np.float32), worker)
        all_labels = _gathered(labels[name], np.dtype(np.int64), worker)
        all_predicted = _gathered(predicted[name], np.dtype(np.int64), worker)
        total, correct, count, ppl = sums[i].tolist()
        if count:
            ap, auc = _ranking(all_scores, all_labels) if len(all_scores) else (None, None)
            own = wanted[name](all_labels, all_predicted) if name in wanted else {}
            found[name] = Evaluation(total / count, ppl / num_batches[i].item(), _exp(total / count), correct / count, int(count), ap, auc, own)
    return found


def _exp(value: float) -> float:
    return math.exp(value) if value < _OVERFLOW else math.inf


def _ranking(scores: NDArray[np.float32], labels: NDArray[np.int64]) -> tuple[float | None, float | None]:
    if len(np.unique(labels)) < 2 or not np.isfinite(scores).all():
        return None, None
    from sklearn.metrics import average_precision_score, roc_auc_score  # 0.9 s to import

    return float(average_precision_score(labels, scores)), float(roc_auc_score(labels, scores))


def _summed(values: torch.Tensor, worker: Worker) -> torch.Tensor:
    shared = values.to(worker.device)
    worker.all_reduce_sum(shared)
    return shared.cpu()


def _gathered(parts: list[NDArray[Any]], dtype: np.dtype[Any], worker: Worker) -> NDArray[Any]:
    """Return all ranks' values, in order of rank: each writes into its own place of zeros, and the sum puts them together."""
    mine = np.concatenate([np.empty(0, dtype), *parts])
    sizes = torch.zeros(worker.world, dtype=torch.int64)
    sizes[worker.rank] = mine.size
    sizes = _summed(sizes, worker)
    start = int(sizes[: worker.rank].sum())
    whole = torch.from_numpy(np.zeros(int(sizes.sum()), dtype))
    whole[start : start + mine.size] = torch.from_numpy(mine)
    return np.asarray(_summed(whole, worker).numpy())
