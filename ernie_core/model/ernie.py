"""ERNIE with its heads: for pretraining (masked LM and the tasks) and for one benchmark. The training loop asks both for losses and counts only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from ernie_core.data.batches import Batch
from ernie_core.model.config import ErnieConfig
from ernie_core.model.dropout import dropout
from ernie_core.model.embeddings import TorchBatch
from ernie_core.model.encoder import Encoder
from ernie_core.model.heads import LM, Head, LossSum, MaskedLMHead, class_loss, span_loss, squared_loss, token_loss
from ernie_core.seeding import generator

T = TypeVar("T")
BENCHMARK = "benchmark"
"""Name of the only loss of fine-tuning."""
BENCHMARK_KINDS = ("classification", "regression", "tagging", "span")
POOLINGS = ("cls", "mean")


class ErnieForPretraining(nn.Module):
    """Encoder, masked-LM head and one head a task.

    Args:
        config: the encoder's shape.
        heads: task name -> its head; tasks of level "mask" have none.
        seed: every parameter starts from (seed, its name), so a further head changes no other parameter.

    A batch is scored by the masked-LM head where it has targets, by the sentence head of its task id where a row has a
    label, and by each token head whose labels it carries; other heads are not touched, their gradients stay None.
    """

    def __init__(self, config: ErnieConfig, heads: Mapping[str, Head], seed: int) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.lm_head = MaskedLMHead(config)
        self.specs = {name: heads[name] for name in sorted(heads)}
        self.heads = nn.ModuleDict({name: nn.Linear(config.hidden_size, spec.num_classes) for name, spec in self.specs.items()})
        initialise(self, config.initializer_range, seed)

    @property
    def loss_names(self) -> tuple[str, ...]:
        """Every name that `losses` can give, in a fixed order."""
        return (LM, *self.specs)

    def counts(self, batch: Batch) -> dict[str, int]:
        """Return loss name -> scored rows or positions; names without any are left out."""
        found = {LM: batch.target_ids.size}
        for name, spec in self.specs.items():
            if spec.level == "token" and name in batch.token_labels:
                found[name] = int((batch.token_labels[name] >= 0).sum())
            if spec.level == "sentence" and spec.task_id == batch.task_id:
                found[name] = int((batch.labels >= 0).sum())
        return {name: count for name, count in found.items() if count}

    def losses(self, batch: TorchBatch, dropout_key: int | None) -> dict[str, LossSum]:
        """Return loss name -> loss, for the names that `counts` gives for the same batch."""
        hidden_BTD, pooled_BD = self.encoder(batch, dropout_key)
        found: dict[str, LossSum] = {}
        if batch.target_ids.numel():
            logits_MV = self.lm_head(hidden_BTD, batch.target_positions, self.encoder.embeddings.word.weight)
            found[LM] = class_loss(logits_MV, batch.target_ids)
        for name, head in self.heads.items():
            spec = self.specs[name]
            assert isinstance(head, nn.Linear)
            if spec.level == "token" and name in batch.token_labels:
                found[name] = token_loss(head, hidden_BTD, batch.token_labels[name])
            if spec.level == "sentence" and spec.task_id == batch.task_id:
                scored = (batch.labels >= 0).nonzero().squeeze(1)
                found[name] = class_loss(head(pooled_BD.index_select(0, scored)), batch.labels[scored])
        return {name: loss for name, loss in found.items() if loss.count}

    def start_task(self, name: str, task_id: int, seed: int) -> None:
        """Give a task that enters now a fresh head and a fresh row of the task embedding (TASKS, An iteration belongs to one task)."""
        with torch.no_grad():
            for part, parameter in self.named_parameters():
                if part.startswith(f"heads.{name}."):
                    _fill(parameter, part, self.config.initializer_range, seed)
            if self.encoder.embeddings.task is not None:
                row = self.encoder.embeddings.task.weight[task_id]
                row.copy_(_truncated_normal(row.numel(), self.config.initializer_range, seed, f"task row {task_id}"))


class ErnieForBenchmark(nn.Module):
    """Encoder and one output layer, with dropout before it (ernie.md 5.1, last line).

    Args:
        config: the encoder's shape.
        kind: "classification" and "regression" read the pooled row and `Batch.labels`; "tagging" and "span" read each token and the
            only entry of `Batch.token_labels`: tag ids, or `SPAN_START` + `SPAN_END` where a span starts and ends ([CLS] holds both where it has none).
        num_labels: C; 1 for a regression, 2 for a span.
        seed: as in `ErnieForPretraining`.
        pooling: the row that classification and regression read: "cls", the pooler over [CLS] as ERNIE has it, or "mean", the mean of all its
            tokens, for a model whose pretraining has not taught [CLS] anything.

    `class_weights` may be set for a classification: float32[C], the weight of each class in the loss.
    """

    class_weights: Tensor | None

    def __init__(self, config: ErnieConfig, kind: str, num_labels: int, seed: int, pooling: str = "cls") -> None:
        super().__init__()
        self.register_buffer("class_weights", None, persistent=False)
        assert kind in BENCHMARK_KINDS, kind
        assert pooling in POOLINGS, pooling
        self.config, self.kind, self.pooling = config, kind, pooling
        self.encoder = Encoder(config)
        self.output = nn.Linear(config.hidden_size, num_labels)
        initialise(self, config.initializer_range, seed)

    @property
    def reads_tokens(self) -> bool:
        """Whether the head reads each token; else it reads one vector a row."""
        return self.kind in {"tagging", "span"}

    @property
    def loss_names(self) -> tuple[str, ...]:
        """The one loss name."""
        return (BENCHMARK,)

    def counts(self, batch: Batch) -> dict[str, int]:
        """Return {"benchmark": scored rows or tokens}, or {} without any."""
        labels = _only(batch.token_labels) if self.kind == "tagging" else batch.labels
        count = len(batch.labels) if self.kind in {"regression", "span"} else int((labels >= 0).sum())
        return {BENCHMARK: count} if count else {}

    def losses(self, batch: TorchBatch, dropout_key: int | None) -> dict[str, LossSum]:
        """Return {"benchmark": loss}, or {} where nothing is scored."""
        features = self._features(batch, dropout_key)
        if self.kind == "regression":
            loss = squared_loss(self.output(features).squeeze(1), batch.labels)
        elif self.kind == "tagging":
            loss = token_loss(self.output, features, _only(batch.token_labels))
        elif self.kind == "span":
            loss = span_loss(self.output(features), _only(batch.token_labels), batch.lengths)
        else:
            scored = (batch.labels >= 0).nonzero().squeeze(1)
            loss = class_loss(self.output(features.index_select(0, scored)), batch.labels[scored], self.class_weights)
        return {BENCHMARK: loss} if loss.count else {}

    def predict(self, batch: TorchBatch) -> Tensor:
        """Return logits, float32: [B, C] where the head reads a row, [B, T, C] where it reads each token."""
        with torch.no_grad():
            logits: Tensor = self.output(self._features(batch, None)).float()
        return logits

    def _features(self, batch: TorchBatch, dropout_key: int | None) -> Tensor:
        hidden_BTD, pooled_BD = self.encoder(batch, dropout_key)
        features: Tensor = hidden_BTD if self.reads_tokens else pooled_BD if self.pooling == "cls" else mean_of_tokens(hidden_BTD, batch.lengths)
        return dropout(features, self.config.hidden_dropout_prob, dropout_key, self.encoder.num_sites)


def mean_of_tokens(hidden_BTD: Tensor, lengths_B: Tensor) -> Tensor:
    """Return the mean of each row's tokens, padding left out: float32[B, D].

    Example (one row of two tokens and padding, D = 1): [[[1], [3], [9]]] with length 2 -> [[2]].
    """
    real_BT1 = (torch.arange(hidden_BTD.shape[1], device=hidden_BTD.device) < lengths_B[:, None]).unsqueeze(2)
    return (hidden_BTD * real_BT1).sum(1) / lengths_B[:, None]


def initialise(model: nn.Module, std: float, seed: int) -> None:
    """Start every parameter from (seed, its name): truncated normal weights and embeddings, biases 0, LayerNorm 1 and 0 (ernie.md 5.1)."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            _fill(parameter, name, std, seed)


def _fill(parameter: Tensor, name: str, std: float, seed: int) -> None:
    if name.endswith("bias"):
        parameter.zero_()
    elif parameter.ndim == 1:  # a LayerNorm's scale
        parameter.fill_(1.0)
    else:
        parameter.copy_(_truncated_normal(parameter.numel(), std, seed, name).view(parameter.shape))


def _truncated_normal(size: int, std: float, seed: int, name: str) -> Tensor:
    """Normal values, drawn again while beyond two standard deviations."""
    draw = generator(seed, "start", name)
    values = draw.standard_normal(size, dtype=np.float32)
    while (outside := np.flatnonzero(np.abs(values) > 2)).size:
        values[outside] = draw.standard_normal(outside.size, dtype=np.float32)
    return torch.from_numpy(values * np.float32(std))


def _only(entries: Mapping[str, T]) -> T:
    (value,) = entries.values()
    return value
