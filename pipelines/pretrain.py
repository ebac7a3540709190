"""Pretraining as a step: settings to plain arguments, ranks on Ray Train, the log and a progress bar on the terminal, and the model with its manifest.

A stop (Ctrl-C, SIGTERM, a drained job) writes the file `stop`; every rank sees it after the step it is in, a checkpoint is committed, and
the command ends with code 75. The same command goes on from there.
"""

from __future__ import annotations

import contextlib
import json
import re
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from ernie_core.manifest import FileEntry, Manifest, file_sha256, read_manifest, whole, write_manifest
from ernie_core.model.config import ErnieConfig
from ernie_core.model.named import fitted
from ernie_core.object_store import fetch, put, remove, take_longer
from ernie_core.tasks.base import all_tasks
from ernie_core.training.retention import complete
from ernie_core.training.schedule import long_stage, stage_plan
from ernie_core.vocab import Vocab
from pipelines.groups import Growth
from pipelines.initial import initial_config
from pipelines.journal import JOURNAL_NAME
from pipelines.prepared import prepared_tokenizer
from pipelines.pretrain_rank import MODEL_FOLDER, RESULT_NAME, train_rank
from pipelines.rank_state import CHECKPOINTS, LOG_NAME, REGROUP_NAME, STOP_NAME
from pipelines.ray_train import run_workers
from pipelines.resources import Room
from pipelines.steps import Say, StepContext

MAX_FAILURES = 3
"""Times that the ranks may be started again without a new checkpoint in between."""
RANKS_WAIT_S = 15.0
"""What a rank waits for the others beyond `Machine.timeout_s`: one whose data do not come says so first."""
_STEP = re.compile(r"\bstep: (\d+)")


@dataclass(frozen=True)
class Machine:
    """What does not change results: how the work is laid over the machine, and how often it is logged and saved.

    Args:
        workers: ranks, the least where `most_workers` is more; 0 = in this process.
        most_workers: ranks where there is room for all; 0 = `workers`.
        grow_after_s: seconds that a group of ranks works at least before it is stopped to take in more.
        threads: CPU threads a rank.
        device_tokens: padded tokens a device takes at once; accumulation follows from it.
        save_steps, skip_steps: training steps between checkpoints, and between log lines.
        keep_checkpoints: newest checkpoints to keep.
        keep_best: validation metric whose best checkpoint is kept too; None = none.
        timeout_s: after so many seconds a batch that does not come is an error; ranks wait `RANKS_WAIT_S` more for each other.
        recompute: compute layers again in backward instead of keeping their values.
        memory_bytes: memory that a rank asks the cluster for; 0 = none.
        system_metrics: journal the load of rank 0's machine with each log line.
    """

    workers: int
    threads: int
    device_tokens: int
    save_steps: int
    skip_steps: int
    keep_checkpoints: int
    keep_best: str | None = None
    timeout_s: float = 90.0
    recompute: bool = False
    memory_bytes: int = 0
    most_workers: int = 0
    grow_after_s: float = 60.0
    system_metrics: bool = True


def pretrain(context: StepContext, *, prepared: Path, seed: int, machine: Machine, room: Callable[[], Room] | None = None) -> Manifest:
    """Pretrain on the shards in `prepared` and write `model/` (model.safetensors, ernie_config.json, vocab.txt, normaliser.json) and the manifest.

    Args:
        context: its settings are those of the recipe's `pretrain` section that change results.
        prepared: a finished prepare step (or an import of the reference's files).
        seed: the recipe's seed.
        machine: how to lay the work over the machine.
        room: waits until the cluster has room for the ranks, see `run_workers`.

    Raises:
        InputError: a task without rows; E-INIT-VOCAB, E-MODEL-MISSING, a model to start from that does not fit or is not there.
        RecipeError: E-INIT-SHAPE.
        PreemptedError: stopped by a signal, with a good checkpoint.
        DivergedError: training met non-finite numbers again and again.
    """
    arguments = rank_arguments(context, prepared=prepared, seed=seed, machine=machine)
    for name in (STOP_NAME, REGROUP_NAME):
        remove(context.folder / name)
    take_longer(context.folder / LOG_NAME)  # so that its old lines are not shown as new
    total = sum(context.settings["iterations"].values())

    def newest() -> str:
        """Return the name of the newest checkpoint."""
        return next((folder.name for folder in complete(context.folder / CHECKPOINTS)), "")

    with _stoppable(context.folder), _shown(context.folder / LOG_NAME, total, context.say):
        run_workers(
            train_rank, arguments, workers=machine.workers, threads=machine.threads, folder=context.folder, max_failures=MAX_FAILURES, progress=newest,
            timeout_s=machine.timeout_s + RANKS_WAIT_S, memory_bytes=machine.memory_bytes, stopped=(context.folder / STOP_NAME).exists, room=room,
            say=context.say, growth=_growth(context.folder / REGROUP_NAME, machine),
        )  # fmt: skip
    return _finish(context, arguments["vocab_sha256"])


