"""One fine-tuning trial as a unit of work: reads its inputs, trains, and commits its folder with a manifest last."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ernie_core.benchmarks.base import CHOOSING, SUBSETS, Benchmark, Encoded, Example, Outputs
from ernie_core.benchmarks.custom import benchmark_of
from ernie_core.benchmarks.metrics.base import Counts
from ernie_core.benchmarks.rows import fewer, overlap, read_rows
from ernie_core.errors import IntegrityError
from ernie_core.failpoints import failpoint
from ernie_core.manifest import MANIFEST_NAME, Manifest, atomic_write, fetch_others, read_manifest, verified_path, whole, write_manifest
from ernie_core.object_store import refresh, remove
from ernie_core.training.worker import Worker
from pipelines.trial_log import evaluation_line

RESULT_NAME, OUTCOMES_NAME, LOG_NAME = "result.json", "outcomes.npy", "trial.log"
METHOD = 2
"""Version of how a trial trains beyond its settings (constants of `training.finetune`, optimiser): raised with any change, so that old trials are made again."""


@dataclass(frozen=True)
class Trial:
    """All that one trial depends on; plain values, as it travels to another process.

    Args:
        benchmark, arm, learning_rate, seed: which trial; arm is "pretrained" or "untrained".
        settings: the benchmark's settings that act inside a trial.
        data: folder of train.jsonl, dev.jsonl and maybe test.jsonl.
        model: checkpoint folder: "pretrained" starts from its weights, "untrained" from its shape alone.
        vocab: vocabulary file.
        inputs: hashes of what it reads, by name.
        guests: benchmarks that it predicts too, whose rows lie beside `data`.
        folder: where it commits.
    """

    benchmark: str
    arm: str
    learning_rate: float
    seed: int
    settings: dict[str, Any]
    data: str
    model: str
    vocab: str
    inputs: dict[str, str]
    guests: tuple[str, ...]
    folder: str

    @property
    def identity(self) -> dict[str, Any]:
        """The settings in the trial's manifest."""
        return {
            "benchmark": self.benchmark,
            "arm": self.arm,
            "learning_rate": self.learning_rate,
            "seed": self.seed,
            **self.settings,
            "method": METHOD,
        }


def run_trial(trial: Trial, worker: Worker | None = None) -> dict[str, Any]:
    """Train one trial on one thread, commit it, and return its result; of several ranks, the first commits, and the others return {}.

    One thread whatever the machine: another count rounds differently, so results would depend on how many trials run at once.

    Returns:
        {"folder", "scored" (the subset of the headline figures: "test" where it is labelled, else "dev"), "dev", "test" (headline figures, None
        where undefined or unlabelled), "scores": {subset: {metric: value}}, "without_overlap": {subset: {metric: value}} (rows whose texts stand in
        train left out), "best_step", "dev_curve": [[step, score], …], "diverged", "stopped_early", "rows_per_s", "truncated": {subset: rows},
        "guests": {benchmark: the same of each guest}}.
    """
    from ernie_core.tokenization import load_tokenizer
    from ernie_core.training import finetune

    whole(Path(trial.model))
    fetch_others(
        Path(trial.data).parent, {f"{_host_path(trial, name)}.jsonl": sha for name, sha in trial.inputs.items() if name.split("/")[-1] in SUBSETS}
    )
    settings = dict(trial.settings)
    benchmark = benchmark_of(trial.benchmark, settings.pop("custom"))
    tokenizer = load_tokenizer(Path(trial.vocab))
    max_seq_len = settings.pop("max_seq_len")
    examples = _subsets(Path(trial.data), benchmark)
    few = fewer(examples["dev"], settings.pop("eval_rows"), trial.seed, "choosing")
    read = examples if len(few) == len(examples["dev"]) else {**examples, CHOOSING: few}
    encoded = {subset: benchmark.encode(rows, benchmark, tokenizer, max_seq_len) for subset, rows in read.items()}
    guests = {name: benchmark_of(name, None) for name in trial.guests}
    visiting = {name: _subsets(Path(trial.data).with_name(name), guest) for name, guest in guests.items()}
    theirs = {
        name: {s: guests[name].encode(rows, guests[name], tokenizer, max_seq_len) for s, rows in held.items()} for name, held in visiting.items()
    }
    found = finetune.run_trial(
        model_folder=Path(trial.model), pretrained=trial.arm == "pretrained", benchmark=benchmark, pad_id=tokenizer.vocab.pad_id,
        data=encoded | {f"{name}/{s}": e for name, held in theirs.items() for s, e in held.items()},
        seed=trial.seed, threads=1, settings=finetune.Settings(learning_rate=trial.learning_rate, **settings),
        on_evaluation=_logged(trial, {"": benchmark, **guests}, {"": encoded, **theirs}, len(encoded["train"].samples), _labelled(read, visiting))
        if worker is None or worker.rank == 0 else lambda *_: None, worker=worker,
    )  # fmt: skip
    if worker is not None and worker.rank:
        return {}
    mine = _measured(benchmark, examples["train"], examples, encoded, found.outputs, "")
    others = {name: _measured(guest, examples["train"], visiting[name], theirs[name], found.outputs, f"{name}/") for name, guest in guests.items()}
    result = {
        **mine.result, "best_step": found.best_step, "dev_curve": [list(p) for p in found.dev_curve], "diverged": found.diverged,
        "stopped_early": found.stopped_early, "guests": {name: m.result for name, m in others.items()},
    }  # fmt: skip
    files = {**mine.files(""), **{name: data for guest, m in others.items() for name, data in m.files(f"{guest}_").items()}}
    return _commit(trial, result, files, found.rows_per_s)


