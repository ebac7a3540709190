"""One process of a training run: its rank, its device, and the three things ranks do together. The loop runs the same on one or many."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
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

    def all_reduce_sums(self, parts: Sequence[Tensor]) -> Sequence[Tensor]:
        """Return the sums of flat tensors, of equal lengths on all ranks, exchanged in one buffer: they hold until the next call, which uses it again."""

    def any(self, flag: bool) -> bool:
        """Return whether `flag` is true on any rank."""

    def barrier(self) -> None:
        """Wait until all ranks are here."""


def default_device() -> torch.device:
    """Return the current CUDA device where there is one, else the CPU."""
    return torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else torch.device("cpu")


def exchange(world: int, *, given_gpu: bool) -> str:
    """Return by what the ranks of a group exchange gradients: "nccl" on GPUs, "gloo" on CPUs. Nothing else is tried where the right one is missing.

    Args:
        world: ranks; one alone exchanges nothing.
        given_gpu: the cluster has given this rank a GPU. One that is only a number to the cluster, on a machine without the device, is no GPU.

    Raises:
        ResourceError: E-NO-NCCL, this torch cannot exchange between GPUs; E-NO-CUDA, it cannot use the GPU that is there.
    """
    if torch.cuda.is_available():
        if world > 1 and not distributed.is_nccl_available():
            raise ResourceError(
                "E-NO-NCCL", "this build of torch has no NCCL, by which ranks on GPUs exchange gradients", where=socket.gethostname(),
                expected="torch with CUDA and NCCL", found=f"torch {torch.__version__}", fix="install torch's CUDA build for Linux, or train on one GPU",
            )  # fmt: skip
        return "nccl"
    if given_gpu and gpu_devices():
        raise ResourceError(
            "E-NO-CUDA", "this build of torch cannot use the machine's GPU", where=socket.gethostname(), expected="torch with CUDA, and a driver for it",
            found=f"torch {torch.__version__}, {', '.join(gpu_devices())}",
            fix="install torch's CUDA build, or take the GPUs out of what the cluster offers to train on CPUs",
        )  # fmt: skip
    return "gloo"


def gpu_devices() -> list[str]:
    """Return the device files of this machine's NVIDIA GPUs.

    Example: ``["/dev/nvidia0", "/dev/nvidia1"]``.
    """
    return sorted(map(str, Path("/dev").glob("nvidia[0-9]*")))


class LocalWorker:
    """The only rank."""

    rank = 0
    world = 1

    def __init__(self, device: torch.device | None = None) -> None:
        self.device = default_device() if device is None else device

    def all_reduce_sum(self, tensor: Tensor) -> None:
        """Leave `tensor` as it is."""

    def all_reduce_sums(self, parts: Sequence[Tensor]) -> Sequence[Tensor]:
        """Return `parts`."""
        return parts

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
        self._buffer = torch.empty(0, device=self.device)

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

    def all_reduce_sums(self, parts: Sequence[Tensor]) -> Sequence[Tensor]:
        """Return the sums of flat tensors over ranks; see `Worker.all_reduce_sums`. Memory taken anew at each step would cost more than the copy."""
        sizes = [part.numel() for part in parts]
        if self._buffer.numel() != sum(sizes):
            self._buffer = torch.empty(sum(sizes), device=self.device)
        torch.cat(list(parts), out=self._buffer)
        self.all_reduce_sum(self._buffer)
        pieces: tuple[Tensor, ...] = torch.split(self._buffer, sizes)
        return pieces

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
