"""Fine-tunes every arm on every benchmark: a grid of learning rates at the first seed, then the other seeds at the rate that dev chose.

A trial is the unit of work and of retry: each commits `trials/<benchmark>-<arm>-<rate>-<seed>/` with a manifest, and one whose settings
and inputs are unchanged is not run again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from ernie_core.benchmarks.base import SUBSETS, Benchmark
from ernie_core.benchmarks.custom import benchmark_of
from ernie_core.benchmarks.rows import overlap, read_rows
from ernie_core.errors import InputError, RecipeError
from ernie_core.manifest import Manifest, atomic_write, file_sha256, read_manifest, verified_path, whole, write_manifest
from ernie_core.normalise import NORMALISER_NAME
from ernie_core.training.checkpoint import CONFIG_NAME, MODEL_NAME
from pipelines.initial import longest_row, own_folder
from pipelines.journal import JOURNAL_NAME, Journal
from pipelines.mistakes import MISTAKES_NAME, Mistakes, mistakes_of, page, read_answers
from pipelines.results import Arm, best_trial, length_words, majority, outcome_words, summary
from pipelines.steps import Say, StepContext
from pipelines.trial import Trial, finished, outcomes_of, predictions_name
from pipelines.trial_log import done_line
from pipelines.trial_ranks import batch_words, run_trials
from pipelines.trial_runs import TrialRuns

RESULTS_NAME = "results.json"
ARMS = ("pretrained", "untrained")
START = "start"
"""Folder of the model in our form, where it came from elsewhere."""
DEFAULT_LENGTH = 128
Done = tuple[Trial, dict[str, Any]]
_OF_A_TRIAL = (
    "custom", "max_seq_len", "eval_rows", "epochs", "batch_size", "eval_times", "precision", "dropout", "warmup_share", "schedule", "pooling", "weight_decay",
    "layer_decay", "patience", "class_weights",
)  # fmt: skip
"""Settings of a benchmark that act inside a trial; the others chose its files and the grid."""


def finetune(
    context: StepContext, *, data: Path, model: Path, seed: int, workers: int, workers_per_trial: int = 1, memory_bytes: int = 0
) -> Manifest:
    """Run all trials that are not done, compare the arms, and write `results.json`.

    Args:
        context: its settings are the recipe's `finetune` section.
        data: the import step's folder, which holds `benchmarks/<name>/{train,dev,test}.jsonl`.
        model: of the pretrained arm, a run's or one of transformers; the untrained arm has its shape.
        seed: of the bootstrap's draws.
        workers, workers_per_trial, memory_bytes: see `trial_ranks.run_trials`; every process has one thread.

    Raises:
        InputError: a benchmark's file is missing or wrong, or no model is there; found before any trial starts.
        RecipeError: E-POOLING; E-BENCH-LENGTH, rows longer than any that the model was trained on are asked for.
    """
    start = own_folder(model, context.folder / START)
    whole(start)
    vocab, longest = start / "vocab.txt", longest_row(start)
    settings = {
        name: resolved(name, s, longest, context.say, workers_per_trial if workers else 1) for name, s in context.settings["benchmarks"].items()
    }
    benchmarks = {name: benchmark_of(name, s["custom"]) for name, s in settings.items()}
    _check_heads(settings, benchmarks)
    hashes = _inputs(data, start, vocab, benchmarks)
    facts = {name: _read_all(benchmark, benchmarks.get(benchmark.trained_by), data, context.say) for name, benchmark in benchmarks.items()}
    guests = {name: [g for g, guest in benchmarks.items() if guest.trained_by == name] for name in benchmarks}
    for name, visiting in guests.items():
        hashes[name] |= {f"{g}/{k}": v for g in visiting for k, v in hashes[g].items() if k in SUBSETS}

    def trial(name: str, arm: str, rate: float, trial_seed: int) -> Trial:
        return Trial(
            benchmark=name, arm=arm, learning_rate=rate, seed=trial_seed, settings={k: settings[name][k] for k in _OF_A_TRIAL},
            data=str(data / "benchmarks" / name), model=str(start), vocab=str(vocab),
            inputs={k: v for k, v in hashes[name].items() if arm == "pretrained" or k != "weights"}, guests=tuple(guests[name]),
            folder=str(context.folder / "trials" / f"{name}-{arm}-{rate!r}-{trial_seed}"),
        )  # fmt: skip

    arms = context.settings["arms"]
    pairs = [(name, arm) for name, benchmark in benchmarks.items() if not benchmark.trained_by for arm in arms]
    first, *others = dict.fromkeys(context.settings["seeds"])
    rates = {name: sorted(set(settings[name]["learning_rates"])) for name in benchmarks}
    runs = TrialRuns(context, {name: b.metric.name for name, b in benchmarks.items()}, {name: f["rows"] for name, f in facts.items()})
    with runs, Progress(*_columns(), console=Console(stderr=True), refresh_per_second=1) as bar:
        total = sum(len(rates[name]) + len(others) for name, _ in pairs)
        work = partial(run_trials, workers=workers, workers_per_trial=workers_per_trial, memory_bytes=memory_bytes)
        runner = _Runner(context.say, work, bar, total, runs, max(1, workers) if workers_per_trial == 1 else 1)
        done = runner.run([trial(name, arm, rate, first) for name, arm in pairs for rate in rates[name]])
        chosen = {pair: _best_rate(done, *pair) for pair in pairs}
        done += runner.run([trial(*pair, chosen[pair], s) for pair in pairs for s in others])
    results = {"benchmarks": {name: _result(name, benchmark, chosen, done, facts[name], seed) for name, benchmark in benchmarks.items()}}
    for name, result in results["benchmarks"].items():
        for words in (outcome_words(result), *length_words(result)):
            context.say(f"fine-tune: {name} {words}")
    runs.finish(results)
    _journal(context.folder, results, done)
    entry = atomic_write(context.folder / RESULTS_NAME, json.dumps(results, ensure_ascii=False, indent=1, allow_nan=False).encode() + b"\n")
    scored = {name: b for name, b in benchmarks.items() if results["benchmarks"][name]["scored"]}
    wrong = [_mistakes(name, benchmark, context.folder, data, results["benchmarks"]) for name, benchmark in scored.items()]
    shown = atomic_write(context.folder / MISTAKES_NAME, page(wrong, context.folder.parent.name))
    return write_manifest(context.folder, Manifest(context.name, context.settings, context.parent_hashes, (entry, shown), {"trials": len(done)}))


def _result(
    name: str, benchmark: Benchmark, chosen: Mapping[tuple[str, str], float], done: Sequence[Done], facts: Mapping[str, Any], seed: int
) -> dict[str, Any]:
    """Return what came of a benchmark, every arm at its chosen learning rate; a guest's is that of its host's trials."""
    host = benchmark.trained_by or name
    rates = {arm: rate for (trained, arm), rate in chosen.items() if trained == host}
    found = {arm: _arm(host, arm, rate, done, name if benchmark.trained_by else "") for arm, rate in rates.items()}
    return summary(benchmark, facts, found, seed)


def _mistakes(name: str, benchmark: Benchmark, folder: Path, data: Path, results: Mapping[str, Any]) -> Mistakes:
    """Return what the best seed of the first arm gets wrong in the scored subset."""
    host, scored = benchmark.trained_by or name, results[name]["scored"]
    arm, entry = next(iter(results[host]["arms"].items()))
    trial = best_trial(host, arm, entry)
    answers = read_answers(folder / "trials" / trial / predictions_name(benchmark, scored))
    return mistakes_of(benchmark, trial, scored, read_rows(data / "benchmarks" / name / f"{scored}.jsonl", benchmark), answers)


def resolved(name: str, settings: Mapping[str, Any], longest: int, say: Say, ranks: int = 1) -> dict[str, Any]:
    """Return a benchmark's settings with its longest row decided, and say how a preset is laid out.

    Args:
        name: the recipe's entry.
        settings: its settings.
        longest: tokens of the longest row that the model was trained on.
        say: receives the resolved preset, and how batches lie over several workers.
        ranks: workers of a trial.

    Raises:
        RecipeError: E-BENCH-LENGTH, an explicit `max_seq_len` is longer.
    """
    asked = settings["max_seq_len"]
    if asked is not None and asked > longest:
        raise RecipeError(
            "E-BENCH-LENGTH", f"benchmark {name} asks for rows beyond the longest trained position", where=f"finetune.benchmarks.{name}.max_seq_len",
            expected=f"at most {longest}", found=str(asked), fix="lower it, or pretrain with longer rows (prepare.long_rows)",
        )  # fmt: skip
    preset = benchmark_of(name, settings["custom"]).presets.get(settings["preset"] or "")
    length = asked or min(preset.max_seq_len if preset else DEFAULT_LENGTH, longest)
    if preset is not None:
        shorter = "" if length == preset.max_seq_len else f" (the preset's {preset.max_seq_len} is beyond what was trained)"
        say(
            f"fine-tune: {name} as {settings['preset']}: learning rate {', '.join(map(str, settings['learning_rates']))} {settings['schedule']}, "
            f"{settings['epochs']} epochs, {batch_words(settings['batch_size'], ranks)}, rows of {length} tokens{shorter}"
        )
    elif ranks > 1:
        say(f"fine-tune: {name}: {batch_words(settings['batch_size'], ranks)}")
    return {**settings, "max_seq_len": length}


def _check_heads(settings: Mapping[str, Any], benchmarks: Mapping[str, Benchmark]) -> None:
    """Refuse what a benchmark's head has no use for."""
    for name, benchmark in benchmarks.items():
        if benchmark.kind in {"tagging", "span"} and settings[name]["pooling"] != "cls":
            raise RecipeError(
                "E-POOLING", f"benchmark {name} reads every token: nothing is pooled", where=f"finetune.benchmarks.{name}.pooling",
                expected="cls", found=settings[name]["pooling"], fix="take the line out of the recipe",
            )  # fmt: skip
        if benchmark.kind != "classification" and settings[name]["class_weights"] is not None:
            raise RecipeError(
                "E-CLASS-WEIGHTS", f"benchmark {name} is no classification of rows", where=f"finetune.benchmarks.{name}.class_weights", expected="null",
                found=settings[name]["class_weights"], fix="take the line out of the recipe",
            )  # fmt: skip


