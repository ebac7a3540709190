"""One fine-tuning trial as a unit of work: reads its inputs, trains, and commits its folder with a manifest last."""

from __future__ import annotations

import dataclasses
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ernie_core.benchmarks.base import SUBSETS, all_benchmarks, read_subset
from ernie_core.benchmarks.metrics.base import Counts
from ernie_core.errors import IntegrityError
from ernie_core.failpoints import failpoint
from ernie_core.manifest import MANIFEST_NAME, Manifest, atomic_write, read_manifest, verified_path, write_manifest
from ernie_core.registry import pick

RESULT_NAME, OUTCOMES_NAME = "result.json", "outcomes.npy"
METHOD = 1
"""Version of how a trial trains beyond its settings (constants of `training.finetune`, optimiser): raised with any change, so that old trials are made again."""


@dataclass(frozen=True)
class Trial:
    """All that one trial depends on; plain values, as it travels to another process.

    Args:
        benchmark, arm, learning_rate, seed: which trial; arm is "pretrained" or "untrained".
        settings: the benchmark's settings that act inside a trial.
        data: folder of train.tsv, dev.tsv and test.tsv.
        model: checkpoint folder: "pretrained" starts from its weights, "untrained" from its shape alone.
        vocab: vocabulary file.
        inputs: hashes of what it reads, by name.
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


def run_trial(trial: Trial) -> dict[str, Any]:
    """Train one trial on one thread, commit it, and return its result.

    One thread whatever the machine: another count rounds differently, so results would depend on how many trials run at once.

    Returns:
        {"folder", "dev", "test", "best_step", "dev_curve": [[step, score], …], "diverged", "truncated": {subset: rows}}.
    """
    from ernie_core.tokenization import load_tokenizer
    from ernie_core.training import finetune

    benchmark = pick(all_benchmarks(), trial.benchmark, "benchmark")
    tokenizer = load_tokenizer(Path(trial.vocab))
    max_seq_len = trial.settings["max_seq_len"]
    examples = {subset: read_subset(benchmark, Path(trial.data) / f"{subset}.tsv").examples for subset in SUBSETS}
    encoded = {subset: benchmark.encode(rows, benchmark, tokenizer, max_seq_len) for subset, rows in examples.items()}
    found = finetune.run_trial(
        model_folder=Path(trial.model),
        pretrained=trial.arm == "pretrained",
        benchmark=benchmark,
        data=encoded,
        pad_id=tokenizer.vocab.pad_id,
        seed=trial.seed,
        threads=1,
        settings=finetune.Settings(learning_rate=trial.learning_rate, **{k: v for k, v in trial.settings.items() if k != "max_seq_len"}),
    )
    result = dataclasses.asdict(found) | {"truncated": {subset: e.truncated for subset, e in encoded.items()}}
    return _commit(trial, result, result.pop("test_outcomes"))


def _commit(trial: Trial, result: dict[str, Any], outcomes: Counts) -> dict[str, Any]:
    folder = Path(trial.folder)
    (folder / MANIFEST_NAME).unlink(missing_ok=True)  # of a trial with other inputs
    buffer = io.BytesIO()
    np.save(buffer, outcomes, allow_pickle=False)
    entries = (
        atomic_write(folder / OUTCOMES_NAME, buffer.getvalue()),
        atomic_write(folder / RESULT_NAME, json.dumps(result, indent=1, allow_nan=False).encode() + b"\n"),
    )
    failpoint("trial.before_commit")
    write_manifest(folder, Manifest("trial", trial.identity, trial.inputs, entries))
    return _read(folder)


def finished(trial: Trial) -> dict[str, Any] | None:
    """Return the result of a trial that is committed with the same settings and inputs, else None."""
    folder = Path(trial.folder)
    if not (folder / MANIFEST_NAME).exists():
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
    result: dict[str, Any] = json.loads((folder / RESULT_NAME).read_bytes())
    return {"folder": str(folder), **result}


def outcomes_of(result: dict[str, Any]) -> Counts:
    """Return int64[n, K], the counts of each test row of a finished trial."""
    return np.asarray(np.load(Path(result["folder"]) / OUTCOMES_NAME, allow_pickle=False), dtype=np.int64)
