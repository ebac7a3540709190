"""Fine-tunes every arm on every benchmark: a grid of learning rates at the first seed, then the other seeds at the rate that dev chose.

A trial is the unit of work and of retry: each commits `trials/<benchmark>-<arm>-<rate>-<seed>/` with a manifest, and one whose settings
and inputs are unchanged is not run again.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from ernie_core.benchmarks.base import SUBSETS, Benchmark, all_benchmarks, overlap, read_subset
from ernie_core.benchmarks.metrics.base import Counts
from ernie_core.benchmarks.metrics.bootstrap import paired_difference
from ernie_core.errors import InputError, RecipeError
from ernie_core.manifest import Manifest, atomic_write, file_sha256, read_manifest, verified_path, write_manifest
from ernie_core.normalise import NORMALISER_NAME
from ernie_core.registry import pick
from ernie_core.training.checkpoint import CONFIG_NAME, MODEL_NAME
from pipelines.journal import JOURNAL_NAME, Journal
from pipelines.ray_train import map_tasks
from pipelines.steps import Say, StepContext
from pipelines.trial import Trial, finished, outcomes_of, run_trial

RESULTS_NAME = "results.json"
ARMS = ("pretrained", "untrained")
Done = tuple[Trial, dict[str, Any]]
_NOT_OF_A_TRIAL = frozenset({"package", "train_rows", "dev_rows", "test_rows", "learning_rates"})
"""Settings of a benchmark that chose its files and the grid."""


def finetune(context: StepContext, *, data: Path, model: Path, vocab: Path, seed: int, workers: int) -> Manifest:
    """Run all trials that are not done, compare the arms, and write `results.json`.

    Args:
        context: its settings are the recipe's `finetune` section.
        data: the import step's folder, which holds `benchmarks/<name>/{train,dev,test}.tsv`.
        model: checkpoint folder of the pretrained model; the untrained arm has its shape.
        vocab: its vocabulary file.
        seed: of the bootstrap's draws.
        workers: trials at once, each on one thread; 0 = in this process, without Ray.

    Raises:
        InputError: a benchmark's file is missing or wrong; found before any trial starts.
        RecipeError: E-POOLING.
    """
    settings = context.settings
    benchmarks = {name: pick(all_benchmarks(), name, "benchmark") for name in settings["benchmarks"]}
    _check_pooling(settings["benchmarks"], benchmarks)
    hashes = _inputs(data, model, vocab, benchmarks)
    facts = {name: _read_all(benchmark, data, context.say) for name, benchmark in benchmarks.items()}

    def trial(name: str, arm: str, rate: float, trial_seed: int) -> Trial:
        return Trial(
            benchmark=name, arm=arm, learning_rate=rate, seed=trial_seed,
            settings={k: v for k, v in settings["benchmarks"][name].items() if k not in _NOT_OF_A_TRIAL},
            data=str(data / "benchmarks" / name), model=str(model), vocab=str(vocab),
            inputs={k: v for k, v in hashes[name].items() if arm == "pretrained" or k != "weights"},
            folder=str(context.folder / "trials" / f"{name}-{arm}-{rate!r}-{trial_seed}"),
        )  # fmt: skip

    pairs = [(name, arm) for name in benchmarks for arm in settings["arms"]]
    first, *others = dict.fromkeys(settings["seeds"])
    rates = {name: sorted(set(settings["benchmarks"][name]["learning_rates"])) for name in benchmarks}
    with Progress(*_columns(), console=Console(stderr=True), refresh_per_second=1) as bar:
        runner = _Runner(context.say, workers, bar, sum(len(rates[name]) + len(others) for name, _ in pairs))
        done = runner.run([trial(name, arm, rate, first) for name, arm in pairs for rate in rates[name]])
        chosen = {pair: _best_rate(done, *pair) for pair in pairs}
        done += runner.run([trial(*pair, chosen[pair], s) for pair in pairs for s in others])
    results: dict[str, Any] = {"benchmarks": {}}
    for name, benchmark in benchmarks.items():
        arms = {arm: _arm(name, arm, chosen[name, arm], done) for arm in settings["arms"]}
        entries = {arm: entry for arm, (entry, _) in arms.items()}
        results["benchmarks"][name] = _summary(benchmark, facts[name], entries, seed, {arm: counts for arm, (_, counts) in arms.items()})
    _journal(context.folder, results)
    entry = atomic_write(context.folder / RESULTS_NAME, json.dumps(results, ensure_ascii=False, indent=1, allow_nan=False).encode() + b"\n")
    return write_manifest(context.folder, Manifest(context.name, settings, context.parent_hashes, (entry,), {"trials": len(done)}))


def _check_pooling(settings: Mapping[str, Any], benchmarks: Mapping[str, Benchmark]) -> None:
    for name, benchmark in benchmarks.items():
        if benchmark.kind == "tagging" and settings[name]["pooling"] != "cls":
            raise RecipeError(
                "E-POOLING", f"benchmark {name} labels every token: nothing is pooled", where=f"finetune.benchmarks.{name}.pooling",
                expected="cls", found=settings[name]["pooling"], fix="take the line out of the recipe",
            )  # fmt: skip


def _columns() -> list[ProgressColumn]:
    columns = [TextColumn("fine-tune"), BarColumn(), MofNCompleteColumn(), TextColumn("trials,"), TimeElapsedColumn(), TextColumn("gone,")]
    return [*columns, TimeRemainingColumn(), TextColumn("left")]


class _Runner:
    """Runs trials that are not done, and counts them on the bar."""

    def __init__(self, say: Say, workers: int, bar: Progress, total: int) -> None:
        self.say, self.workers, self.bar = say, workers, bar
        self.shown = bar.add_task("trials", total=total)

    def run(self, trials: Sequence[Trial]) -> list[Done]:
        """Return each trial with its result, in the order given."""
        found = {t.folder: result for t in trials if (result := finished(t)) is not None}
        self.bar.update(self.shown, advance=len(found))
        waiting = [t for t in trials if t.folder not in found]
        if found and waiting:
            self.say(f"fine-tune: {len(found)} of {len(trials)} trials were done before")
        for result in map_tasks(run_trial, waiting, self.workers) if waiting else ():
            found[result["folder"]] = result
            self.bar.update(self.shown, advance=1)
            if result["diverged"]:
                self.say(f"fine-tune: {Path(result['folder']).name} met numbers that are not finite, and stopped early")
        return [(t, found[t.folder]) for t in trials]


def _inputs(data: Path, model: Path, vocab: Path, names: Iterable[str]) -> dict[str, dict[str, str]]:
    """Return the hashes of what the trials of each benchmark read, after checking its files against their manifest."""
    entries = {e.path: e for e in read_manifest(data).files}
    parts = {e.path: e.sha256 for e in read_manifest(model).files}
    shared = {
        "weights": parts[MODEL_NAME],
        "config": parts[CONFIG_NAME],
        "vocab": file_sha256(vocab),
        "normaliser": file_sha256(vocab.with_name(NORMALISER_NAME)),
    }
    hashes = {}
    for name in names:
        paths = {subset: f"benchmarks/{name}/{subset}.tsv" for subset in SUBSETS}
        if missing := [p for p in paths.values() if p not in entries]:
            fix = "check the benchmark's package in the recipe"
            raise InputError("E-BENCH-MISSING", f"benchmark {name} was not imported", where=str(data), expected=", ".join(missing), fix=fix)
        for path in paths.values():
            verified_path(data, entries[path], "E-BENCH-HASH")
        hashes[name] = shared | {subset: entries[path].sha256 for subset, path in paths.items()}
    return hashes


def _read_all(benchmark: Benchmark, data: Path, say: Say) -> dict[str, Any]:
    """Read all three subsets, so that a wrong row stops the step before its first trial; warn of rows that stand in train too.

    Returns:
        {"rows": {subset: rows}, "ignored": {subset: rows}, "overlap": {"dev": rows, "test": rows}}.
    """
    subsets = {subset: read_subset(benchmark, data / "benchmarks" / benchmark.name / f"{subset}.tsv") for subset in SUBSETS}
    shared = {subset: overlap(subsets["train"].examples, subsets[subset].examples) for subset in ("dev", "test")}
    for subset, rows in shared.items():
        if rows:
            say(f"warning: {rows} {subset} rows of {benchmark.name} stand in its train rows too; its {subset} score is too high")
    return {
        "rows": {name: len(s.examples) for name, s in subsets.items()},
        "ignored": {name: s.ignored for name, s in subsets.items()},
        "overlap": shared,
    }


def _best_rate(done: Sequence[Done], name: str, arm: str) -> float:
    """Return the grid's learning rate of the best dev score; the lower one of equals, and the lowest where no score is defined."""
    scores = [(-1.0 if r["dev"] is None else r["dev"], -t.learning_rate) for t, r in done if (t.benchmark, t.arm) == (name, arm)]
    return -max(scores)[1]