def _columns() -> list[ProgressColumn]:
    columns = [TextColumn("fine-tune"), BarColumn(), MofNCompleteColumn(), TextColumn("trials,"), TimeElapsedColumn(), TextColumn("gone,")]
    return [*columns, TimeRemainingColumn(), TextColumn("left")]


class _Runner:
    """Runs trials that are not done, and counts them on the bar."""

    def __init__(
        self, say: Say, work: Callable[[Sequence[Trial]], Iterable[dict[str, Any]]], bar: Progress, total: int, runs: TrialRuns, at_once: int
    ) -> None:
        self.say, self.work, self.bar, self.runs, self.at_once = say, work, bar, runs, at_once
        self.shown = bar.add_task("trials", total=total)

    def run(self, trials: Sequence[Trial]) -> list[Done]:
        """Return each trial with its result, in the order given."""
        found = {t.folder: result for t in trials if (result := finished(t)) is not None}
        self.bar.update(self.shown, advance=len(found))
        waiting = [t for t in trials if t.folder not in found]
        if found and waiting:
            self.say(f"fine-tune: {len(found)} of {len(trials)} trials were done before")
        by_folder = {t.folder: t for t in trials}
        for folder, result in found.items():
            self.runs.end(by_folder[folder], result)
        for trial in waiting[: self.at_once]:
            self.runs.begin(trial)
        for started, result in enumerate(self.work(waiting) if waiting else (), self.at_once):
            whole(Path(result["folder"]))  # another machine may have made it
            found[result["folder"]] = result
            self.runs.end(by_folder[result["folder"]], result)
            for trial in waiting[started : started + 1]:  # the place of the one that ended
                self.runs.begin(trial)
            self.bar.update(self.shown, advance=1)
            task = self.bar.tasks[self.shown]
            self.say(done_line(result, self.runs.metrics[Path(result["folder"]).name.split("-")[0]], int(task.completed), int(task.total or 0)))
        return [(t, found[t.folder]) for t in trials]


