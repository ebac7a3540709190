"""The peers of the pretraining bench: Hugging Face's ErnieForPreTraining with task ids in a plain loop, as its examples write one, and in its Trainer.

Rows in random order, each batch padded to its longest row, the model's own full-vocabulary logits, clipping, fused AdamW.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import transformers
from numpy.typing import NDArray

from ernie_core.data.masking import mask_rows
from ernie_core.data.rows import Rows
from ernie_core.interop.huggingface import to_theirs
from ernie_core.model.config import ErnieConfig
from ernie_core.model.ernie import ErnieForPretraining
from ernie_core.seeding import generator

TASK_ID = 7


def reference_model(ours: ErnieForPretraining, config: ErnieConfig) -> torch.nn.Module:
    """Return the peer's model with the weights of ours."""
    theirs = transformers.ErnieForPreTraining(transformers.ErnieConfig(
        vocab_size=config.vocab_size, hidden_size=config.hidden_size, num_hidden_layers=config.num_hidden_layers,
        num_attention_heads=config.num_attention_heads, intermediate_size=config.intermediate_size, type_vocab_size=config.sent_type_vocab_size,
        max_position_embeddings=config.max_position_embeddings, task_type_vocab_size=config.task_type_vocab_size, use_task_id=True,
        hidden_act=config.hidden_act, hidden_dropout_prob=config.hidden_dropout_prob, attention_probs_dropout_prob=config.attention_probs_dropout_prob,
        layer_norm_eps=config.layer_norm_eps, pad_token_id=0,
    ))  # fmt: skip
    values, _ = to_theirs(ours.state_dict())
    missing, unexpected = theirs.load_state_dict(values, strict=False)
    assert not unexpected, unexpected
    assert not [name for name in missing if "position_ids" not in name and "decoder" not in name], missing
    return theirs.train()


def batches(rows: Rows, size: int, seed: int) -> list[NDArray[np.int64]]:
    """Return the rows of each batch of an epoch in random order."""
    order = generator("peer", seed).permutation(len(rows))
    return [order[i : i + size] for i in range(0, len(order) - size + 1, size)]


def inputs(rows: Rows, chosen: NDArray[np.int64], seed: int, config: ErnieConfig) -> tuple[dict[str, torch.Tensor], int]:
    """Return the model's arguments for a batch, masked as ours is, and its real tokens."""
    few = rows.take(chosen)
    masked = mask_rows(few, unit="word", seed=seed, epoch=0, vocab_size=config.vocab_size, num_special=5, mask_id=3)
    lengths = np.asarray(few.lengths, np.int64)
    real = np.arange(int(lengths.max())) < lengths[:, None]
    at = np.flatnonzero(real)

    def padded(values: NDArray[np.integer], fill: int = 0) -> torch.Tensor:
        out = np.full(real.size, fill, np.int64)
        out[at] = values
        return torch.from_numpy(out.reshape(real.shape))

    labels = np.full(len(at), -100, np.int64)
    labels[masked.targets] = masked.target_ids
    arguments = {
        "input_ids": padded(masked.token_ids), "token_type_ids": padded(few.sentence_type_ids), "position_ids": padded(few.position_ids),
        "attention_mask": torch.from_numpy(real.astype(np.int64)), "task_type_ids": torch.full(real.shape, TASK_ID), "labels": padded(labels, -100),
        "next_sentence_label": torch.from_numpy(1 - few.labels.astype(np.int64)),
    }  # fmt: skip
    return arguments, int(lengths.sum())


def train(
    model: torch.nn.Module, rows: Rows, chosen: Sequence[NDArray[np.int64]], precision: str, config: ErnieConfig
) -> tuple[float, list[float], int, int]:
    """Return (seconds, losses, real tokens, places) of a plain loop over batches."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, betas=(0.9, 0.98), weight_decay=0.01, fused=True)
    losses, tokens, places = [], 0, 0
    begun = time.perf_counter()
    for step, batch in enumerate(chosen):
        arguments, real = inputs(rows, batch, step, config)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bf16"):
            loss = model(**arguments).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(loss.item())
        tokens += real
        places += arguments["input_ids"].numel()
    return time.perf_counter() - begun, losses, tokens, places


def train_by_trainer(
    model: torch.nn.Module, rows: Rows, chosen: Sequence[NDArray[np.int64]], precision: str, config: ErnieConfig, folder: Path
) -> tuple[float, list[float], int, int]:
    """Return what `train` returns, of transformers' Trainer over the same rows in its own random order; masking is its collator."""
    seen = [0, 0]

    def collate(few: list[int]) -> dict[str, torch.Tensor]:
        """Mask and pad some rows, and count what they hold."""
        arguments, real = inputs(rows, np.array(few), few[0], config)
        seen[0] += real
        seen[1] += arguments["input_ids"].numel()
        return arguments

    said = transformers.TrainingArguments(
        output_dir=str(folder), per_device_train_batch_size=len(chosen[0]), max_steps=len(chosen), learning_rate=1e-4, adam_beta2=0.98, weight_decay=0.01,
        max_grad_norm=1.0, lr_scheduler_type="constant", optim="adamw_torch_fused", bf16=precision == "bf16", use_cpu=True, report_to=[], logging_steps=1,
        save_strategy="no", disable_tqdm=True, remove_unused_columns=False,
    )  # fmt: skip
    trainer = transformers.Trainer(model=model, args=said, train_dataset=np.concatenate(chosen).tolist(), data_collator=collate)
    begun = time.perf_counter()
    trainer.train()
    seconds = time.perf_counter() - begun
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert len(losses) == len(chosen)
    return seconds, losses, *seen
