"""Operations of a training step, and how many a second the device reaches: their ratio is the MFU (Chowdhery et al., PaLM, 2022, appendix B)."""

from __future__ import annotations

import time

import torch

from ernie_core.data.batches import Batch
from ernie_core.model.config import ErnieConfig
from ernie_core.training.precision import TYPES

_SIZES = {"cpu": 1024, "cuda": 8192}
_ROUNDS, _SECONDS = 12, 1.0


def step_flops(config: ErnieConfig, batch: Batch) -> float:
    """Return the operations of forward and backward on a micro-batch: matrix products, attention's included, over *real* tokens.

    A product of n multiplications and additions counts 2n forward and 4n backward; padding counts nothing, so padding lowers the MFU.

    Example (D = 4, L = 1, V = 10, one row of 2 tokens, one target): 6 * (2 * 12 * 16 + 2 * 2 * 2 * 4 + 16 + 40) + pooler 6 * 16.
    """
    size, layers = config.hidden_size, config.num_hidden_layers
    lengths = batch.lengths
    encoder = layers * (12 * size * size * int(lengths.sum()) + 2 * size * int((lengths * lengths).sum()))
    heads = len(lengths) * size * size + batch.target_ids.size * (size * size + config.vocab_size * size)
    return 6.0 * (encoder + heads)


def matmul_peak(precision: str, device: torch.device) -> float:
    """Return the operations a second of a large square matrix product on this device with the present number of threads; takes about a second."""
    size = _SIZES[device.type]
    a, b = (torch.randn(size, size, device=device, generator=torch.Generator(device).manual_seed(i)) for i in range(2))
    a, b = a.to(TYPES[precision]), b.to(TYPES[precision])
    best, until = float("inf"), time.perf_counter() + _SECONDS
    with torch.no_grad():
        for _ in range(_ROUNDS):
            begun = time.perf_counter()
            float((a @ b)[0, 0])  # waits for the device
            best = min(best, time.perf_counter() - begun)
            if time.perf_counter() > until:
                break
    if device.type == "cuda":  # what this took is not the training's
        del a, b
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    return 2.0 * size**3 / best