def _growth(asked: Path, machine: Machine) -> Growth | None:
    """Return how the group of ranks grows, if it may; `asked` is the file by which ranks are asked to stop for it."""
    if machine.most_workers <= machine.workers:
        return None

    def ask() -> None:
        """Ask the ranks, also those on other machines whose run is in an object store."""
        asked.touch()
        put([asked])

    return Growth(machine.most_workers, machine.grow_after_s, ask, partial(remove, asked))


def rank_arguments(context: StepContext, *, prepared: Path, seed: int, machine: Machine) -> dict[str, Any]:
    """Return what `train_rank` is given, JSON values; see `pretrain`."""
    settings, shards = context.settings, read_manifest(prepared)
    vocab = prepared_tokenizer(prepared, shards).vocab
    has_long = bool(shards.settings.get("long_rows")) and settings["long_share"] > 0
    early, late = long_stage(settings["iterations"], settings["long_share"] if has_long else 0.0)
    sizes = stage_plan(settings["schedule"], [s["enter"] for s in settings["stages"]], early)
    stages = resolved_stages(settings, sizes, late)
    for line in stage_table(stages):
        context.say(line)
    options = shards.settings["tasks"]
    tasks = {name: all_tasks()[name] for name in settings["iterations"]}
    return {
        "folder": str(context.folder), "prepared": str(prepared), "seed": seed, "settings": settings, "machine": asdict(machine),
        "stages": stages, "longest_rows": _longest_rows(shards, late),
        "heads": {name: [task.level, task.classes(options.get(name, {})), task.task_id] for name, task in tasks.items() if task.level != "mask"},
        "config": asdict(_config(settings, shards, vocab)),
        "init": None if settings["init"] is None else str(Path(settings["init"]).resolve()),  # ranks stand in other folders
        "vocab_sha256": vocab.sha256, "shards_sha256": shards.sha256,
    }  # fmt: skip


def resolved_stages(settings: dict[str, Any], sizes: Sequence[dict[str, int]], late: dict[str, int]) -> list[dict[str, Any]]:
    """Return each stage in full: "iterations" by task, "mask_unit", "mask_probability", "learning_rate", "carry", "enter", "long" (reads long rows).

    `multi_task` has one stage, which all tasks enter; a stage on long rows comes last, where there is one. Both are like the recipe's last.
    """

    def whole(stage: dict[str, Any], plan: dict[str, int], enter: Sequence[str], *, is_long: bool = False) -> dict[str, Any]:
        """Return a stage with what it leaves to the recipe's `pretrain` filled in."""
        filled = {name: settings[name] if stage[name] is None else stage[name] for name in ("mask_probability", "learning_rate")}
        return {**stage, **filled, "iterations": plan, "enter": list(enter), "long": is_long}

    last = settings["stages"][-1]
    if settings["schedule"] == "multi_task":
        stages = [whole(last, sizes[0], list(sizes[0]))]
    else:
        stages = [whole(stage, plan, stage["enter"]) for plan, stage in zip(sizes, settings["stages"], strict=True)]
    return [*stages, *([whole(last, late, [], is_long=True)] if late else [])]


