"""A GLUE submission from a run: of each benchmark the test predictions of the seed that was best on dev."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ernie_core.benchmarks.base import all_benchmarks
from ernie_core.benchmarks.glue_submission import TABLES, Prediction, submission
from ernie_core.errors import InputError
from ernie_core.manifest import MANIFEST_NAME, atomic_write, read_manifest, verified_path
from pipelines.finetune import RESULTS_NAME
from pipelines.results import best_trial
from pipelines.steps import Say
from pipelines.trial import predictions_name

ARM = "pretrained"


def write_submission(run: Path, out: Path, say: Say, *, partial: bool) -> None:
    """Write the leaderboard's zip.

    Args:
        run: a run's folder.
        out: the zip.
        say: receives a line a table.
        partial: whether tasks may be missing.

    Raises:
        InputError: E-GLUE-RUN, the run has no fine-tuned GLUE benchmark; see `glue_submission.submission`.
    """
    step = run / "finetune"
    if not (step / MANIFEST_NAME).exists():
        raise InputError("E-GLUE-RUN", "this run is not fine-tuned", where=str(run), expected="a finished finetune step", fix="ernie finetune RECIPE")
    entry = next(e for e in read_manifest(step, "finetune").files if e.path == RESULTS_NAME)
    results = json.loads(verified_path(step, entry).read_bytes())["benchmarks"]
    predictions = {}
    for name in TABLES:
        if name in results and ARM in results[name]["arms"]:
            benchmark = all_benchmarks()[name]
            host = benchmark.trained_by or name
            folder = step / "trials" / best_trial(host, ARM, results[host]["arms"][ARM])
            path = folder / predictions_name(benchmark, "test")
            held = [e for e in read_manifest(folder, "trial").files if e.path == path.name]
            if held:
                verified_path(folder, held[0])
                predictions[name] = [_prediction(json.loads(line)) for line in path.read_bytes().splitlines()]
                say(f"{TABLES[name].file}: {len(predictions[name])} rows of {folder.name}")
    if not predictions:
        fix = "fine-tune them first"
        raise InputError("E-GLUE-RUN", "this run predicted no GLUE test set", where=str(step), expected=f"one of {', '.join(TABLES)}", fix=fix)
    atomic_write(out, submission(predictions, say, partial=partial))
    say(f"written: {out}")


def _prediction(row: dict[str, Any]) -> Prediction:
    return Prediction(row.pop("id"), row)
