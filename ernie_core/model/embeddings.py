"""The sum of embeddings at the encoder's input: word + position + sentence type (+ task), LayerNorm, dropout (ernie.md 5.1).

Shapes: B batch, T tokens, D hidden.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ernie_core.data.batches import Batch
from ernie_core.model.config import ErnieConfig
from ernie_core.model.dropout import dropout


@dataclass(frozen=True)
class TorchBatch:
    """`data.batches.Batch` as tensors on a device; shapes and dtypes are the same, see there."""

    token_ids: Tensor
    sentence_type_ids: Tensor
    position_ids: Tensor
    lengths: Tensor
    task_id: int
    target_positions: Tensor
    target_ids: Tensor
    labels: Tensor
    token_labels: dict[str, Tensor]

    @staticmethod
    def from_numpy(batch: Batch, device: torch.device) -> TorchBatch:
        """Copy a batch to `device` (on the CPU the arrays are shared)."""
        return TorchBatch(
            token_ids=torch.from_numpy(batch.token_ids).to(device),
            sentence_type_ids=torch.from_numpy(batch.sentence_type_ids).to(device),
            position_ids=torch.from_numpy(batch.position_ids).to(device),
            lengths=torch.from_numpy(batch.lengths).to(device),
            task_id=batch.task_id,
            target_positions=torch.from_numpy(batch.target_positions).to(device),
            target_ids=torch.from_numpy(batch.target_ids).to(device),
            labels=torch.from_numpy(batch.labels).to(device),
            token_labels={name: torch.from_numpy(values).to(device) for name, values in batch.token_labels.items()},
        )


class Embeddings(nn.Module):
    """Word, position, sentence-type and task embeddings."""

    def __init__(self, config: ErnieConfig) -> None:
        super().__init__()
        self.word = nn.Embedding(config.vocab_size, config.hidden_size)
        self.position = nn.Embedding(config.max_position_embeddings, config.hidden_size)
        self.sentence = nn.Embedding(config.sent_type_vocab_size, config.hidden_size)
        self.task = nn.Embedding(config.task_type_vocab_size, config.hidden_size) if config.use_task_id else None
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout_prob = config.hidden_dropout_prob

    def forward(self, batch: TorchBatch, dropout_key: int | None, site: int) -> Tensor:
        """Return hidden_BTD, float32."""
        hidden_BTD: Tensor = self.word(batch.token_ids) + self.position(batch.position_ids) + self.sentence(batch.sentence_type_ids)
        if self.task is not None:
            hidden_BTD = hidden_BTD + self.task.weight[batch.task_id]
        return dropout(self.norm(hidden_BTD), self.dropout_prob, dropout_key, site)
