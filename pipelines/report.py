"""The report of a run: one self-contained HTML page, and the table that the command line prints (issue: the report says what it shows and no more)."""

from __future__ import annotations

import os
import platform
import shlex
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from statistics import median
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from ernie_core.errors import printable
from ernie_core.manifest import Manifest, atomic_write, write_manifest
from pipelines import findings
from pipelines.findings import RunData, TaskFinding, headline, metric_words, percent
from pipelines.journal import series
from pipelines.outbox import Shipped, Wanted, read_state, ui_command
from pipelines.plots import BLUE, GREY, ORANGE, Interval, Level, Line, Unit, interval_chart, line_chart, rate_text
from pipelines.published import load_published, published_views
from pipelines.results import length_words
from pipelines.steps import flat

REPORT_NAME = "report.html"
ARM_COLORS = {"pretrained": BLUE, "untrained": ORANGE}
PACKAGES = ("torch", "ray", "mlflow", "numpy", "pyarrow", "jieba", "scikit-learn", "tokenizers")
WHAT_LIES_THERE = (
    ("prepare/card.md", "data card: counts, samples of every task, shortcut audit"),
    ("prepare/shards", "training rows, Parquet and text"),
    ("prepare/tables/vocab.txt", "vocabulary"),
    ("pretrain/model", "pretrained weights, configuration, vocabulary"),
    ("pretrain/train.log", "training log"),
    ("pretrain/metrics.jsonl", "every logged figure"),
    ("finetune/results.json", "every trial's figures"),
    ("finetune/mistakes.html", "what the models get wrong: confusion and the worst rows of each benchmark"),
    ("finetune/trials", "one folder for each trial"),
)


def render(
    run_folder: Path, out_folder: Path, *, steps: Sequence[str] = findings.STEPS, command: Sequence[str] = ("ernie", "run", "RECIPE.yaml")
) -> Manifest:
    """Write `report.html` for the finished steps of a run, and its manifest.

    Args:
        run_folder: holds the steps' folders.
        out_folder: receives the page.
        steps: those the report is about; one that is not there leaves its section out.
        command: the words of the command that makes the run.

    Raises:
        IntegrityError: a step's manifest or one of the files it names is damaged.
    """
    data = findings.load(run_folder, steps)
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "count": _count,
        "percent": percent,
        "metric": metric_words,
        "rate": rate_text,
        "safe_text": lambda text: printable(str(text), 400),
    }
    page = environment.get_template("report.html.j2").render(_view(data, command))
    entry = atomic_write(out_folder / REPORT_NAME, page.encode("utf-8", "backslashreplace"))
    parents = {name: manifest.sha256 for name, manifest in data.manifests.items()}
    return write_manifest(out_folder, Manifest("report", {}, parents, (entry,)))


