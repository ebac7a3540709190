"""What a recipe would cost, before anything runs: `ernie run RECIPE --dry-run`.

The rates were measured on 2 CPU cores (reference figures of this project); they are good to a factor of two and are printed with the result.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ernie_core.manifest import MANIFEST_NAME
from ernie_core.object_store import refresh
from ernie_core.vocab import Vocab
from pipelines.filelists import listed_files
from pipelines.recipe_finetune import BenchmarkSettings, Finetune
from pipelines.recipe_schema import Model, Pretrain, Recipe
from pipelines.workflow import run_folder, steps_of

BYTES_PER_TOKEN = 3.0  # Chinese text in UTF-8: one character is one token
KEPT_SHARE = 0.95  # of the input's tokens; the rest is markup, duplicates and contaminated documents
TOKENS_PER_ROW = 0.75  # of max_seq_len: 95 of 128 in Baidu's demo set
SHARD_BYTES_PER_TOKEN = {"parquet": 1.7, "text": 1.9}  # demo set: 1.62 and 1.79 MB for 953,318 tokens
ROWS_BYTES_PER_S = 250_000  # .gz of rows made elsewhere: read, checked, written in both encodings
PREPARE_BYTES_PER_S = 100_000  # a worker, cleaning, jieba (1.2 MB/s alone), four builders, both encodings
TRAIN_TOKENS_PER_S = {"bf16": 19_000, "fp16": 80, "fp32": 2_600}  # of a 4 x 256 encoder, 2 threads; bf16 on cores that have it
UNKNOWN_ROWS = 10_000  # of a benchmark whose size nothing says before its files are read
TRIAL_S_PER_ROW = {"bf16": 0.004, "fp16": 1.2, "fp32": 0.036}  # of the same encoder, one training row once
START_S = {"import": 5, "prepare": 15, "pretrain": 15, "finetune": 5, "report": 10}
PROCESS_BYTES = 600_000_000  # a Python process with torch or jieba's dictionary and Ray
LEAST_VOCAB = 64  # a built vocabulary may stay far below prepare.vocab_size
DRIVER_BYTES = 1_500_000_000  # the driver and a local Ray


@dataclass(frozen=True)
class StepEstimate:
    """Cost of one step; `done` if its folder holds a manifest already (whether it is up to date is found when it runs)."""

    name: str
    done: bool
    seconds: float
    memory_bytes: float
    note: str


@dataclass(frozen=True)
class Estimate:
    """Cost of a recipe: input and shard bytes, rows and tokens of the corpus, tokens seen in training, and each step."""

    input_bytes: int
    tokens: float
    rows: float
    shard_bytes: float
    trained_tokens: float
    steps: tuple[StepEstimate, ...]

    @property
    def seconds(self) -> float:
        return sum(s.seconds for s in self.steps if not s.done)

    @property
    def memory_bytes(self) -> float:
        return max(s.memory_bytes for s in self.steps)


def input_bytes(recipe: Recipe) -> tuple[int, float]:
    """Return (size of all input files, what the corpora's shares leave of it); a file or package that is read twice counts twice."""
    from corpus_prep.inputs import expanded_size
    from corpus_prep.packages import package_files
    from corpus_prep.stores import InputFile, input_files

    total, used = 0, 0.0
    for name, corpus in recipe.corpora.items():
        files = (
            [*map(InputFile.at, package_files(corpus.package))]
            if corpus.package is not None
            else input_files(name, str(corpus.path), corpus.max_files)
        )
        size = expanded_size(files)
        total, used = total + size, used + size * corpus.share
    listed = sum(path.stat().st_size for path in listed_files(recipe))
    return total + listed, used + listed


def parameters(model: Model, vocab_size: int) -> int:
    """Return the number of weights: 12 H^2 a layer, the embeddings, pooler and MLM transform."""
    return model.num_hidden_layers * 12 * model.hidden_size**2 + (vocab_size + 512) * model.hidden_size + 2 * model.hidden_size**2


def _work_per_token(model: Model, vocab_size: int, mask_probability: float) -> float:
    """Return multiply-adds a token, up to a factor: the encoder's matrices, and logits at the masked positions."""
    return model.num_hidden_layers * 12 * model.hidden_size**2 + mask_probability * vocab_size * model.hidden_size


def slowness(model: Model, vocab_size: int, mask_probability: float) -> float:
    """Return how many times slower a token is than in the 4 x 256 encoder, 15 % masked, that the rates were measured on."""
    return _work_per_token(model, vocab_size, mask_probability) / _work_per_token(Model(), 6000, 0.15)


def estimate(recipe: Recipe) -> Estimate:
    """Return what the recipe would cost.

    Raises:
        InputError: an input file or package is missing.
    """
    size, used = input_bytes(recipe)
    listed = used / SHARD_BYTES_PER_TOKEN["text"]
    tokens = listed if recipe.filelists else used * KEPT_SHARE / BYTES_PER_TOKEN * len(recipe.prepare.tasks)
    rows = tokens / (recipe.prepare.max_seq_len * TOKENS_PER_ROW)
    shards = tokens * sum(SHARD_BYTES_PER_TOKEN[e] for e in recipe.prepare.encodings)
    trained = sum(recipe.pretrain.iterations.values()) * recipe.pretrain.batch_tokens if recipe.pretrain else 0
    steps = tuple(_step(recipe, step.name, used) for step in steps_of(recipe))
    return Estimate(size, tokens, rows, shards, trained, steps)


def least_disk_bytes(recipe: Recipe) -> float:
    """Return what the steps that are not done will still write at least: half of the shards' estimate, and checkpoints.

    A checkpoint holds each weight and its two moments, 4 bytes each; one more than are kept stands there while it is written.
    """
    found = estimate(recipe)
    done = {step.name for step in found.steps if step.done}
    needed = {"prepare": found.shard_bytes / 2}
    if recipe.pretrain is not None:
        vocab_size = LEAST_VOCAB if recipe.prepare.vocab is None else Vocab.load(Path(recipe.prepare.vocab)).size
        needed["pretrain"] = 3 * 4 * parameters(recipe.pretrain.model, vocab_size) * (recipe.pretrain.keep_checkpoints + 1)
    return sum(max(0.0, size - _written(run_folder(recipe) / name)) for name, size in needed.items() if name not in done)


def _written(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _step(recipe: Recipe, name: str, used: float) -> StepEstimate:
    seconds, memory, note = 0.0, float(DRIVER_BYTES), ""
    workers = max(recipe.workers, 1)
    if name == "prepare" and recipe.filelists:
        seconds, note = used / ROWS_BYTES_PER_S, f"{ROWS_BYTES_PER_S / 1e3:.0f} kB/s of .gz, in this process"
    elif name == "prepare":
        seconds = used / PREPARE_BYTES_PER_S / workers
        memory += workers * (PROCESS_BYTES + 30 * recipe.prepare.split_bytes)
        note = f"{PREPARE_BYTES_PER_S / 1e3:.0f} kB/s a worker, {workers} workers"
    elif name == "pretrain" and recipe.pretrain is not None:
        seconds, memory, note = _pretrain(recipe.pretrain, recipe.prepare.vocab_size, memory)
    elif name == "finetune" and recipe.finetune is not None:
        trials = _num_trials(recipe.finetune)
        model, vocab_size = _fine_tuned(recipe)
        per_row = TRIAL_S_PER_ROW[_precision("auto")] * slowness(model, 0, 0)
        ranks = recipe.finetune.workers_per_trial if recipe.workers else 1
        workers = workers if ranks == 1 else ranks
        seconds = _trial_rows(recipe.finetune) * per_row / workers
        memory += workers * (PROCESS_BYTES + 16 * parameters(model, vocab_size))
        note = f"{trials} trials, {per_row * 1e3:.1f} ms a training row, {workers} {'at once' if ranks == 1 else 'workers each'}"
    done = refresh(run_folder(recipe) / name / MANIFEST_NAME)
    return StepEstimate(name, done, seconds + START_S[name], memory, note)


def _fine_tuned(recipe: Recipe) -> tuple[Model, int]:
    """Return the shape and vocabulary size of the model that is fine-tuned."""
    assert recipe.finetune is not None
    if recipe.finetune.model is None:
        assert recipe.pretrain is not None
        return recipe.pretrain.model, recipe.prepare.vocab_size
    from pipelines.initial import config_of

    config = config_of(Path(recipe.finetune.model))
    shape = {k: getattr(config, k) for k in ("num_hidden_layers", "hidden_size", "num_attention_heads", "hidden_act")}
    return Model(**shape), config.vocab_size


def _precision(precision: str) -> str:
    from ernie_core.training.precision import resolve

    return resolve(precision)


def _pretrain(settings: Pretrain, vocab_size: int, memory: float) -> tuple[float, float, str]:
    steps = sum(settings.iterations.values())
    rate = (
        TRAIN_TOKENS_PER_S[_precision(settings.precision)] / slowness(settings.model, vocab_size, settings.mask_probability) * settings.most_workers
    )
    activations = min(settings.device_tokens, settings.batch_tokens) * settings.model.hidden_size * settings.model.num_hidden_layers * 4 * 30
    memory += settings.most_workers * (PROCESS_BYTES + 16 * parameters(settings.model, vocab_size) + activations)
    return (
        steps * settings.batch_tokens / rate,
        memory,
        f"{steps} steps, {parameters(settings.model, vocab_size) / 1e6:.1f}M weights, {rate:.0f} tokens/s",
    )


def _num_trials(finetune: Finetune) -> int:
    hosts = (b for name, b in finetune.benchmarks.items() if not _host(name, b))
    return sum(len(finetune.arms) * (len(b.learning_rates) + len(finetune.seeds) - 1) for b in hosts)


def _host(name: str, settings: BenchmarkSettings) -> str:
    """Return the benchmark whose trials predict this one; "" where it has its own."""
    from ernie_core.benchmarks.custom import benchmark_of

    return benchmark_of(name, settings.custom.model_dump() if settings.custom else None).trained_by


def _trial_rows(finetune: Finetune) -> float:
    """Return the training rows of all trials; an evaluated row counts as a third of a trained one."""
    total = 0.0
    for name, b in finetune.benchmarks.items():
        host = _host(name, b)
        if host:  # evaluated once in each of its host's trials
            trials = len(finetune.arms) * (len(finetune.benchmarks[host].learning_rates) + len(finetune.seeds) - 1)
            total += trials * sum(n for subset, n in _rows(name, b).items() if subset != "train") / 3
            continue
        trials = len(finetune.arms) * (len(b.learning_rates) + len(finetune.seeds) - 1)
        rows = _rows(name, b)
        total += trials * (rows["train"] * b.epochs + (rows["dev"] * b.eval_times + rows["test"]) / 3)
    return total


def _rows(name: str, settings: BenchmarkSettings) -> dict[str, int]:
    """Return the rows of each subset: those asked for, else the published number, else a guess."""
    from corpus_prep.benchmark_files import PACKAGE_ROWS
    from ernie_core.benchmarks.custom import benchmark_of

    published = PACKAGE_ROWS if settings.package else benchmark_of(name, settings.custom.model_dump() if settings.custom else None).rows
    return {subset: getattr(settings, f"{subset}_rows") or published.get(subset, UNKNOWN_ROWS) for subset in ("train", "dev", "test")}


def describe(result: Estimate, folder: Path) -> str:
    """Return the estimate as the text of `--dry-run`."""
    lines = [f"dry run: nothing is started; the run would stand in {folder}"]
    for s in result.steps:
        state = "done before" if s.done else f"about {_duration(s.seconds)}"
        lines.append(f"  {s.name:<9} {state:<16} {s.memory_bytes / 2**30:4.1f} GiB  {s.note}".rstrip())
    if result.input_bytes:
        rows = f"about {result.tokens / 1e6:.1f}M tokens in {result.rows:,.0f} rows, all tasks together"
        lines += [f"input     {result.input_bytes / 1e6:.1f} MB -> {rows}", f"shards    about {result.shard_bytes / 1e6:.0f} MB"]
    if result.trained_tokens:
        lines.append(f"training  {result.trained_tokens / 1e6:.1f}M tokens, padding included")
    lines.append(f"memory    about {result.memory_bytes / 2**30:.1f} GiB at once")
    lines.append(f"time      about {_duration(result.seconds)} on 2 CPU cores (rates measured there; good to a factor of two)")
    return "\n".join(lines)


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
