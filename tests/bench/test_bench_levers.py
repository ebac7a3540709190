"""What each lever of the pretraining loop gives: real tokens a second of 4x312 with all of them, and with one taken away at a time: `make bench`."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

import numpy as np
import plain_pretraining as peer
import pytest
import test_bench_pretraining
import torch
from numpy.typing import NDArray
from test_bench_pretraining import HEADS, ROWS, TINY, OurFeed, made_rows, ours
from torch import Tensor
from torch.nn import functional

from ernie_core.data.rows import Rows
from ernie_core.model import attention, embeddings, encoder, heads
from ernie_core.model.ernie import ErnieForPretraining
from ernie_core.training import optim

pytestmark = [pytest.mark.bench, pytest.mark.timeout(1800), pytest.mark.usefixtures("two_threads")]
STEPS, ROUNDS = 6, 3


class RandomBatches(OurFeed):
    """Batches of 32 rows of any length, padded to the longest."""

    def __init__(self, rows: Rows) -> None:
        super().__init__(rows, TINY, ROWS * 128)
        self.batches = iter(peer.batches(rows, ROWS, 1) * 20)

    def chosen(self) -> NDArray[np.int64]:
        return next(self.batches)


def whole_vocabulary(self: heads.MaskedLMHead, hidden_BTD: Tensor, target_positions_M: Tensor, word_embedding_VD: Tensor) -> Tensor:
    """Logits of every place, of which those of masking targets are scored."""
    hidden_ND = hidden_BTD.reshape(-1, hidden_BTD.shape[-1])
    logits_NV = functional.linear(self.norm(self.activation(self.transform(hidden_ND))), word_embedding_VD, self.bias)
    return logits_NV.index_select(0, target_positions_M)


def torch_dropout(x: Tensor, probability: float, dropout_key: int | None, _site: int) -> Tensor:
    return x if dropout_key is None else functional.dropout(x, probability)


def plain_adamw(model: torch.nn.Module, **settings: Any) -> torch.optim.AdamW:
    """AdamW, one tensor after the other."""
    fused = optim.adamw(model, **settings)
    for group in fused.param_groups:
        group.update(fused=False, foreach=False)
    return fused


Off = Callable[[pytest.MonkeyPatch], None]


def _dropouts(patch: pytest.MonkeyPatch) -> None:
    for module in (attention, embeddings, encoder):
        patch.setattr(module, "dropout", torch_dropout)


OFF: dict[str, tuple[Off, str, bool]] = {
    "all": (lambda _: None, "bf16", True),
    "without length bins": (lambda _: None, "bf16", False),
    "logits of every place": (lambda patch: patch.setattr(heads.MaskedLMHead, "forward", whole_vocabulary), "bf16", True),
    "torch's dropout": (_dropouts, "bf16", True),
    "torch's fused attention": (lambda patch: patch.setattr(encoder, "attention", attention.fused), "bf16", True),
    "AdamW not fused": (lambda patch: patch.setattr(test_bench_pretraining, "adamw", plain_adamw), "bf16", True),
    "fp32": (lambda _: None, "fp32", True),
}
"""Name -> what takes the lever away, the arithmetic, and whether batches are made of length bins."""


def test_each_lever_pays(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = made_rows(4096)
    models = {name: ErnieForPretraining(TINY, HEADS, seed=1) for name in OFF}
    feeds = {name: OurFeed(rows, TINY, ROWS * 128) if binned else RandomBatches(rows) for name, (_, _, binned) in OFF.items()}
    rates: dict[str, list[float]] = {name: [] for name in OFF}
    ended: dict[str, float] = {}
    for number in range(ROUNDS + 1):
        for name, (off, precision, _) in OFF.items():
            with monkeypatch.context() as patch:
                off(patch)
                before = feeds[name].tokens
                seconds, losses = ours(models[name], feeds[name], STEPS if number else 1, precision)
            if number:
                rates[name].append((feeds[name].tokens - before) / seconds)
            ended[name] = losses[-1]
    found = {name: statistics.median(values) for name, values in rates.items()}
    print(f"\n4x312, 2 threads, rows of 20 to 128 tokens, medians of {ROUNDS} rounds in turns")
    for name, rate in found.items():
        print(f"  {name:<26} {rate:7.0f} real tokens/s, {found['all'] / rate:.2f} times; last loss {ended[name]:.3f}")
    assert all(np.isfinite(list(ended.values())))
    assert all(found["all"] >= rate for name, rate in found.items() if name != "all"), "a lever does not pay"
