"""One process of a training run: its rank, its device, and the three things ranks do together. The loop runs the same on one or many."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import torch
from torch import Tensor, distributed

from ernie_core.errors import ResourceError
from ernie_core.training.pulse import Pulse


class Worker(Protocol):
    """A rank of `world`. Collective calls must be made by all ranks in the same order."""

    @property
    def rank(self) -> int: ...

    @property
    def world(self) -> int: ...

    @property
    def device(self) -> torch.device: ...

    def all_reduce_sum(self, tensor: Tensor) -> None:
        """Replace `tensor`, contiguous and of equal shape on all ranks, by its sum; every rank gets the same bits."""

    def any(self, flag: bool) -> bool:
        """Return whether `flag` is true on any rank."""

    def barrier(self) -> None:
        """Wait until all ranks are here."""


def default_device() -> torch.device:
    """Return the current CUDA device where there is one, else the CPU."""
    return torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else torch.device("cpu")


class LocalWorker:
    """The only rank."""

    rank = 0
    world = 1

    def __init__(self, device: torch.device | None = None) -> None:
        self.device = default_device() if device is None else device

    def all_reduce_sum(self, tensor: Tensor) -> None:
        """Leave `tensor` as it is."""

    def any(self, flag: bool) -> bool:
        """Return `flag`."""
        return flag

    def barrier(self) -> None:
        """Return at once."""


class GroupWorker:
    """A rank of the initialised torch.distributed group: gloo on CPUs, nccl on GPUs.

    How long a rank waits for the others is the group's own time-out, set by whoever made it.
    """

    def __init__(self) -> None:
        self.rank = distributed.get_rank()
        self.world = distributed.get_world_size()
        self.device = default_device() if distributed.get_backend() == "nccl" else torch.device("cpu")
        self._pulse = Pulse()

    @contextmanager
    def _together(self) -> Iterator[None]:
        """Run a collective call.

        Raises:
            ResourceError: E-RANK-SILENT, naming the ranks that did not arrive in time, or are gone.
        """
        self._pulse.calls += 1
        begun = time.monotonic()
        try:
            yield
        except RuntimeError as e:
            waited, silent = time.monotonic() - begun, self._pulse.silent_ranks()
            who = f"rank {', '.join(map(str, silent))}" if silent else "another rank"
            raise ResourceError(
                "E-RANK-SILENT", f"{who} did not arrive where the others wait", where=f"rank {self.rank} of {self.world}",
                expected="all ranks", found=f"nothing after {waited:.0f} s: {str(e).strip().splitlines()[0]}",
                fix="see whether that process still runs and what it waits for; the run goes on from the newest checkpoint",
            ) from e  # fmt: skip

    def all_reduce_sum(self, tensor: Tensor) -> None:
        """Sum `tensor` over ranks in place."""
        with self._together():
            distributed.all_reduce(tensor)

    def any(self, flag: bool) -> bool:
        """Return whether any rank's flag is true; waits for the device."""
        count = torch.tensor(int(flag), device=self.device)
        with self._together():
            distributed.all_reduce(count)
            return bool(count.item())

    def barrier(self) -> None:
        """Wait for all ranks."""
        with self._together():
            distributed.barrier()
