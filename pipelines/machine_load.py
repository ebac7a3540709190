"""What a rank's machine does, under the names by which MLflow's page "System metrics" knows them (mlflow.system_metrics, 3.17).

Read at each log line and journalled beside the losses: MLflow's own monitor sends to the server by itself, and stops for good at the first
answer that does not come. CPU figures are means since the last reading, all others are of that moment.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import psutil
import torch

PREFIX = "system/"
MEGABYTE = 1e6  # as MLflow counts


class MachineLoad:
    """Reads the load of this machine and of this process.

    Args:
        folder: the run's; the free space of its disk is told.
        device: what the process computes on.
        say: receives one warning, where a GPU's load cannot be read.
    """

    def __init__(self, folder: Path, device: torch.device, say: Callable[[str], None]) -> None:
        self._folder, self._device, self._say = folder, device, say
        self._asks_driver = device.type == "cuda"
        self._process = psutil.Process()
        self._process.cpu_percent()  # the first reading only begins the interval
        psutil.cpu_percent()

    def read(self) -> dict[str, float]:
        """Return name -> value: percentages (of a process 100 = one core), megabytes (1e6 bytes), watts.

        Example: ``{"system/cpu_utilization_percentage": 97.5, "system/process_memory_megabytes": 612.4, …}``.
        """
        memory = psutil.virtual_memory()
        found = {
            "cpu_utilization_percentage": psutil.cpu_percent(),
            "system_memory_usage_megabytes": memory.used / MEGABYTE,
            "system_memory_usage_percentage": memory.used / memory.total * 100,
            "disk_available_megabytes": psutil.disk_usage(str(self._folder)).free / MEGABYTE,
            "process_cpu_percentage": self._process.cpu_percent(),
            "process_memory_megabytes": self._process.memory_info().rss / MEGABYTE,
        }
        if self._device.type == "cuda":
            found |= {f"gpu_{self._device.index or 0}_{name}": value for name, value in self._gpu().items()}
        return {PREFIX + name: round(float(value), 1) for name, value in found.items()}

    def _gpu(self) -> dict[str, float]:
        """Return memory of the card that all its processes hold and, where NVIDIA's driver tells them, its load and power."""
        free, total = torch.cuda.mem_get_info(self._device)
        found = {"memory_usage_megabytes": (total - free) / MEGABYTE, "memory_usage_percentage": (total - free) / total * 100}
        if self._asks_driver:
            try:
                found["utilization_percentage"] = torch.cuda.utilization(self._device)
                found["power_usage_watts"] = torch.cuda.power_draw(self._device) / 1000
            except Exception as e:  # noqa: BLE001  a slice of a card, another vendor's, or no nvidia-ml-py: each has an error of its own
                self._asks_driver = False
                self._say(f"WARN E-GPU-LOAD the GPU's load and power are not told ({type(e).__name__}: {e}); its memory is")
        return found
