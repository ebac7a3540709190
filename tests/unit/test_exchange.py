"""By what ranks exchange gradients: NCCL on GPUs, gloo on CPUs, and an error where the right one is missing. No GPU is needed: what torch finds is patched."""

from __future__ import annotations

import pytest
import torch
from torch import distributed

from ernie_core.errors import ResourceError
from ernie_core.training import worker
from pipelines import ray_train

GPU_FILES = ["/dev/nvidia0"]


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A machine without a GPU, whose torch has NCCL."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(distributed, "is_nccl_available", lambda: True)
    monkeypatch.setattr(worker, "gpu_devices", list)
    return monkeypatch


def has(machine: pytest.MonkeyPatch, *, cuda: bool, nccl: bool, files: list[str]) -> None:
    """Let torch find these on the machine."""
    machine.setattr(torch.cuda, "is_available", lambda: cuda)
    machine.setattr(distributed, "is_nccl_available", lambda: nccl)
    machine.setattr(worker, "gpu_devices", lambda: files)


@pytest.mark.parametrize(
    ("cuda", "nccl", "files", "world", "given", "expected"),
    [
        (False, True, [], 2, False, "gloo"),  # NCCL is not taken on CPUs, though it is there
        (False, False, [], 2, False, "gloo"),
        (True, True, GPU_FILES, 2, True, "nccl"),
        (True, True, GPU_FILES, 2, False, "nccl"),
        (True, False, GPU_FILES, 1, True, "nccl"),  # one rank exchanges nothing
        (False, False, GPU_FILES, 2, False, "gloo"),  # a CPU node's rank on a machine with a GPU that is not offered
        (False, False, [], 2, True, "gloo"),  # a GPU that only the cluster counts
    ],
)
def test_one_choice(machine: pytest.MonkeyPatch, cuda: bool, nccl: bool, files: list[str], world: int, given: bool, expected: str) -> None:
    has(machine, cuda=cuda, nccl=nccl, files=files)
    assert worker.exchange(world, given_gpu=given) == expected


@pytest.mark.parametrize(
    ("cuda", "world", "given", "expected"),
    [(True, 2, True, "E-NO-NCCL"), (True, 2, False, "E-NO-NCCL"), (False, 2, True, "E-NO-CUDA"), (False, 1, True, "E-NO-CUDA")],
)
def test_nothing_else_is_taken_in_its_place(machine: pytest.MonkeyPatch, cuda: bool, world: int, given: bool, expected: str) -> None:
    has(machine, cuda=cuda, nccl=False, files=GPU_FILES)
    with pytest.raises(ResourceError, match=expected) as caught:
        worker.exchange(world, given_gpu=given)
    assert caught.value.exit_code == 6
    assert torch.__version__ in caught.value.found
    assert caught.value.fix


@pytest.mark.parametrize(("joined", "cuda"), [("gloo", True), ("nccl", False)])
def test_ranks_of_two_kinds_are_refused(machine: pytest.MonkeyPatch, joined: str, cuda: bool) -> None:
    machine.setattr(torch.cuda, "is_available", lambda: cuda)
    machine.setattr(distributed, "get_backend", lambda: joined)
    with pytest.raises(ResourceError, match="E-RANK-DEVICES"):
        ray_train._worker(2, given_gpu=False)


def test_a_rank_without_nccl_says_so_itself(machine: pytest.MonkeyPatch) -> None:
    machine.setattr(torch.cuda, "is_available", lambda: True)
    machine.setattr(distributed, "is_nccl_available", lambda: False)
    with pytest.raises(ResourceError, match="E-NO-NCCL this build of torch has no NCCL"):
        ray_train._worker(2, given_gpu=True)
