"""What a trial's log says: the seed's evaluation lines (ernie.md 6.6), and a line for each trial that is done."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ernie_core.benchmarks.base import Benchmark, Encoded, Outputs
from ernie_core.benchmarks.classification import probabilities

_SEED_NAMES = {"accuracy": "acc", "mcc": "matthews_corrcoef", "chunk_f1": "f1", "em_f1": "avg"}


def evaluation_line(
    benchmark: Benchmark, encoded: Encoded, outputs: Outputs, *, subset: str, labelled: bool, seconds: float, file: str, epoch: int, step: int
) -> str:
    """Return the seed's line of an evaluation; the loss is the mean over labelled rows, of classifications only; without labels nothing is scored.

    Example: ``[dev evaluation] ave loss: 0.513000, acc: 0.801000, data_num: 1200, elapsed time: 3.210000 s, file: dev.jsonl, epoch: 2, steps: 450``.
    """
    loss = _loss(benchmark, encoded, outputs)
    parts = [] if loss is None else [f"ave loss: {loss:.6f}"]
    counts = encoded.outcomes(outputs) if labelled else np.zeros((0, 1))
    for metric in benchmark.metrics if len(counts) else ():
        value = metric.of(counts)
        parts.append(f"{_SEED_NAMES.get(metric.name, metric.name)}: {'undefined' if value is None else format(value, '.6f')}")
    parts += [
        f"data_num: {len(counts) or len(encoded.samples)}",
        f"elapsed time: {seconds:.6f} s",
        f"file: {file}",
        f"epoch: {epoch}",
        f"steps: {step}",
    ]
    return f"[{subset} evaluation] " + ", ".join(parts)


def _loss(benchmark: Benchmark, encoded: Encoded, outputs: Outputs) -> float | None:
    labels = np.array([s.label for s in encoded.samples])
    scored = np.flatnonzero(labels >= 0)
    if benchmark.kind != "classification" or not len(scored) or outputs.shape[1] != len(benchmark.labels):
        return None
    return float(-np.log(np.maximum(probabilities(outputs[scored])[np.arange(len(scored)), labels[scored]], 1e-30)).mean())


def done_line(result: Mapping[str, Any], metric: str, done: int, total: int) -> str:
    """Return what is said of a trial that is done.

    Example: ``fine-tune: 3 of 22 trials, xnli-pretrained-0.0005-1: accuracy dev 38.4 %, test 40.0 %, best at step 126, 152 rows/s``.
    """
    scores = [f"{subset} {result[subset]:.1%}".replace("%", " %") for subset in ("dev", "test") if result[subset] is not None]
    ended = " (met numbers that are not finite, and stopped early)" if result["diverged"] else " (stopped early)" if result["stopped_early"] else ""
    return (
        f"fine-tune: {done} of {total} trials, {Path(result['folder']).name}: {metric} {', '.join(scores) or 'undefined'}, "
        f"best at step {result['best_step']}, {result['rows_per_s']:.0f} rows/s{ended}"
    )