def summary_table(run_folder: Path) -> str:
    """Return the benchmark table as plain text, test scores in per cent.

    Example line: ``reviews    accuracy  pretrained  76.5 %  75.9 %  77.0 %  5e-4           3``.
    """
    data = findings.load(run_folder)
    head = ("benchmark", "metric", "arm", "median", "lowest", "highest", "learning rate", "seeds")
    rows = [tuple(row.values()) for row in arm_rows(data)]
    widths = [max(len(str(row[i])) for row in [head, *rows]) for i in range(len(head))]
    lines = ["  ".join(str(cell).ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in [head, *rows]]
    compared = {name: b for name, b in data.benchmarks.items() if len(b["arms"]) > 1}
    differences = [f"{name}, pretrained − untrained: {findings.interval_words(b.get('difference'))}" for name, b in compared.items()]
    return "\n".join([*lines, *([""] if differences else []), *differences]) if rows else "no benchmark was run"


def arm_rows(data: RunData) -> list[dict[str, str]]:
    """Return a row for each benchmark, metric and arm; a score of the dev set says so, since its test set has no labels."""
    return [
        {
            "benchmark": name, "metric": metric_words(metric) + ("" if b["scored"] == "test" else f", {b['scored']}"), "arm": arm,
            "median": percent(figures["median"]), "low": percent(figures["min"]), "high": percent(figures["max"]),
            "rate": rate_text(entry["learning_rate"]), "seeds": str(len(entry["trials"])),
        }
        for name, b in data.benchmarks.items()
        if b["scored"]
        for metric in next(iter(b["arms"].values()))["scores"][b["scored"]]
        for arm, entry in b["arms"].items()
        for figures in [entry["scores"][b["scored"]][metric]]
    ]  # fmt: skip


def _view(data: RunData, command: Sequence[str]) -> dict[str, Any]:
    """Return what the template shows."""
    tasks = findings.task_findings(data)
    wanted = read_state(data.folder, Wanted)
    published = load_published()
    published_tables, stand_ins = published_views(data.benchmarks, published.tables, run=data.folder.name)
    return {
        "name": data.folder.name,
        "subtitle": _subtitle(data),
        "benchmark_sentences": [findings.benchmark_sentence(name, b) for name, b in data.benchmarks.items()],
        "lm_sentence": findings.lm_sentence(data),
        "task_sentences": [(f.task, metric_words(f.metric), f.words) for f in tasks] if data.points else [],
        "arm_rows": arm_rows(data),
        "benchmarks": [_benchmark_view(name, b) for name, b in data.benchmarks.items()],
        "published": published,
        "published_tables": published_tables,
        "stand_ins": stand_ins,
        "arms": sorted({arm for b in data.benchmarks.values() for arm in b["arms"]}),
        "difference_chart": _difference_chart(data),
        "lm_chart": _lm_chart(data),
        "task_charts": [(f, chart) for f in tasks if (chart := _task_chart(data, f))],
        "mechanics": _mechanics(data),
        "documents": data.fact("prepare", "documents"),
        "tasks": data.fact("prepare", "tasks") or {},
        "vocab": data.fact("prepare", "vocab") or {},
        "audit": {name: bars for name, bars in data.audit.items() if bars["bars"]},
        "settings": {name: flat(m.settings) for name, m in data.manifests.items() if m.settings},
        "environment": _environment(),
        "steps": [_step_view(data, name) for name in data.manifests],
        "paths": [(path, what) for path, what in WHAT_LIES_THERE if (data.folder / path).exists()],
        "run_folder": str(data.folder),
        "command": shlex.join(command),
        "ui_command": ui_command(wanted.uri) if wanted else None,
    }


def _subtitle(data: RunData) -> str:
    parts = []
    documents = data.fact("prepare", "documents")
    if documents:
        parts.append(f"{_count(documents['kept'])} documents")
    if data.fact("pretrain", "steps"):
        parts.append(f"{_count(data.fact('pretrain', 'steps'))} pretraining steps over {data.fact('pretrain', 'tokens') / 1e6:.1f} M tokens")
    if data.fact("pretrain", "parameters"):
        parts.append(f"a model of {data.fact('pretrain', 'parameters') / 1e6:.1f} M parameters")
    return ", ".join(parts)


def _benchmark_view(name: str, result: Mapping[str, Any]) -> dict[str, Any]:
    lines = []
    for arm, entry in result["arms"].items():
        color = ARM_COLORS.get(arm, GREY)
        curves = [t["dev_curve"] for t in entry["trials"] if t["dev_curve"]]
        lines += [Line([s for s, _ in c], [_number(v) for _, v in c], color, thin=True) for c in curves]
        if curves:
            steps = [s for s, _ in min(curves, key=len)]
            middle = [median([_number(c[i][1]) for c in curves]) for i in range(len(steps))]
            lines.append(Line(steps, middle, color, arm))
    words = metric_words(result["metric"])
    description = f"{words} on the dev set of {name} while fine-tuning, both arms"
    chart = line_chart(lines, x_label="fine-tuning step", unit="percent", description=description)
    return {
        "name": name, "metric": words, "rows": result["rows"], "overlap": result.get("overlap", {}), "chart": Markup(chart),  # noqa: S704  our own SVG, its texts escaped
        "grids": [(arm, entry["learning_rate"], entry["grid"]) for arm, entry in result["arms"].items()],
        "trials": [(arm, t) for arm, entry in result["arms"].items() for t in entry["trials"]],
        "draws": (result.get("difference") or {}).get("draws"), "majority": result["majority"].get(result["scored"]), "scored": result["scored"],
        "dropped": result["dropped"], "long": length_words(result), "binomial": findings.binomial_words(result),
        "clean": [(arm, subset, metric_words(result["metric"]), metrics[result["metric"]]["median"]) for arm, entry in result["arms"].items() for subset, metrics in entry["without_overlap"].items()],
    }  # fmt: skip


def _number(value: float | None) -> float:
    return float("nan") if value is None else float(value)


def _difference_chart(data: RunData) -> Markup | None:
    found = {name: b["difference"] for name, b in data.benchmarks.items() if findings.clear(b.get("difference")) is not None}
    if not found:
        return None
    intervals = [Interval(name, 100 * d["median"], 100 * d["low"], 100 * d["high"]) for name, d in found.items()]
    chart = interval_chart(
        intervals, x_label="pretrained − untrained, points on the test set", description="difference between the arms with its 95 % interval"
    )
    return Markup(chart)  # noqa: S704


def _pretraining_chart(data: RunData, lines: Sequence[Line], unit: Unit, description: str, level: Level | None = None) -> Markup:
    """Return a chart over the whole of pretraining, with its stages' borders."""
    steps, stages = series(data.points, "train/stage")
    borders = [step for i, step in enumerate(steps) if i and stages[i] != stages[i - 1]]
    end = max((p.step for p in data.points), default=0)
    levels = [] if level is None else [level]
    chart = line_chart(lines, x_label="pretraining step", unit=unit, description=description, levels=levels, borders=borders, x_end=end)
    return Markup(chart)  # noqa: S704  our own SVG, its texts escaped


def _lm_chart(data: RunData) -> Markup | None:
    task, bar = findings.lm_task(data), findings.unigram_bar(data)
    train = series(data.points, "train/lm_loss")
    if not train[0]:
        return None
    lines = [Line(*train, GREY, "training", thin=True)]
    if task:
        lines.append(Line(*series(data.points, f"valid/{task}/lm_loss"), BLUE, "held-out"))
    level = None if bar is None else Level(bar, f"unigram {bar:.2f}")
    return _pretraining_chart(data, lines, "plain", "masked-LM loss in training and on held-out text, beside the unigram loss", level)


def _task_chart(data: RunData, finding: TaskFinding) -> Markup | None:
    name = f"valid/{finding.task}/{headline(finding.metric)}"
    unmasked, masked = series(data.points, name), series(data.points, f"{name}_masked")
    if not unmasked[0]:
        return None
    lines = [Line(*unmasked, BLUE, "unmasked")] + ([Line(*masked, BLUE, "masked", thin=True, dashed=True)] if masked[0] else [])
    level = None if finding.bar is None else Level(finding.bar, f"shortcut {percent(finding.bar)}")
    description = f"{metric_words(finding.metric)} of {finding.task} on held-out rows, beside its best shortcut"
    return _pretraining_chart(data, lines, "percent", description, level)


def _mechanics(data: RunData) -> list[tuple[str, str, Markup]]:
    """Return (title, caption, chart) of the learning rate and the throughput."""
    rate, speed = series(data.points, "train/learning_rate"), series(data.points, "perf/tokens_per_s")
    charts = []
    if rate[0]:
        chart = _pretraining_chart(data, [Line(*rate, BLUE)], "rate", "learning rate")
        charts.append(("Learning rate", f"Peak {rate_text(max(rate[1]))}. It starts anew with each stage.", chart))
    if speed[0]:
        chart = _pretraining_chart(data, [Line(*speed, BLUE)], "count", "training throughput")
        charts.append(("Throughput, tokens/s", f"Median {_count(round(median(speed[1])))} real tokens a second; padding is not counted.", chart))
    return charts


def _step_view(data: RunData, name: str) -> dict[str, Any]:
    folder = data.folder / name
    wanted, shipped = read_state(folder, Wanted), read_state(folder, Shipped)
    took = (wanted.end_time_ms - wanted.start_time_ms) / 1000 if wanted and wanted.end_time_ms else None
    return {
        "name": name, "seconds": took, "attempts": wanted.attempts if wanted else None, "run_id": shipped.run_id if shipped else None,
        "sha256": data.manifests[name].sha256, "megabytes": sum(f.size_bytes for f in data.manifests[name].files) / 1e6,
    }  # fmt: skip


def _environment() -> list[tuple[str, str]]:
    """Return the software and machine that wrote the report."""
    versions = {d.metadata["Name"].lower(): d.version for d in metadata.distributions() if d.metadata["Name"]}
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    machine = [("Python", platform.python_version()), ("system", f"{platform.system()} {platform.machine()}"), ("CPU cores", str(cores))]
    return machine + [(name, versions[name]) for name in PACKAGES if name in versions]


def _count(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:,.1f}"
