"""Attention, the one place that differs by device (DESIGN, Dependencies): written out on CPUs, fused on CUDA.

On a CPU under bfloat16 the products written out train faster than the fused kernel, whose backward took 40 % of a step (measured.md 5).
Shapes: B batch, T tokens, H heads, K head width.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from ernie_core.model.dropout import dropout
from ernie_core.seeding import combine


def attention(q_BHTK: Tensor, k_BHTK: Tensor, v_BHTK: Tensor, bias_B11T: Tensor, probability: float, dropout_key: int | None, site: int) -> Tensor:
    """Return context_BHTK; dropout on the weights is a function of (dropout_key, site), None = no dropout."""
    attend = fused if q_BHTK.is_cuda else written_out
    return attend(q_BHTK, k_BHTK, v_BHTK, bias_B11T, probability, dropout_key, site)


def written_out(q_BHTK: Tensor, k_BHTK: Tensor, v_BHTK: Tensor, bias_B11T: Tensor, probability: float, dropout_key: int | None, site: int) -> Tensor:
    """Plain batched products with stateless dropout."""
    scores_BHTT = (q_BHTK * q_BHTK.shape[-1] ** -0.5) @ k_BHTK.transpose(-1, -2)
    weights_BHTT = (scores_BHTT + bias_B11T.to(scores_BHTT.dtype)).softmax(-1).to(v_BHTK.dtype)
    return dropout(weights_BHTT, probability, dropout_key, site) @ v_BHTK


def fused(q_BHTK: Tensor, k_BHTK: Tensor, v_BHTK: Tensor, bias_B11T: Tensor, probability: float, dropout_key: int | None, site: int) -> Tensor:
    """Torch's kernel; its own dropout draws from the device's generator, which is set to (dropout_key, site) for the call."""
    drops = dropout_key is not None and probability > 0
    if drops:
        assert dropout_key is not None
        seed = int(combine(dropout_key, site)) >> 1  # 63 bits: torch refuses negative int64
        torch.cuda.manual_seed(seed) if q_BHTK.is_cuda else torch.manual_seed(seed)
    bias = bias_B11T.to(q_BHTK.dtype)
    return scaled_dot_product_attention(q_BHTK, k_BHTK, v_BHTK, attn_mask=bias, dropout_p=probability if drops else 0.0)
