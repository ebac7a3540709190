"""A toy pretraining run for the tests of the loop and of checkpoints, and processes to run it in that a test can kill."""

from __future__ import annotations

import contextlib
import hashlib
import json
import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import distributed

from ernie_core.data.batches import Batch
from ernie_core.manifest import FileEntry, Manifest, file_sha256, write_manifest
from ernie_core.model.config import ErnieConfig
from ernie_core.model.ernie import ErnieForPretraining
from ernie_core.model.heads import Head
from ernie_core.normalise import NORMALISER_NAME, normalise
from ernie_core.seeding import generator
from ernie_core.training import checkpoint
from ernie_core.training.evaluate import evaluate
from ernie_core.training.health import Health
from ernie_core.training.loop import Outcome, StepResult, train
from ernie_core.training.optim import adamw
from ernie_core.training.saver import Saver
from ernie_core.training.worker import GroupWorker, LocalWorker, Worker
from ernie_core.vocab import Vocab

HEADS = {"next_sentence": Head("sentence", 2, 7), "token_document": Head("token", 2, 2)}
TASK_IDS = (0, 7, 2)
WEIGHTS = {"lm": 1.0, "next_sentence": 1.0, "token_document": 0.5}
# The first optimiser step imports torch._dynamo: 2 s in each process otherwise.
PRELOADED = ["torch._dynamo", "sklearn.metrics", "ernie_core.model.ernie", *(f"ernie_core.training.{m}" for m in ("checkpoint", "evaluate", "loop"))]
FINGERPRINT = {"seed": 1, "model": {"hidden_size": 16}}


@contextlib.contextmanager
def computing_threads(count: int) -> Iterator[None]:
    """Torch computes on so many CPU threads within the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    yield
    torch.set_num_threads(before)


def make_config(dropout: float = 0.0, **changes: object) -> ErnieConfig:
    return ErnieConfig(**({
        "vocab_size": 40, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "max_position_embeddings": 24,
        "sent_type_vocab_size": 2, "hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout,
    } | changes))  # fmt: skip


def write_model(folder: Path, model: ErnieForPretraining, tokens: Sequence[str]) -> None:
    """Write a model's folder as a pretraining ends with: weights, configuration, vocabulary, normaliser, manifest."""
    folder.mkdir(parents=True)
    (folder / "vocab.txt").write_bytes(Vocab(tuple(tokens)).to_bytes())
    (folder / NORMALISER_NAME).write_bytes(normalise.to_bytes())
    tables = [FileEntry(name, (folder / name).stat().st_size, file_sha256(folder / name)) for name in ("vocab.txt", NORMALISER_NAME)]
    files = (*checkpoint.save_model(folder, model), *tables)
    write_manifest(folder, Manifest("model", {}, {}, tuple(sorted(files, key=lambda f: f.path)), {}))


def make_batch(*parts: int | str, rows: int = 6, task_id: int = 7) -> Batch:
    """A random batch keyed by `parts`: targets in about 15 % of places; labels for tasks 7 and 2."""
    draw = generator("toy", *parts)
    lengths = draw.integers(3, 17, rows)
    real = np.arange(16) < lengths[:, None]
    ids = np.where(real, draw.integers(5, 40, (rows, 16)), 0)
    targets = np.flatnonzero(real & (draw.random((rows, 16)) < 0.15))
    scored = real & (draw.random((rows, 16)) < 0.5)
    scored.reshape(-1)[targets] = False
    return Batch(
        token_ids=ids, sentence_type_ids=np.where(real, draw.integers(0, 2, (rows, 16)), 0),
        position_ids=np.where(real, np.arange(16), 0), lengths=lengths, task_id=task_id, target_positions=targets,
        target_ids=draw.integers(5, 40, len(targets)),
        labels=draw.integers(0, 2, rows) if task_id == 7 else np.full(rows, -1),
        token_labels={"token_document": np.where(scored, draw.integers(0, 2, (rows, 16)), -1)} if task_id == 2 else {},
        sample_ids=np.arange(rows, dtype=np.uint64),
    )  # fmt: skip


def take(batch: Batch, rows: slice) -> Batch:
    """The same rows as a batch of their own."""
    first, last = rows.start, rows.stop
    at = (batch.target_positions >= first * 16) & (batch.target_positions < last * 16)
    return Batch(
        batch.token_ids[rows], batch.sentence_type_ids[rows], batch.position_ids[rows], batch.lengths[rows], batch.task_id,
        batch.target_positions[at] - first * 16, batch.target_ids[at], batch.labels[rows],
        {name: values[rows] for name, values in batch.token_labels.items()}, batch.sample_ids[rows],
    )  # fmt: skip


