"""Heads on the encoder, and a loss as a sum with what it was summed over (ernie.md 5.1; DESIGN, A step).

Shapes: N scored positions or rows, B batch, T tokens, D hidden, V vocabulary, C classes, M masked positions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from ernie_core.benchmarks.base import SPAN_END, SPAN_START
from ernie_core.model.config import ErnieConfig
from ernie_core.model.encoder import MASKED, activation

LM = "lm"
"""Name of the masked-LM loss."""


class Head(NamedTuple):
    """A pretraining task's head.

    Args:
        level: "sentence" (classes of the pooled row) or "token" (classes of each token).
        num_classes: C.
        task_id: the task's fixed id: a sentence head serves batches of this id only.
    """

    level: str
    num_classes: int
    task_id: int


@dataclass(frozen=True)
class LossSum:
    """A loss over N > 0 scored rows or positions of one micro-batch.

    Args:
        sum: scalar float32, with graph.
        logits: float32[N, C], detached (C = 1 for a regression).
        labels: int64[N], or float32[N] for a regression.
    """

    sum: Tensor
    logits: Tensor
    labels: Tensor

    @property
    def count(self) -> int:
        """N."""
        return self.labels.numel()

    @property
    def correct(self) -> Tensor:
        """Number of right classes, a scalar on the device; 0 for a regression."""
        if self.labels.is_floating_point():
            return torch.zeros((), dtype=torch.int64, device=self.labels.device)
        return (self.logits.argmax(-1) == self.labels).sum()


def class_loss(logits_NC: Tensor, labels_N: Tensor, weights_C: Tensor | None = None) -> LossSum:
    """Return the cross-entropy, each class's weighted, summed over N scored items, computed in float32."""
    logits_NC = logits_NC.float()
    return LossSum(functional.cross_entropy(logits_NC, labels_N, weights_C, reduction="sum"), logits_NC.detach(), labels_N)


def squared_loss(values_N: Tensor, labels_N: Tensor) -> LossSum:
    """Return the squared error summed over N rows, computed in float32."""
    values_N = values_N.float()
    return LossSum((values_N - labels_N).square().sum(), values_N.detach()[:, None], labels_N)


def token_loss(head: nn.Linear, hidden_BTD: Tensor, labels_BT: Tensor) -> LossSum:
    """Return the loss of a token-level head over the positions whose label is not -1; the head sees these only."""
    labels_N = labels_BT.reshape(-1)
    at = (labels_N >= 0).nonzero().squeeze(1)
    return class_loss(head(hidden_BTD.reshape(-1, hidden_BTD.shape[-1]).index_select(0, at)), labels_N[at])


def span_loss(logits_BT2: Tensor, labels_BT: Tensor, lengths_B: Tensor) -> LossSum:
    """Return the loss of start and end positions, (start + end) / 2 summed over rows, a softmax over each row's tokens (ernie.md 8.3).

    Args:
        logits_BT2: of start and end.
        labels_BT: bits `SPAN_START` and `SPAN_END`, each at one token of a row; -1 in padding.
        lengths_B: real tokens.

    Returns:
        A loss whose items are rows; its logits are those of the starts.
    """
    padding_BT = torch.arange(labels_BT.shape[1], device=labels_BT.device) >= lengths_B[:, None]
    logits_BT2 = logits_BT2.float().masked_fill(padding_BT.unsqueeze(2), MASKED)
    labels_BT = labels_BT.masked_fill(padding_BT, 0)
    starts_B, ends_B = ((labels_BT & bit).argmax(1) for bit in (SPAN_START, SPAN_END))
    start, end = class_loss(logits_BT2[..., 0], starts_B), class_loss(logits_BT2[..., 1], ends_B)
    return LossSum((start.sum + end.sum) / 2, start.logits, start.labels)


class MaskedLMHead(nn.Module):
    """Transform, LayerNorm, and logits tied to the word embedding; no dropout."""

    def __init__(self, config: ErnieConfig) -> None:
        super().__init__()
        self.transform = nn.Linear(config.hidden_size, config.hidden_size)
        self.activation = activation(config.hidden_act)
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))

    def forward(self, hidden_BTD: Tensor, target_positions_M: Tensor, word_embedding_VD: Tensor) -> Tensor:
        """Return logits_MV at the flat positions `target_positions_M` only."""
        hidden_MD = hidden_BTD.reshape(-1, hidden_BTD.shape[-1]).index_select(0, target_positions_M)
        return functional.linear(self.norm(self.activation(self.transform(hidden_MD))), word_embedding_VD, self.bias)
