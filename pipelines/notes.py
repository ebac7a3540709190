"""What a person reads first on a run's page in MLflow: what it does and, once that is done, what came of it; and the figures that stand for a whole run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipelines import findings
from pipelines.findings import RunData, metric_words
from pipelines.journal import series

WORKFLOW = "workflow"
WHAT = {
    WORKFLOW: "A whole run of a recipe; its steps are the runs below. The parameters are what the recipe gives, those of a step are complete.",
    "import": "Texts and benchmarks, taken out of packages and files as they are.",
    "prepare": "Raw text to shards: cleaned, duplicates and benchmark texts left out, cut into words and entities, rows of each task.",
    "pretrain": "Continual multi-task pretraining. Shares are of the tokens trained on so far, figures of `train/` means since the last log line.",
    "finetune": "Every benchmark in every arm. Below: a run for each benchmark and arm, and below that one for each trial (learning rate, seed).",
    "report": "The run as one page: `report.html` under Artifacts.",
}
"""Step -> what it does."""


def found_so_far(step: str, run_folder: Path) -> RunData:
    """Return what the steps of a run up to `step` left.

    Raises:
        IntegrityError: a manifest, or a file it names, is damaged.
    """
    steps = findings.STEPS
    return findings.load(run_folder, steps[: steps.index(step) + 1] if step in steps else steps)


def note(step: str, data: RunData | None = None) -> str:
    """Return as Markdown what a step, or the workflow, does; with `data`, what came of it, too."""
    parts = []
    if data is not None:  # the outcome first: MLflow folds what is longer than a few lines
        pretrained, scored = [_size(data), _learnt(data)], [_scores(data)]
        parts = {"prepare": [_rows(data)], "pretrain": pretrained, "finetune": scored, WORKFLOW: scored + pretrained}.get(step, [])
    return "\n\n".join(part for part in (*parts, WHAT.get(step, "")) if part)


def figures(data: RunData) -> dict[str, float]:
    """Return the figures by which whole runs are compared: medians of each benchmark and arm, their difference, the last masked-LM loss.

    Example: ``{"reviews/pretrained/test/accuracy": 0.76, "reviews/difference/median": 0.01, "valid/knowledge_masking/lm_loss": 5.1}``.
    """
    found: dict[str, float | None] = {}
    for name, benchmark in data.benchmarks.items():
        for arm, entry in benchmark["arms"].items():
            found[f"{name}/{arm}/{benchmark['scored']}/{benchmark['metric']}"] = entry["median"]
        found[f"{name}/difference/median"] = (benchmark["difference"] or {}).get("median")
    if (task := findings.lm_task(data)) is not None:
        metric = f"valid/{task}/lm_loss"
        found[metric] = series(data.points, metric)[1][-1]
    return {name: value for name, value in found.items() if value is not None}


def _size(data: RunData) -> str:
    steps, tokens, parameters = (data.fact("pretrain", name) for name in ("steps", "tokens", "parameters"))
    return f"{steps:,} steps over {tokens / 1e6:.1f} M tokens, {parameters / 1e6:.1f} M parameters." if steps and tokens and parameters else ""


def _rows(data: RunData) -> str:
    documents: Mapping[str, Any] = data.fact("prepare", "documents") or {}
    tasks: Mapping[str, Any] = data.fact("prepare", "tasks") or {}
    kept = f"{documents['kept']:,} of {documents['read']:,} documents kept." if "kept" in documents else ""
    return "\n\n".join(
        part for part in (kept, _table(("task", "rows", "tokens"), [(n, f"{t['rows']:,}", f"{t['tokens']:,}") for n, t in tasks.items()])) if part
    )


def _learnt(data: RunData) -> str:
    if not data.points:
        return ""
    lines = [sentence for sentence in [findings.lm_sentence(data)] if sentence]
    lines += [f"{found.task}, {metric_words(found.metric)}: {found.words}." for found in findings.task_findings(data)]
    return "\n".join(f"- {line}" for line in lines)


def _scores(data: RunData) -> str:
    if not data.benchmarks:
        return ""
    from pipelines.report import arm_rows  # here, since it loads what draws charts

    rows = [tuple(row.values()) for row in arm_rows(data)]
    table = _table(("benchmark", "metric", "arm", "median", "lowest", "highest", "learning rate", "seeds"), rows)
    return "\n\n".join(["\n".join(f"- {findings.benchmark_sentence(name, b)}" for name, b in data.benchmarks.items()), table])


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """Return a Markdown table; "" without rows."""
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, ("---",) * len(head), *rows)) if rows else ""
