"""What equal bits depend on beside the settings (reliability.md 4.3): versions, processor, threads."""

from __future__ import annotations

import functools
import platform
from pathlib import Path
from typing import Any

import numpy as np
import torch

_CPU_INFO = Path("/proc/cpuinfo")


@functools.cache
def processor() -> str:
    """Return the processor's name as Linux gives it; elsewhere as Python does, maybe "".

    Example: ``"AMD EPYC"``.
    """
    try:
        lines = _CPU_INFO.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.processor())


def environment() -> dict[str, Any]:
    """Return what a checkpoint records of the machine that wrote it: versions, processor and its instructions, card, threads."""
    cuda = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "torch": torch.__version__, "numpy": np.__version__, "python": platform.python_version(), "processor": processor(),
        "cpu": torch.backends.cpu.get_cpu_capability(), "cuda": cuda, "threads": torch.get_num_threads(),
    }  # fmt: skip
