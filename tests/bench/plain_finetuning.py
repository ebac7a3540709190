"""The peer of fine-tuning: a plain loop over Hugging Face's AutoModel and AutoTokenizer, with dynamic padding. It shares no code with ours."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from torch.utils.data import DataLoader

Row = tuple[tuple[str, ...], float]
"""(one text or two, label id or value; -1 without)."""
BETAS = (0.9, 0.98)


@dataclass(frozen=True)
class Plan:
    """How to train.

    Args:
        learning_rate: peak; linear warmup over `warmup_share` of the steps, then linearly down.
        epochs, batch_size: passes, and rows in a batch.
        max_length: tokens of a row, specials included.
        warmup_share, weight_decay, dropout: as they say; dropout is everywhere the model has one, and before the output layer.
        precision: "bf16" (matrix products, by autocast) or "fp32".
    """

    learning_rate: float
    epochs: int
    batch_size: int
    max_length: int
    warmup_share: float = 0.1
    weight_decay: float = 0.01
    dropout: float = 0.1
    precision: str = "fp32"

    def autocast(self) -> torch.autocast:
        """Return the context of a forward pass."""
        return torch.autocast("cpu", torch.bfloat16, enabled=self.precision == "bf16")


class MeanModel(torch.nn.Module):
    """AutoModel, the mean of its tokens, dropout and one linear layer."""

    def __init__(self, folder: Path, num_outputs: int, dropout: float) -> None:
        super().__init__()
        self.encoder = transformers.AutoModel.from_pretrained(
            folder, hidden_dropout_prob=dropout, attention_probs_dropout_prob=dropout, add_pooling_layer=False
        )
        self.dropout = torch.nn.Dropout(dropout)
        self.output = torch.nn.Linear(self.encoder.config.hidden_size, num_outputs)
        torch.nn.init.normal_(self.output.weight, std=0.02)
        torch.nn.init.zeros_(self.output.bias)

    def forward(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Return logits, float32[B, C], of a batch of input_ids, token_type_ids and attention_mask, each [B, T]."""
        hidden = self.encoder(**batch).last_hidden_state
        mask = batch["attention_mask"].unsqueeze(2)
        return self.output(self.dropout((hidden * mask).sum(1) / mask.sum(1)))


def collate_with(tokenizer: Any, max_length: int) -> Callable[[Sequence[Row]], tuple[dict[str, torch.Tensor], torch.Tensor]]:
    """Return what makes a batch of rows, padded to its longest: (the tokenizer's tensors [B, T], float32[B] labels)."""

    def collate(rows: Sequence[Row]) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        columns = [list(column) for column in zip(*(texts for texts, _ in rows), strict=True)]
        batch = tokenizer(*columns, truncation=True, max_length=max_length, padding="longest", return_tensors="pt")
        return dict(batch), torch.tensor([label for _, label in rows])

    return collate


def fine_tune(
    folder: Path, rows: Mapping[str, Sequence[Row]], num_outputs: int, seed: int, plan: Plan, on_loss: Callable[[float], None] = lambda _: None
) -> dict[str, NDArray[np.float32]]:
    """Train on "train" and return subset -> outputs, float32[n, C], of the others after the last step; one output means a regression.

    Args:
        folder: of the model and its tokenizer.
        rows: of each subset.
        num_outputs: C.
        seed: of the output layer, the order and dropout.
        plan: how.
        on_loss: told each step's mean loss.
    """
    transformers.set_seed(seed)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = MeanModel(folder, num_outputs, plan.dropout)
    collate = collate_with(tokenizer, plan.max_length)
    loader = DataLoader(list(rows["train"]), batch_size=plan.batch_size, shuffle=True, collate_fn=collate)
    optimizer = torch.optim.AdamW(_groups(model, plan.weight_decay), lr=plan.learning_rate, betas=BETAS, fused=True)
    steps = plan.epochs * len(loader)
    schedule = transformers.get_linear_schedule_with_warmup(optimizer, round(plan.warmup_share * steps), steps)
    model.train()
    for _ in range(plan.epochs):
        for batch, labels in loader:
            with plan.autocast():
                logits = model(batch).float()
            loss = (
                torch.nn.functional.mse_loss(logits[:, 0], labels) if num_outputs == 1 else torch.nn.functional.cross_entropy(logits, labels.long())
            )
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            on_loss(loss.item())
    with plan.autocast():
        return {subset: predict(model, held, collate) for subset, held in rows.items() if subset != "train"}


def _groups(model: torch.nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Return the optimiser's groups: biases and LayerNorms are not decayed."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    return [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim == 1], "weight_decay": 0.0},
    ]


def predict(model: torch.nn.Module, rows: Sequence[Row], collate: Callable[..., Any], batch_size: int = 64) -> NDArray[np.float32]:
    """Return the outputs of rows in their order, float32[n, C]."""
    model.eval()
    with torch.inference_mode():
        found = [model(batch).float().numpy() for batch, _ in DataLoader(list(rows), batch_size=batch_size, collate_fn=collate)]
    model.train()
    return np.concatenate(found)