def stage_table(stages: Sequence[dict[str, Any]]) -> list[str]:
    """Return the exact iterations of each task in each stage, and what the stage does, as lines of text.

    Example: ``["pretrain: stage  steps  masking  rate  knowledge_masking  next_sentence", "pretrain: 1      9      word 15 %  1e-03  9  -"]``, in columns.
    """
    tasks = list(dict.fromkeys(name for stage in stages for name in stage["iterations"]))
    rows = [["stage", "steps", "masking", "rate", "carries", *tasks]]
    for number, stage in enumerate(stages, 1):
        counts = stage["iterations"]
        masking = f"{stage['mask_unit']} {stage['mask_probability']:.0%}{', long rows' if stage['long'] else ''}"
        head = [str(number), str(sum(counts.values())), masking, f"{stage['learning_rate']:g}", ", ".join(stage["carry"]) or "-"]
        rows.append([*head, *(str(counts.get(name, "-")) for name in tasks)])
    totals = [str(sum(stage["iterations"].get(name, 0) for stage in stages)) for name in tasks]
    rows.append(["all", str(sum(map(int, totals))), "", "", "", *totals])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["pretrain: " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _longest_rows(shards: Manifest, late: dict[str, int]) -> list[int]:
    """Return the tokens of the longest row of the stages before the long one, and of the long one."""
    short = shards.settings["max_seq_len"]
    return [short, shards.settings["long_rows"]["max_seq_len"] if late else short]


def _config(settings: dict[str, Any], shards: Manifest, vocab: Vocab) -> ErnieConfig:
    """Return the encoder's whole shape: the recipe's part, and what the shards decide (vocabulary, longest row, sentence types)."""
    model = settings["model"]
    if "vocab_size" in model:  # an ERNIE configuration file, complete
        return ErnieConfig(**model)
    longest = (shards.settings.get("long_rows") or shards.settings)["max_seq_len"]
    if model["named"] is None:
        numbers = {k: v for k, v in model.items() if k not in {"dropout", "named"}}
        shape = ErnieConfig(vocab_size=vocab.size, max_position_embeddings=longest, sent_type_vocab_size=4, **numbers)
    else:
        shape = fitted(model["named"], vocab.size, longest)
    shape = replace(shape, hidden_dropout_prob=model["dropout"], attention_probs_dropout_prob=model["dropout"])
    return shape if settings["init"] is None else initial_config(Path(settings["init"]), shape, vocab, longest)


@contextlib.contextmanager
def _stoppable(folder: Path) -> Iterator[None]:
    """Turn the first SIGINT or SIGTERM into the stop file; a second one falls through to the handler that was there."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    old = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def stop(number: int, _frame: FrameType | None) -> None:
        (folder / STOP_NAME).touch()
        threading.Thread(target=put, args=([folder / STOP_NAME],), name="stop", daemon=True).start()  # for ranks on other machines
        signal.signal(number, old[signal.Signals(number)])

    for number in old:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _shown(log: Path, total: int, say: Say) -> Iterator[None]:
    """Show what rank 0 appends to its log, and a bar with the time left, as long as the block runs."""
    ended = threading.Event()
    columns = (
        TextColumn("pretrain"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("steps"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), refresh_per_second=1) as bar:
        shown = bar.add_task("steps", total=total)
        start = log.stat().st_size if log.exists() else 0

        def follow() -> None:
            """Say each whole line as it comes, once a second, and the last ones after the block ended."""
            offset, last = start, False
            while not last:
                last = ended.wait(1.0)
                if not log.exists():
                    continue
                with log.open("rb") as f:
                    f.seek(offset)
                    new = f.read()
                whole = new[: new.rfind(b"\n") + 1]
                offset += len(whole)
                for line in whole.decode().splitlines():
                    say(line)
                    if found := _STEP.search(line):
                        bar.update(shown, completed=int(found[1]))

        thread = threading.Thread(target=follow, name="pretrain-log", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()


def _finish(context: StepContext, vocab_sha256: str) -> Manifest:
    """Write the manifest over the model folder that rank 0 left."""
    folder = context.folder
    for name in (RESULT_NAME, LOG_NAME, JOURNAL_NAME):
        fetch(folder / name)  # rank 0 may have been on another machine
    whole(folder / MODEL_FOLDER)
    files = [FileEntry(f"{MODEL_FOLDER}/{path.name}", path.stat().st_size, file_sha256(path)) for path in sorted((folder / MODEL_FOLDER).iterdir())]
    facts = json.loads((folder / RESULT_NAME).read_bytes())
    if context.run is not None:
        context.run.model(folder / MODEL_FOLDER)
        context.run.artifact(folder / LOG_NAME)
    manifest = Manifest(context.name, context.settings, context.parent_hashes, tuple(files), {**facts, "vocab_sha256": vocab_sha256})
    return write_manifest(folder, manifest, ())
