"""Ranks agree on the checkpoint they go on from, and Baidu's arguments are read strictly."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from ernie_core.errors import ResourceError
from ernie_core.training.worker import LocalWorker
from pipelines.rank_state import agree_on_checkpoint
from pipelines.seed_arguments import build_parser

CHECKPOINT = Path("checkpoints/step-00000011-0a1b2c3d")


class SecondOfTwo(LocalWorker):
    """Rank 1 of 2, whose other rank found `others`."""

    rank, world = 1, 2

    def __init__(self, others: int) -> None:
        super().__init__()
        self.others = others

    def all_reduce_sum(self, tensor: torch.Tensor) -> None:
        tensor[0] += self.others


@pytest.mark.parametrize(("latest", "others"), [(CHECKPOINT, 11), (None, -1)])
def test_ranks_that_found_the_same_checkpoint_go_on(latest: Path | None, others: int) -> None:
    assert agree_on_checkpoint(latest, SecondOfTwo(others), Path("run")) == others


@pytest.mark.parametrize(("latest", "others"), [(CHECKPOINT, 22), (CHECKPOINT, -1), (None, 11)])
def test_ranks_that_found_different_checkpoints_stop(latest: Path | None, others: int) -> None:
    with pytest.raises(ResourceError, match="E-CKPT-RANKS") as e:
        agree_on_checkpoint(latest, SecondOfTwo(others), Path("run"))
    assert f"[{others}, {11 if latest else -1}]" in e.value.found


@pytest.mark.parametrize(("text", "value"), [("true", True), ("T", True), ("1", True), ("False", False), ("0", False)])
def test_the_seeds_booleans_are_read(text: str, value: bool) -> None:
    assert arguments("--use_fp16", text).use_fp16 is value


@pytest.mark.parametrize("more", [("--use_fp16", "yes"), ("--num_train_steps", "0"), ("--save_steps", "-1"), ("--max_seq_len", "x")])
def test_words_that_mean_nothing_are_refused(more: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as e:
        arguments(*more)
    assert e.value.code == 2
    assert more[0] in capsys.readouterr().err


def arguments(*more: str) -> SimpleNamespace | Any:
    paths = [word for name in ("train_filelist", "valid_filelist", "vocab_path", "ernie_config_path") for word in (f"--{name}", "x")]
    return build_parser().parse_args([*paths, *more])