def _summary(
    benchmark: Benchmark, facts: dict[str, Any], arms: dict[str, dict[str, Any]], seed: int, outcomes: dict[str, list[Counts]]
) -> dict[str, Any]:
    """Return the entry of one benchmark in `results.json`."""
    summary: dict[str, Any] = {"metric": benchmark.metric.name, **facts, "arms": arms, "difference": None}
    if set(ARMS) <= set(arms):
        first, second = (np.stack(outcomes[arm]) for arm in ARMS)
        summary["difference"] = asdict(paired_difference(first, second, benchmark.metric, seed=seed))
    return summary


def _arm(name: str, arm: str, rate: float, done: Sequence[Done]) -> tuple[dict[str, Any], list[Counts]]:
    """Return an arm's entry, and the test outcomes of its trials at the chosen rate in the order of seeds."""
    mine = [(t, r) for t, r in done if (t.benchmark, t.arm) == (name, arm)]
    first = mine[0][0].seed
    at_rate = [(t, r) for t, r in mine if t.learning_rate == rate]
    tests = [r["test"] for _, r in at_rate]
    defined = None not in tests
    kept = ("dev", "test", "best_step", "dev_curve", "diverged")
    entry = {
        "learning_rate": rate,
        "grid": [[t.learning_rate, r["dev"]] for t, r in mine if t.seed == first],
        "trials": [{"seed": t.seed, **{k: r[k] for k in kept}} for t, r in at_rate],
        "median": median(tests) if defined else None,
        "min": min(tests) if defined else None,
        "max": max(tests) if defined else None,
        "truncated": at_rate[0][1]["truncated"],
    }
    return entry, [outcomes_of(r) for _, r in at_rate]


def _journal(folder: Path, results: dict[str, Any]) -> None:
    """Write the curves and figures where tracking finds them."""
    journal = Journal(folder / JOURNAL_NAME)
    for name, benchmark in results["benchmarks"].items():
        for arm, entry in benchmark["arms"].items():
            for trial in entry["trials"]:
                for step, score in trial["dev_curve"]:
                    _log(journal, step, {f"{name}/{arm}/seed_{trial['seed']}/dev": score})
            _log(journal, 0, {f"{name}/{arm}/test": entry["median"], f"{name}/{arm}/learning_rate": entry["learning_rate"]})
        difference = benchmark["difference"] or {}
        _log(journal, 0, {f"{name}/difference/{k}": difference.get(k) for k in ("median", "low", "high")})
    journal.close()


def _log(journal: Journal, step: int, metrics: dict[str, float | None]) -> None:
    journal.log(step, {k: v for k, v in metrics.items() if v is not None})