def _host_path(trial: Trial, name: str) -> str:
    """Return where a subset lies in the folder of all benchmarks: ``"dev"`` -> ``"xnli/dev"``, a guest's ``"ax/test"`` as it is."""
    return name if "/" in name else f"{Path(trial.data).name}/{name}"


def _logged(
    trial: Trial, benchmarks: Mapping[str, Benchmark], encoded: Mapping[str, Mapping[str, Encoded]], train_rows: int, labelled: Collection[str]
) -> Callable[[int, str, Outputs, float], None]:
    """Return what writes the seed's evaluation lines into the trial's folder.

    Args:
        benchmarks, encoded: of the trial's benchmark under "", and of its guests.
        train_rows: rows of the model, which may be more than examples.
        labelled: names of the outputs whose rows are labelled.
    """
    path = Path(trial.folder) / LOG_NAME
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("", encoding="utf-8")
    per_epoch = -(-train_rows // trial.settings["batch_size"])

    def log(step: int, name: str, outputs: Outputs, seconds: float) -> None:
        guest, _, subset = name.rpartition("/")
        line = evaluation_line(
            benchmarks[guest], encoded[guest][subset], outputs, subset="dev" if subset == CHOOSING else subset, labelled=name in labelled, seconds=seconds,
            file=f"{guest or trial.benchmark}/{subset}", epoch=max(1, -(-step // per_epoch)), step=step,
        )  # fmt: skip
        with path.open("a", encoding="utf-8") as f:
            f.write(line + "\n")

    return log


def _labelled(examples: Mapping[str, Sequence[Example]], guests: Mapping[str, Mapping[str, Sequence[Example]]]) -> set[str]:
    """Return the names, as in the model's outputs, of the subsets that hold labelled rows."""
    named = {**examples, **{f"{guest}/{subset}": rows for guest, held in guests.items() for subset, rows in held.items()}}
    return {name for name, rows in named.items() if any(e.labelled for e in rows)}


def _subsets(folder: Path, benchmark: Benchmark) -> dict[str, tuple[Example, ...]]:
    return {subset: read_rows(path, benchmark) for subset in SUBSETS if (path := folder / f"{subset}.jsonl").exists()}


@dataclass(frozen=True)
class _Measured:
    """One benchmark's part of a trial: figures, the counts of the scored subset, and the predictions of each subset."""

    result: dict[str, Any]
    outcomes: Counts
    predictions: dict[str, bytes]

    def files(self, prefix: str) -> dict[str, bytes]:
        """Return the files to commit, by name."""
        buffer = io.BytesIO()
        np.save(buffer, self.outcomes, allow_pickle=False)
        return {
            prefix + OUTCOMES_NAME: buffer.getvalue(),
            **{f"{prefix}predictions_{s}.jsonl": lines for s, lines in sorted(self.predictions.items())},
        }


def _measured(
    benchmark: Benchmark,
    train: Sequence[Example],
    examples: Mapping[str, Sequence[Example]],
    encoded: Mapping[str, Encoded],
    outputs: Mapping[str, Outputs],
    prefix: str,
) -> _Measured:
    """Score what a model gave for the subsets of one benchmark; `prefix` stands before their names in `outputs`, `train` is what it learnt from."""
    predicted = [s for s in examples if s != "train"]
    outcomes = {s: encoded[s].outcomes(outputs[prefix + s]) for s in predicted if any(e.labelled for e in examples[s])}
    scored = next((s for s in ("test", "dev") if s in outcomes), "")
    scores = {subset: scores_of(benchmark, counts) for subset, counts in outcomes.items()}
    headline = benchmark.metric.name
    result = {
        "scored": scored, "dev": scores.get("dev", {}).get(headline), "test": scores.get("test", {}).get(headline), "scores": scores,
        "without_overlap": _without_overlap(benchmark, train, examples, outcomes), "truncated": {subset: encoded[subset].truncated for subset in examples},
    }  # fmt: skip
    counts = outcomes.get(scored, np.zeros((0, len(benchmark.metric.columns))))
    return _Measured(result, counts, {s: _lines(examples[s], encoded[s].answers(outputs[prefix + s])) for s in predicted})


def scores_of(benchmark: Benchmark, counts: Counts) -> dict[str, float | None]:
    """Return every metric of a benchmark over the counts of some rows.

    Example: ``{"accuracy": 0.75, "f1": 0.8}``.
    """
    return {metric.name: metric.of(counts) for metric in benchmark.metrics}


def _without_overlap(
    benchmark: Benchmark, train: Sequence[Example], examples: Mapping[str, Sequence[Example]], outcomes: Mapping[str, Counts]
) -> dict[str, Any]:
    """Return the scores of each subset without the rows whose texts stand in train; {} where none does, or a score is not of single rows."""
    found = {}
    for subset, counts in outcomes.items():
        again = np.array(overlap(train, examples[subset]))
        if again.any() and not again.all() and len(counts) == len(again):
            found[subset] = scores_of(benchmark, counts[~again])
    return found


def _lines(examples: Sequence[Example], answers: Sequence[Mapping[str, Any]]) -> bytes:
    """Return predictions as JSON lines, one an example.

    Example: ``{"id": "0", "label": "1", "probabilities": [0.1, 0.9]}``.
    """
    rows = ({"id": e.id, **answer} for e, answer in zip(examples, answers, strict=True))
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def _commit(trial: Trial, result: dict[str, Any], files: Mapping[str, bytes], rows_per_s: float) -> dict[str, Any]:
    folder = Path(trial.folder)
    refresh(folder / MANIFEST_NAME)
    remove(folder / MANIFEST_NAME)  # of a trial with other inputs
    entries = tuple(atomic_write(folder / name, data) for name, data in files.items())
    entries += (atomic_write(folder / RESULT_NAME, json.dumps(result, indent=1, allow_nan=False).encode() + b"\n"),)
    failpoint("trial.before_commit")
    write_manifest(folder, Manifest("trial", trial.identity, trial.inputs, entries, {"rows_per_s": round(rows_per_s, 1)}))
    return _read(folder)


def finished(trial: Trial) -> dict[str, Any] | None:
    """Return the result of a trial that is committed with the same settings and inputs, else None."""
    folder = Path(trial.folder)
    if not refresh(folder / MANIFEST_NAME):
        return None
    try:
        manifest = read_manifest(folder, "trial")
        if manifest.settings != trial.identity or manifest.parents != trial.inputs:
            return None
        for entry in manifest.files:
            verified_path(folder, entry, "E-TRIAL-HASH")
    except IntegrityError:
        return None  # run again: it is cheaper than a person's time, and gives equal bytes
    return _read(folder)


def _read(folder: Path) -> dict[str, Any]:
    manifest = whole(folder)
    result: dict[str, Any] = json.loads((folder / RESULT_NAME).read_bytes())
    return {"folder": str(folder), "rows_per_s": manifest.facts["rows_per_s"], **result}


def predictions_name(benchmark: Benchmark, subset: str) -> str:
    """Return the name of the file, in a trial's folder, of what the trial predicted for a subset of its benchmark or of a guest.

    Example: ``"predictions_test.jsonl"``; of MNLI's guest AX ``"ax_predictions_test.jsonl"``.
    """
    return f"{benchmark.name + '_' if benchmark.trained_by else ''}predictions_{subset}.jsonl"


def outcomes_of(result: Mapping[str, Any], guest: str = "") -> Counts:
    """Return int64 or float64[n, K], the counts of each scored item of a finished trial, or of a guest in it."""
    name = f"{guest}_{OUTCOMES_NAME}" if guest else OUTCOMES_NAME
    return np.asarray(np.load(Path(result["folder"]) / name, allow_pickle=False))
