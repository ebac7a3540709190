"""Arithmetic of forward and backward. Weights, moments, LayerNorm, losses and the all-reduce stay in float32."""

from __future__ import annotations

import torch

PRECISIONS = ("bf16", "fp32")


def autocast(precision: str, device: torch.device) -> torch.autocast:
    """Return the context for a forward pass.

    Args:
        precision: "bf16" = matrix products in bfloat16; "fp32" = no change.
        device: of the model.
    """
    assert precision in PRECISIONS, precision
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")
