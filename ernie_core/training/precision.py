"""Arithmetic of forward and backward. Weights, moments, LayerNorm, losses and the all-reduce stay in float32."""

from __future__ import annotations

import torch

PRECISIONS = ("bf16", "fp32")


def resolve(precision: str) -> str:
    """Return the arithmetic that "auto" stands for on this machine; other values are themselves.

    bf16 where the machine multiplies it in hardware (CUDA from Ampere on, CPUs with AVX512-BF16 or AMX), else fp32: without such
    hardware a CPU's bf16 matrix product was measured at a fiftieth of the fp32 one.
    """
    if precision != "auto":
        return precision
    if torch.cuda.is_available():
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        fast = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()  # noqa: SLF001  torch names these nowhere else
    return "bf16" if fast else "fp32"


def autocast(precision: str, device: torch.device) -> torch.autocast:
    """Return the context for a forward pass.

    Args:
        precision: "bf16" = matrix products in bfloat16; "fp32" = no change.
        device: of the model.
    """
    assert precision in PRECISIONS, precision
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")