def _inputs(data: Path, model: Path, vocab: Path, benchmarks: Mapping[str, Benchmark]) -> dict[str, dict[str, str]]:
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
    for name in benchmarks:
        paths = {subset: f"benchmarks/{name}/{subset}.jsonl" for subset in SUBSETS}
        held = {subset: path for subset, path in paths.items() if path in entries}
        needed = ("train", "dev") if not benchmarks[name].trained_by else () if held else ("test",)
        if missing := [paths[s] for s in needed if s not in held]:
            fix = "check the benchmark's files in the recipe"
            raise InputError("E-BENCH-MISSING", f"benchmark {name} was not imported", where=str(data), expected=", ".join(missing), fix=fix)
        for path in held.values():
            verified_path(data, entries[path], "E-BENCH-HASH")
        hashes[name] = shared | {subset: entries[path].sha256 for subset, path in held.items()}
    return hashes


def _read_all(benchmark: Benchmark, host: Benchmark | None, data: Path, say: Say) -> dict[str, Any]:
    """Read every subset, so that a wrong row stops the step before its first trial; warn of rows that stand in train (of its host) too.

    Returns:
        {"rows": {subset: rows}, "overlap": {"dev": rows, "test": rows}, "imported": {subset: the import step's facts}, "majority": {subset: share}}.
    """
    imported = {e.facts["subset"]: e.facts for e in read_manifest(data).files if e.facts.get("benchmark") == benchmark.name}
    subsets = {s: read_rows(data / "benchmarks" / benchmark.name / f"{s}.jsonl", benchmark) for s in SUBSETS if s in imported}
    for subset in ("train", "dev"):
        if benchmark.trained_by == "" and not all(e.labelled for e in subsets[subset]):
            raise InputError(
                "E-BENCH-EMPTY", f"{subset} rows of benchmark {benchmark.name} have no labels", where=str(imported[subset]["from"]),
                expected="labelled rows", found=f"{sum(not e.labelled for e in subsets[subset])} of {len(subsets[subset])} without", fix="give another file",
            )  # fmt: skip
    train = subsets["train"] if host is None else read_rows(data / "benchmarks" / host.name / "train.jsonl", host)
    shared = {subset: sum(overlap(train, rows)) for subset, rows in subsets.items() if subset != "train"}
    for subset, count in shared.items():
        if count:
            say(f"warning: {count} {subset} rows of {benchmark.name} stand in its train rows too; its {subset} score is too high")
    return {
        "rows": {name: len(rows) for name, rows in subsets.items()}, "overlap": shared, "imported": imported,
        "majority": {name: share for name, rows in subsets.items() if (share := majority(rows)) is not None and benchmark.metric.name == "accuracy"},
    }  # fmt: skip


