"""Real ranks of pretraining, or of a trial, without Ray: a tiny prepared corpus, `train_rank` in fresh processes over gloo, and ways to end them."""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from prepare_helper import write_corpus
from torch import distributed

from ernie_core.errors import ErnieError
from ernie_core.manifest import file_sha256
from ernie_core.training.worker import GroupWorker, LocalWorker
from pipelines import rank_state
from pipelines.host import LocalHost, TrainFunction
from pipelines.pretrain import Machine, rank_arguments
from pipelines.pretrain_rank import RESULT_NAME, train_rank
from pipelines.rank_state import CHECKPOINTS, LOG_NAME
from pipelines.recipe import load_recipe
from pipelines.recipe_base import results_settings
from pipelines.steps import StepContext
from pipelines.workflow import run_recipe

RECIPE = """
name: ranks
workers: 0
corpora:
  two: {reader: jsonl, path: "corpus/two.jsonl", options: {title: title}}
prepare: {vocab_size: 300, max_seq_len: 48, long_rows: null, valid_share: 0.2, group_rows: 16, phrases: null, tasks: {knowledge_masking: {}, next_sentence: {}, sentence_reordering: {}}}
pretrain:
  model: {num_hidden_layers: 1, hidden_size: 16, num_attention_heads: 2, dropout: 0.1}
  stages: [{enter: [knowledge_masking, next_sentence], mask_unit: basic}, {enter: [sentence_reordering], mask_unit: word}]
  iterations: {knowledge_masking: 36, next_sentence: 12, sentence_reordering: 12}
  batch_tokens: 600
  precision: fp32
  threads: 1
  validation_steps: 20
"""
LONG = ("pretrain.iterations={knowledge_masking: 120, next_sentence: 40, sentence_reordering: 40}",)
"""Makes 200 steps of the recipe's 60."""
MACHINE = Machine(workers=0, threads=1, device_tokens=150, save_steps=5, skip_steps=1, keep_checkpoints=2, timeout_s=30.0)
PRELOADED = ["torch._dynamo", "sklearn.metrics", "pipelines.pretrain_rank", "ranks_helper"]
_STEP = re.compile(rb"\bstep: (\d+)")


def prepare(folder: Path, monkeypatch: Any) -> Path:
    """Prepare the recipe's shards in `folder`, once for all runs, and return the recipe's file."""
    write_corpus(folder / "corpus")
    (folder / "ranks.yaml").write_text(RECIPE, encoding="utf-8")
    monkeypatch.chdir(folder)
    run_recipe(load_recipe(folder / "ranks.yaml"), lambda _line: None, until="prepare")
    return folder / "ranks.yaml"


def arguments(recipe: Path, folder: Path, changes: tuple[str, ...] = (), **machine: Any) -> dict[str, Any]:
    """Return what `train_rank` is given for a run in `folder`, with recipe settings and fields of the machine changed."""
    folder.mkdir(parents=True, exist_ok=True)
    loaded = load_recipe(recipe, [f"root={recipe.parent}/runs", *changes])
    assert loaded.pretrain is not None
    settings = {"seed": loaded.seed, **results_settings(loaded.pretrain)}
    context = StepContext("pretrain", folder, {}, {}, settings, print)
    return rank_arguments(
        context, prepared=recipe.parent / "runs" / loaded.name / "prepare", seed=loaded.seed, machine=Machine(**{**asdict(MACHINE), **machine})
    )


class Group:
    """Ranks at work. `before` runs in each rank's process first, with (rank); `failpoint` arms one of them."""

    def __init__(
        self,
        given: Mapping[str, Any],
        world: int,
        *,
        failpoint: str = "",
        victim: int = 0,
        before: Callable[[int], None] | None = None,
        wait_s: float = 20.0,
        train: TrainFunction = train_rank,
    ) -> None:
        self.folder = Path(given["folder"])
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(PRELOADED)
        meeting = self.folder / f"meeting-{os.urandom(4).hex()}"
        self.ranks = [
            context.Process(target=_rank, args=(dict(given), rank, world, meeting, failpoint if rank == victim else "", before, wait_s, train))
            for rank in range(world)
        ]
        for process in self.ranks:
            process.start()

    def end(self, timeout_s: float = 240) -> list[int]:
        """Wait for all ranks; once one was killed, kill the others as Ray Train does. Return their exit codes."""
        deadline = time.monotonic() + timeout_s
        while any(process.exitcode is None for process in self.ranks):
            assert time.monotonic() < deadline, "the ranks hang"
            if any((process.exitcode or 0) < 0 for process in self.ranks):
                self.kill_all()
            time.sleep(0.01)
        return [process.exitcode or 0 for process in self.ranks]

    def kill_all(self) -> None:
        """Kill the ranks that still run."""
        for process in self.ranks:
            if process.exitcode is None:
                process.kill()
        for process in self.ranks:
            process.join()

    def wait_for(self, step: int) -> None:
        """Wait until the log has `step`, or the ranks have ended."""
        while last_step(self.folder) < step and any(process.exitcode is None for process in self.ranks):
            time.sleep(0.002)


def _rank(
    given: dict[str, Any],
    rank: int,
    world: int,
    meeting: Path,
    failpoint: str,
    before: Callable[[int], None] | None,
    wait_s: float,
    train: TrainFunction,
) -> None:
    os.environ |= {"ERNIE_FAILPOINT": failpoint, "GLOO_SOCKET_IFNAME": "lo"}
    torch.set_num_threads(1)
    rank_state.matmul_peak = lambda *_: 1.0  # a second at every start, and no part of the training
    if before is not None:
        before(rank)
    if world > 1:
        distributed.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=world, timeout=timedelta(seconds=wait_s))
    try:
        train(given, GroupWorker() if world > 1 else LocalWorker(torch.device("cpu")), LocalHost())
    except ErnieError as e:
        (Path(given["folder"]) / f"error-{rank}").write_text(str(e), encoding="utf-8")
        os._exit(e.exit_code)


def last_step(folder: Path) -> int:
    """Return the last step in the log, 0 before the first."""
    log = folder / LOG_NAME
    found = _STEP.findall(log.read_bytes()[-4000:]) if log.exists() else []
    return int(found[-1]) if found else 0


def done(folder: Path) -> bool:
    """Return whether the run has ended well."""
    return (folder / RESULT_NAME).exists()


def bits(folder: Path) -> dict[str, Any]:
    """Return all that must be equal to the bit: each journalled value once (losses, gradient norms), sample chain, counts, weights, last moments."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    flat = [((p["step"], name), value) for p in lines for name, value in p["metrics"].items() if not name.startswith(("perf/", "system/"))]
    assert len(flat) == len(dict(flat)), "a value stands in the journal twice"
    assert "E-NONDETERMINISM" not in (folder / LOG_NAME).read_text(encoding="utf-8"), "a step done again gave other bits"
    newest = max((folder / CHECKPOINTS).iterdir(), key=lambda path: path.name)
    return {
        "points": dict(flat),
        "result": json.loads((folder / RESULT_NAME).read_bytes()),
        "weights": file_sha256(folder / "model" / "model.safetensors"),
        "moments": file_sha256(newest / "optimizer.safetensors"),
    }
