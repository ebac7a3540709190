"""What a run shows, in words and figures that claim no more than it does: the run's files, and the sentences that compare them.

Shares are shown in per cent; a difference of two shares in points.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ernie_core.manifest import MANIFEST_NAME, Manifest, read_manifest, verified_path
from ernie_core.object_store import local
from pipelines.journal import JOURNAL_NAME, Point, read_points, series

STEPS = ("import", "prepare", "pretrain", "finetune")
SMALL_SET = 500
METRIC_WORDS = {
    "chunk_f1": "chunk F1",
    "f1": "F1",
    "em": "exact match",
    "mrr": "MRR",
    "map": "MAP",
    "em_f1": "mean of EM and F1",
    "accuracy_f1": "mean of accuracy and F1",
    "pearson_spearman": "mean of Pearson and Spearman",
    "mcc": "Matthews",
    "pearson": "Pearson",
    "spearman": "Spearman",
}


@dataclass(frozen=True)
class RunData:
    """All that a report is made of. `audit` is {task: bars}, `benchmarks` {name: results}, both empty where the step is missing."""

    folder: Path
    manifests: dict[str, Manifest]
    audit: dict[str, Any]
    points: list[Point]
    benchmarks: dict[str, Any]

    def fact(self, step: str, name: str) -> Any:
        """Return a fact of a step's manifest, None where step or fact is missing."""
        return self.manifests[step].facts.get(name) if step in self.manifests else None

    def setting(self, step: str, name: str) -> Any:
        """Return a setting of a step's manifest, None where step or setting is missing."""
        return self.manifests[step].settings.get(name) if step in self.manifests else None


def load(run_folder: Path, steps: Sequence[str] = STEPS) -> RunData:
    """Read what those of `steps` that are finished left.

    Raises:
        IntegrityError: a manifest, or a file it names, is damaged.
    """
    manifests = {name: read_manifest(run_folder / name, name) for name in steps if (run_folder / name / MANIFEST_NAME).exists()}
    audit = _json(run_folder / "prepare", manifests.get("prepare"), "audit.json") or {}
    results = _json(run_folder / "finetune", manifests.get("finetune"), "results.json") or {"benchmarks": {}}
    points, _ = read_points(local(run_folder / "pretrain" / JOURNAL_NAME)) if "pretrain" in manifests else ([], 0)
    return RunData(run_folder, manifests, audit, points, results["benchmarks"])


def _json(folder: Path, manifest: Manifest | None, name: str) -> Any:
    entries = [e for e in manifest.files if e.path == name] if manifest else []
    return json.loads(verified_path(folder, entries[0], "E-REPORT-INPUT").read_bytes()) if entries else None


def metric_words(metric: str) -> str:
    """Return a metric's name for readers: ``chunk_f1`` -> ``chunk F1``."""
    return METRIC_WORDS.get(metric, metric.replace("_", " "))


def percent(value: float | None) -> str:
    """Return a share as text: ``0.7651`` -> ``76.5 %``; ``n/a`` where it is undefined."""
    return "n/a" if value is None or not math.isfinite(value) else f"{100 * value:.1f} %"


def points_text(value: float | None) -> str:
    """Return a difference of shares as text: ``0.0123`` -> ``+1.2``; a true minus sign, ``n/a`` where it is undefined."""
    return "n/a" if value is None or not math.isfinite(value) else f"{100 * value:+.1f}".replace("-", "−")


def clear(difference: dict[str, Any] | None) -> bool | None:
    """Return whether a difference's interval excludes 0; None where there is no interval."""
    if not difference or difference.get("low") is None or difference.get("high") is None:
        return None
    return bool(difference["low"] > 0 or difference["high"] < 0)


def interval_words(difference: dict[str, Any] | None) -> str:
    """Return a difference with its interval.

    Example: ``{"median": 0.012, "low": -0.004, "high": 0.028}`` -> ``+1.2 points, 95 % interval −0.4 to +2.8: includes 0``.
    """
    excludes = clear(difference)
    if difference is None or excludes is None:
        return "not measured: it needs both arms and a defined score"
    ends = f"{points_text(difference['low'])} to {points_text(difference['high'])}"
    return f"{points_text(difference['median'])} points, 95 % interval {ends}: {'excludes 0' if excludes else 'includes 0'}"


def binomial_words(result: Mapping[str, Any]) -> str:
    """Return how far chance alone moves an accuracy on so few rows, where they are fewer than `SMALL_SET`; "" elsewhere.

    Example: ``On 277 rows chance alone moves an accuracy of 53.0 % by 5.9 points either way (95 %).``
    """
    rows, entry = result["rows"].get(result["scored"], 0), next(iter(result["arms"].values()))
    if result["metric"] != "accuracy" or not 0 < rows < SMALL_SET or entry["median"] is None:
        return ""
    half = 1.96 * math.sqrt(entry["median"] * (1 - entry["median"]) / rows)
    return f"On {rows} rows chance alone moves an accuracy of {100 * entry['median']:.1f} % by {100 * half:.1f} points either way (95 %)."