def _best_rate(done: Sequence[Done], name: str, arm: str) -> float:
    """Return the grid's learning rate of the best dev score; the lower one of equals, and the lowest where no score is defined."""
    scores = [(-1.0 if r["dev"] is None else r["dev"], -t.learning_rate) for t, r in done if (t.benchmark, t.arm) == (name, arm)]
    return -max(scores)[1]


def _arm(name: str, arm: str, rate: float, done: Sequence[Done], guest: str) -> Arm:
    """Return an arm's trials at the chosen rate, in the order of seeds, and the grid at the first seed; of a guest's part where one is named."""
    mine = [(t, r) for t, r in done if (t.benchmark, t.arm) == (name, arm)]
    first = mine[0][0].seed
    at_rate = [(t, r) for t, r in mine if t.learning_rate == rate]
    grid = [(t.learning_rate, r["dev"]) for t, r in mine if t.seed == first]
    results = [{**r, "dev_curve": [], **r["guests"][guest]} if guest else r for _, r in at_rate]
    return Arm(rate, [] if guest else grid, [t.seed for t, _ in at_rate], results, [outcomes_of(r, guest) for _, r in at_rate])


def _journal(folder: Path, results: dict[str, Any], done: Sequence[Done]) -> None:
    """Write the figures where tracking finds them; curves stand in the trials' own runs."""
    journal = Journal(folder / JOURNAL_NAME)
    for name, benchmark in results["benchmarks"].items():
        for arm, entry in benchmark["arms"].items():
            figures = {f"{name}/{arm}/{subset}/{m}": v["median"] for subset, metrics in entry["scores"].items() for m, v in metrics.items()}
            speeds = [r["rows_per_s"] for t, r in done if (t.benchmark, t.arm) == (name, arm)]
            speed = {f"perf/{name}/{arm}/rows_per_s": median(speeds)} if speeds else {}
            _log(journal, 0, {**figures, f"{name}/{arm}/learning_rate": entry["learning_rate"], **speed})
        difference = benchmark["difference"] or {}
        _log(journal, 0, {f"{name}/difference/{k}": difference.get(k) for k in ("median", "low", "high")})
    journal.close()


def _log(journal: Journal, step: int, metrics: dict[str, float | None]) -> None:
    journal.log(step, {k: v for k, v in metrics.items() if v is not None})
