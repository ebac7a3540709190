"""Arithmetic of forward and backward. Weights, moments, LayerNorm, losses and the all-reduce stay in float32."""

from __future__ import annotations

import functools
import time
from typing import TypedDict

import torch

PRECISIONS = ("bf16", "fp16", "fp32")
TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
START_SCALE, LEAST_SCALE, MOST_SCALE = 2.0**16, 1.0, 2.0**24
_WORTH, _ROUNDS = 1.5, 7
GROWTH_STEPS = 1000
"""Finite steps in a row after which the scale doubles."""


def resolve(precision: str) -> str:
    """Return the arithmetic that "auto" stands for on this machine; other values are themselves.

    bf16 where the machine multiplies it in hardware (CUDA from Ampere on, CPUs with AVX512-BF16 or AMX), and on a CPU only where a matrix
    product is really faster in it, else fp32: without such hardware bf16 was measured at a fiftieth of fp32, and on an Intel processor
    with AVX512-BF16 but no AMX at a half, where one of AMD's does four times as much.
    """
    if precision != "auto":
        return precision
    if torch.cuda.is_available():
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        fast = (torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()) and bf16_pays()  # noqa: SLF001  torch names these nowhere else
    return "bf16" if fast else "fp32"


@functools.cache
def bf16_pays() -> bool:
    """Return whether this CPU multiplies matrices of a layer's size in bf16 at `_WORTH` times its rate in fp32; measured once a process, in some 20 ms."""
    seconds = {}
    for dtype in (torch.float32, torch.bfloat16):
        a, b = torch.ones(512, 320, dtype=dtype), torch.ones(320, 1280, dtype=dtype)
        times = []
        for _ in range(_ROUNDS):
            begun = time.perf_counter()
            torch.mm(a, b)
            times.append(time.perf_counter() - begun)
        seconds[dtype] = min(times)  # what disturbs a round only makes it longer
    return seconds[torch.bfloat16] * _WORTH < seconds[torch.float32]


def autocast(precision: str, device: torch.device) -> torch.autocast:
    """Return the context for a forward pass.

    Args:
        precision: "bf16" or "fp16" = matrix products in that type; "fp32" = no change.
        device: of the model.
    """
    assert precision in PRECISIONS, precision
    return torch.autocast(device.type, dtype=TYPES[precision], enabled=precision != "fp32")


class ScaleState(TypedDict):
    """What a checkpoint keeps of a `LossScale`."""

    scale: float
    good: int


class LossScale:
    """Factor on the loss that keeps float16 gradients from vanishing; 1 for ever in other arithmetic.

    A step whose gradients are not finite is left out whole and halves the scale; `GROWTH_STEPS` finite ones in a row double it. Scales are
    powers of two, so scaling rounds nothing. (The reference starts at 102400, shrinks by 0.8, and lets Adam step on zeroed gradients: ernie.md 6.3.)
    """

    def __init__(self, precision: str) -> None:
        self.dynamic = precision == "fp16"
        self.scale = START_SCALE if self.dynamic else 1.0
        self._good = 0

    def update(self, *, losses_finite: bool, gradients_finite: bool) -> bool:
        """Take note of a step; return whether numbers that are not finite are the scale's fault: losses were, and the scale could still go down."""
        if not self.dynamic:
            return False
        if losses_finite and gradients_finite:
            self._good += 1
            if self._good == GROWTH_STEPS:
                self.scale, self._good = min(self.scale * 2, MOST_SCALE), 0
            return False
        excused = losses_finite and self.scale > LEAST_SCALE
        self.scale, self._good = max(self.scale / 2, LEAST_SCALE), 0
        return excused

    def state(self) -> ScaleState:
        """Return what a checkpoint keeps."""
        return {"scale": self.scale, "good": self._good}

    def load_state(self, state: ScaleState) -> None:
        """Go on from a `state()`."""
        self.scale, self._good = state["scale"], state["good"]
