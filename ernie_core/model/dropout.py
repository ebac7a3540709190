"""Dropout without generator state: the mask is a function of (key, site), so a resumed or recomputed step drops the same values."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ernie_core.seeding import combine

_STEPS = 1 << 16  # probabilities are multiples of 1/65536: 16 random bits a value, measured faster than torch's bernoulli


def dropout(x: Tensor, probability: float, dropout_key: int | None, site: int) -> Tensor:
    """Zero each value with `probability` and scale the rest by 1 / (1 - probability).

    Args:
        x: any shape, floating point.
        probability: in [0, 1), rounded to a multiple of 1/65536.
        dropout_key: key of (seed, step, micro-batch, rank); None = no dropout (evaluation).
        site: number of this call within the forward pass; equal keys and sites give equal masks.

    Returns:
        A tensor of x's shape and dtype.
    """
    threshold = round(probability * _STEPS)
    if dropout_key is None or threshold == 0:
        return x
    site_key = int(combine(dropout_key, site))
    dropped = _dropped_cuda(x, threshold, site_key) if x.is_cuda else _dropped_cpu(x, threshold, site_key)
    # The scalar product is rounded from float32: folding the scale into a bfloat16 mask would bias every value by 0.16 % at 0.1.
    return x.masked_fill(dropped, 0.0) * (_STEPS / (_STEPS - threshold))


def _dropped_cpu(x: Tensor, threshold: int, site_key: int) -> Tensor:
    words = np.random.SFC64(site_key).random_raw(-(-x.numel() // 4))
    bits = torch.from_numpy(np.asarray(words).view(np.int16)[: x.numel()]).view(x.shape)
    return bits < threshold - _STEPS // 2


def _dropped_cuda(x: Tensor, threshold: int, site_key: int) -> Tensor:
    generator = torch.Generator(device=x.device)
    generator.manual_seed(site_key >> 1)  # 63 bits: torch refuses negative int64
    return torch.empty(x.shape, dtype=torch.bool, device=x.device).bernoulli_(threshold / _STEPS, generator=generator)
