"""What fine-tuning found, as `results.json` holds it: medians and spreads over seeds, and what the rows were."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

import numpy as np

from ernie_core.benchmarks.base import LEFT_OUT, Benchmark, Example
from ernie_core.benchmarks.metrics.base import Counts
from ernie_core.benchmarks.metrics.bootstrap import paired_difference

_KEPT = ("dev", "test", "best_step", "dev_curve", "diverged", "stopped_early")


@dataclass(frozen=True)
class Arm:
    """The trials of one arm at the learning rate that dev chose.

    Args:
        rate: that rate.
        grid: (rate, dev score) of the first seed.
        seeds, results, outcomes: of each trial, see `trial.run_trial` and `trial.outcomes_of`.
    """

    rate: float
    grid: list[tuple[float, float | None]]
    seeds: list[int]
    results: list[dict[str, Any]]
    outcomes: list[Counts]


def summary(benchmark: Benchmark, facts: Mapping[str, Any], arms: Mapping[str, Arm], seed: int) -> dict[str, Any]:
    """Return the entry of one benchmark in `results.json`.

    Args:
        benchmark: which.
        facts: {"rows", "overlap", "imported", "majority"}, see `finetune`.
        arms: by name; the difference is of the first two.
        seed: of the bootstrap's draws.
    """
    imported = facts["imported"]
    official = is_official(benchmark, imported)
    entry: dict[str, Any] = {
        "metric": benchmark.metric.name, "kind": benchmark.kind, "scored": next(iter(arms.values())).results[0]["scored"], "rows": facts["rows"],
        "overlap": facts["overlap"], "majority": facts["majority"], "dropped": {s: f["dropped"] for s, f in imported.items() if f["dropped"]},
        "official": official, "stands_in": {} if official else stand_ins(benchmark, imported),
        "arms": {name: _arm(arm) for name, arm in arms.items()}, "difference": None,
    }  # fmt: skip
    if len(arms) > 1 and all(len(arm.outcomes[0]) for arm in arms.values()):
        first, second = (np.stack(arm.outcomes) for arm in list(arms.values())[:2])
        entry["difference"] = asdict(paired_difference(first, second, benchmark.metric, seed=seed))
    return entry


def is_official(benchmark: Benchmark, imported: Mapping[str, Mapping[str, Any]]) -> bool:
    """Say whether all rows of every subset are the publisher's: the number read is the published one, and none was left aside.

    A test set that is not there does not count against train and dev.
    """
    needed = [s for s in benchmark.rows if s != "test" or s in imported]
    return bool(needed) and all(s in imported and imported[s]["read"] == benchmark.rows[s] and _whole(imported[s]) for s in needed)


def _whole(facts: Mapping[str, Any]) -> bool:
    left_out = sum(n for reason, n in facts["dropped"].items() if reason in LEFT_OUT)
    return bool(facts["rows"] + left_out == facts["read"])


def stand_ins(benchmark: Benchmark, imported: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Return, for each subset that is not the published one, what was used instead.

    Example: ``{"train": "train.txt.gz, 34,334 rows (published: 238,766)"}``.
    """
    found = {}
    for subset, facts in imported.items():
        published = benchmark.rows.get(subset)
        if published is None or facts["read"] != published or not _whole(facts):
            of = "" if facts["rows"] == facts["read"] else f" of {facts['read']:,}"
            found[subset] = f"{facts['from']}, {facts['rows']:,}{of} rows" + ("" if published is None else f" (published: {published:,})")
    return found


def _arm(arm: Arm) -> dict[str, Any]:
    headline = [r[r["scored"]] if r["scored"] else None for r in arm.results]
    return {
        "learning_rate": arm.rate,
        "grid": [list(point) for point in arm.grid],
        "trials": [{"seed": s, **{k: r[k] for k in _KEPT}} for s, r in zip(arm.seeds, arm.results, strict=True)],
        **spread(headline),
        "scores": _over_seeds([r["scores"] for r in arm.results]),
        "without_overlap": _over_seeds([r["without_overlap"] for r in arm.results]),
        "truncated": arm.results[0]["truncated"],
    }


def spread(values: Sequence[float | None]) -> dict[str, float | None]:
    """Return median, least and greatest over seeds; all None where one is undefined.

    Example: ``spread([0.5, 0.7, 0.6])`` -> ``{"median": 0.6, "min": 0.5, "max": 0.7}``.
    """
    known = [v for v in values if v is not None]
    if len(known) < len(values):
        return {"median": None, "min": None, "max": None}
    return {"median": median(known), "min": min(known), "max": max(known)}


def _over_seeds(scores: Sequence[Mapping[str, Mapping[str, float | None]]]) -> dict[str, dict[str, dict[str, float | None]]]:
    return {subset: {metric: spread([s[subset][metric] for s in scores]) for metric in scores[0][subset]} for subset in scores[0]}


def best_trial(name: str, arm: str, entry: Mapping[str, Any]) -> str:
    """Return the folder's name of the trial that is best on dev, the first of equals.

    Example: ``cola-pretrained-3e-05-2``.
    """
    best = max(entry["trials"], key=lambda t: (-1.0 if t["dev"] is None else t["dev"], -t["seed"]))
    return f"{name}-{arm}-{entry['learning_rate']!r}-{best['seed']}"


def majority(examples: Sequence[Example]) -> float | None:
    """Return the share of the commonest class among classified rows, which a model must beat; None where rows are not classified.

    Example: three rows of class 1 and one of class 0 -> 0.75.
    """
    labels = [e.labels[0] for e in examples if len(e.labels) == 1 and len(e.texts) <= 2]
    return max(Counter(labels).values()) / len(labels) if labels else None


def length_words(entry: Mapping[str, Any]) -> list[str]:
    """Return what is said of rows longer than `max_seq_len`, a line a subset that has some; a long context is read in windows and not counted.

    Example: ``["70 of 1,200 dev rows are longer than max_seq_len and were cut"]``.
    """
    done = {"tagging": "split after a clause and put together again", "span": "had their question cut"}.get(entry["kind"], "cut")
    counts = next(iter(entry["arms"].values()))["truncated"]
    verb = "" if entry["kind"] == "span" else "were "
    return [f"{n:,} of {entry['rows'][s]:,} {s} rows are longer than max_seq_len and {verb}{done}" for s, n in counts.items() if n]


def outcome_words(entry: Mapping[str, Any]) -> str:
    """Return a benchmark's outcome as a line.

    Example: ``accuracy on test: pretrained 71.2 % (70.9 to 71.5), untrained 68.0 % (67.7 to 68.4); commonest class 50.0 %``.
    """

    def shown(arm: Mapping[str, Any]) -> str:
        return "undefined" if arm["median"] is None else f"{arm['median']:.1%} ({arm['min']:.1%} to {arm['max']:.1%})".replace("%", " %")

    if not entry["scored"]:
        return "is predicted only: no row of it is labelled"
    arms = ", ".join(f"{name} {shown(arm)}" for name, arm in entry["arms"].items())
    share = entry["majority"].get(entry["scored"])
    return f"{entry['metric']} on {entry['scored']}: {arms}" + ("" if share is None else f"; commonest class {share:.1%}".replace("%", " %"))