def benchmark_sentence(name: str, result: dict[str, Any]) -> str:
    """Return what a benchmark shows about pretraining, and no more; of a single arm its score, beside what always saying the commonest class gives."""
    difference, excludes = result.get("difference"), clear(result.get("difference"))
    seeds = min((len(arm["trials"]) for arm in result["arms"].values()), default=0)
    of_seeds = f"{seeds} seed{'s' * (seeds != 1)}"
    if not result["scored"]:
        return f"{name}: predicted only, no row of it is labelled."
    if len(result["arms"]) == 1:
        ((arm, entry),) = result["arms"].items()
        score = "undefined" if entry["median"] is None else percent(entry["median"])
        share = result["majority"].get(result["scored"])
        beside = "" if share is None else f"; always the commonest class: {percent(share)}"
        return f"{name}: {metric_words(result['metric'])} {score} on {result['scored']} ({arm}, {of_seeds}){beside}."
    what = f"{name} ({metric_words(result['metric'])}, {of_seeds}), pretrained − untrained: {interval_words(difference)}"
    if difference is None or excludes is None:
        return f"{what}."
    if not excludes:
        return f"{what}. This run does not show that pretraining changes the result."
    return f"{what}. {'Pretraining helps here' if difference['low'] > 0 else 'The pretrained model is worse here'}."


CONTEXT_NATS = 0.25
"""So far below the unigram loss a model knows more than which tokens are frequent in a document."""


def unigram_bar(data: RunData) -> float | None:
    """Return the loss in nats of predicting tokens by their frequency; None without a masking task."""
    bars = [b["best_bar"] for b in data.audit.values() if b["metric"] == "loss" and b.get("best_bar") is not None]
    return bars[0] if bars else None


def lm_task(data: RunData) -> str | None:
    """Return the task whose validation shows the masked-LM loss: the masking task, else the first that has one."""
    names = sorted({m.split("/")[1] for p in data.points for m in p.metrics if m.startswith("valid/") and m.endswith("/lm_loss")})
    masking = [n for n in names if data.audit.get(n, {}).get("metric") == "loss"]
    return next(iter(masking + names), None)


def lm_sentence(data: RunData) -> str | None:
    """Return where the masked-LM loss ended, beside the unigram loss."""
    task, bar = lm_task(data), unigram_bar(data)
    values = [v for v in series(data.points, f"valid/{task}/lm_loss")[1] if math.isfinite(v)] if task else []
    if not values:
        return None
    start = f"Masked-LM loss on held-out text ended at {values[-1]:.2f} nats"
    if bar is None:
        return f"{start}."
    if values[-1] < bar:
        verdict = "the model uses context" if bar - values[-1] >= CONTEXT_NATS else "the model hardly uses context yet"
        return f"{start}, {bar - values[-1]:.2f} below the unigram loss of {bar:.2f}: {verdict}."
    return f"{start}, not below the unigram loss of {bar:.2f}: the model does not use context yet."


@dataclass(frozen=True)
class TaskFinding:
    """A task's last validation beside its best shortcut. `margin` is their difference, `noise` the half width of its rough 95 % interval
    (None where the metric has no simple one)."""

    task: str
    metric: str
    value: float | None
    bar: float | None
    bar_name: str
    noise: float | None

    @property
    def margin(self) -> float | None:
        return None if self.value is None or self.bar is None else self.value - self.bar

    @property
    def words(self) -> str:
        """Return on which side of the bar the task ended, with how sure that is."""
        if self.value is None:
            return "was not validated"
        if self.bar is None or self.margin is None:
            return f"{percent(self.value)}; too few rows to measure shortcuts"
        unsure = self.noise is not None and abs(self.margin) <= self.noise
        side = "not clearly different from" if unsure else "above" if self.margin > 0 else "below"
        sure = "" if self.noise is None else f" ± {100 * self.noise:.1f}"
        return f"{percent(self.value)}, {side} the best shortcut ({self.bar_name}, {percent(self.bar)}): {points_text(self.margin)}{sure} points"


def task_findings(data: RunData) -> list[TaskFinding]:
    """Return a finding for every task with a head of its own, in the order of the audit."""
    return [_task_finding(data, name, bars) for name, bars in sorted(data.audit.items()) if bars["metric"] != "loss"]


def headline(task_metric: str) -> str:
    """Return the journal's name of a task metric: ``accuracy`` -> ``acc``."""
    return "acc" if task_metric == "accuracy" else task_metric


def _task_finding(data: RunData, name: str, bars: dict[str, Any]) -> TaskFinding:
    values = [v for v in series(data.points, f"valid/{name}/{headline(bars['metric'])}")[1] if math.isfinite(v)]
    value, bar = values[-1] if values else None, bars.get("best_bar")
    noise = None
    if bars["metric"] == "accuracy" and value is not None and bar is not None:
        facts = (data.fact("prepare", "tasks") or {}).get(name, {}).get("valid", {})
        rows = min(facts.get("rows", math.inf), data.setting("pretrain", "validation_rows") or math.inf)
        # two independent shares, normal approximation
        variance = value * (1 - value) / rows + bar * (1 - bar) / (bars.get("valid_rows") or math.inf)
        noise = 1.96 * math.sqrt(variance) if math.isfinite(rows) else None
    return TaskFinding(name, bars["metric"], value, bar, (bars.get("best_bar_name") or "").replace("_", " "), noise)