@dataclass(frozen=True)
class ToyStep:
    batches: list[Batch]
    task: str = "toy"

    @property
    def global_sample_ids(self) -> np.ndarray:
        return np.concatenate([batch.sample_ids for batch in self.batches]) if self.batches else np.empty(0, np.uint64)


class ToyFeed:
    """A global batch of `rows` rows a step, cut over ranks and into two micro-batches."""

    def __init__(self, worker: Worker, step: int = 0, rows: int = 6) -> None:
        self.worker, self.step, self.rows = worker, step, rows

    def next(self) -> ToyStep:
        whole = make_batch(self.step, rows=self.rows, task_id=TASK_IDS[self.step % 3])
        self.step += 1
        bounds = np.linspace(0, self.rows, self.worker.world + 1).astype(int).tolist()
        first, last = bounds[self.worker.rank : self.worker.rank + 2]
        middle = (first + last) // 2
        parts = [slice(a, b) for a, b in ((first, middle), (middle, last)) if b > a]
        return ToyStep([take(whole, part) for part in parts])


def run(folder: Path, steps: int, worker: Worker, dropout: float = 0.1) -> Outcome:
    """Train to `steps` from the newest checkpoint in `folder`; every step's bits go to log.jsonl."""
    model = ErnieForPretraining(make_config(dropout), HEADS, seed=1)
    optimizer = adamw(model, weight_decay=0.01, beta2=0.98)
    found = checkpoint.latest(folder, warn=print)
    state, health = {"step": 0}, Health("fp32")
    if found is not None:
        checkpoint.check_fingerprint(found, FINGERPRINT)
        state = checkpoint.load(found, model, optimizer)
        health.load_state(state["health"])
    saver = Saver(folder, keep=2, timeout_s=60)

    def on_step(result: StepResult[ToyStep]) -> None:
        if worker.rank == 0:
            with (folder / "log.jsonl").open("a") as f:
                losses = {name: loss.hex() for name, loss in result.losses.items()}
                f.write(json.dumps({"step": result.step, "losses": losses, "norm": result.grad_norm.hex()}) + "\n")

    def save(step: int, _stops: bool) -> None:
        if worker.rank == 0:
            saver.save(step, model, optimizer, {"step": step, "health": health.state()}, FINGERPRINT, {})

    outcome = train(
        model, ToyFeed(worker, state["step"]), optimizer, worker=worker, start_step=state["step"], total_steps=steps,
        lr_at=lambda step: 1e-2 / (1 + step), loss_weights=WEIGHTS, clip_norm=1.0, precision="fp32", dropout_seed=3, on_step=on_step,
        save_every=4, save=save, validate_every=5,
        validate=lambda _step: evaluate(model, [make_batch("valid")], worker=worker, precision="fp32") and None,
        should_stop=lambda: False, health=health,
    )  # fmt: skip
    saver.wait()
    return outcome


def weights_sha256(folder: Path) -> str:
    """Hash of weights and moments of the newest checkpoint."""
    found = checkpoint.latest(folder, warn=print)
    assert found is not None
    return hashlib.sha256((found / "model.safetensors").read_bytes() + (found / "optimizer.safetensors").read_bytes()).hexdigest()


def read_log(folder: Path) -> dict[int, dict[str, object]]:
    """Step -> its record; a step that was done twice must have given the same bits."""
    found: dict[int, dict[str, object]] = {}
    for line in (folder / "log.jsonl").read_text().splitlines():
        record = json.loads(line)
        assert found.setdefault(record["step"], record) == record, "a replayed step gave other bits"
    return found


def processes(target: Callable[..., None], folder: Path, world: int, failpoint: str = "") -> list[int]:
    """Run `target(folder, worker)` in `world` fresh processes and return their exit codes; `failpoint` arms rank 0.

    A fork server imports what is slow once, in a process that has run nothing yet.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    meeting = folder / f"meeting-{os.urandom(4).hex()}"
    started = [context.Process(target=_process, args=(target, folder, rank, world, meeting, failpoint if rank == 0 else "")) for rank in range(world)]
    for process in started:
        process.start()
    for process in started:
        process.join(60)
        assert process.exitcode is not None, "a process hangs"
    return [process.exitcode or 0 for process in started]


def _process(target: Callable[..., None], folder: Path, rank: int, world: int, meeting: Path, failpoint: str) -> None:
    os.environ |= {"ERNIE_FAILPOINT": failpoint, "GLOO_SOCKET_IFNAME": "lo"}
    torch.set_num_threads(1)
    if world == 1:
        target(folder, LocalWorker(torch.device("cpu")))
        return
    distributed.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=world)
    target(folder, GroupWorker())
    distributed.destroy_process_group()


def train_12_steps(folder: Path, worker: Worker) -> None:
    """`run` as a target of `processes`."""
    run(folder, 12, worker)
