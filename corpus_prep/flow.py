"""The preparation: two maps over splits with one small reduction between (the only ray.data import; DESIGN, Preparation).

With `workers` 0 the same functions run in this process. Ray must be up already when `workers` is 1 or more.
"""

from __future__ import annotations

import functools
import json
import logging
import os
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from corpus_prep.commit import Entry, read_entry
from corpus_prep.dedup import benchmark_texts, contamination_table
from corpus_prep.languages import dictionaries
from corpus_prep.offers import sampling_tasks
from corpus_prep.pass_one import Plan, pass_one, software, split_name
from corpus_prep.pass_two import pass_two
from corpus_prep.phrases import share_of
from corpus_prep.reduction import Tables, reduce_tables
from corpus_prep.splits import Split, plan_splits
from corpus_prep.stages import Stages, shares_line, stage_metrics
from corpus_prep.tables import unpack
from corpus_prep.unknown import language_hint, unknown_line
from ernie_core import errors
from ernie_core.errors import ErnieError, RecipeError, ResourceError
from ernie_core.manifest import FileEntry, Manifest, atomic_write, file_sha256, sha256_of, verified_path
from ernie_core.normalise import NORMALISER_NAME, Normaliser
from ernie_core.object_store import put
from ernie_core.vocab import Vocab

Say = Callable[[str], None]
Log = Callable[[Mapping[str, float]], None]
_PASSES: dict[str, Callable[[Split, Plan, Stages], list[str]]] = {"1": pass_one, "2": pass_two}
_MAX_SAID = 5
UNPICKLING = (
    "RAY_DATA_WEBDATASET_ALLOW_UNSAFE_DESERIALIZATION", "RAY_DATA_AUTOLOAD_PYEXTENSIONTYPE", "RAY_DATA_AUTOLOAD_PICKLE_OBJECT_SCALAR",
    "RAY_DATA_AUTOLOAD_CLOUDPICKLE_TENSOR_METADATA",
)  # fmt: skip
"""Variables by which Ray 2.60 unpickles what stands in WebDataset and Parquet files."""


def prepare(
    *,
    corpora: Mapping[str, Mapping[str, Any]],
    settings: Mapping[str, Any],
    benchmarks_texts: Sequence[Path],
    folder: Path,
    workers: int,
    seed: int,
    say: Say,
    log: Log | None = None,
    recorded: Mapping[str, Any] | None = None,
    parents: Mapping[str, str] | None = None,
    memory_bytes: int = 0,
) -> Manifest:
    """Make shards, corpus tables, audit and card in `folder`; splits that an earlier, unfinished run committed are kept.

    Args:
        corpora: name -> {"reader", "path" (a glob), …}, see `splits.plan_splits`; and "weight", see `proportions.kept_shares`.
        settings: the recipe's `prepare` section.
        benchmarks_texts: dev and test TSVs whose texts must not be trained on; the folder's name is the benchmark's.
        folder: the step's folder.
        workers: Ray Data tasks at once; 0 runs in this process.
        seed: the recipe's seed.
        say: receives one line for each thing a person should know.
        log: receives the passes' speed and the share of each stage, see `stages.stage_metrics`.
        recorded: the settings to write into the manifest; `settings` by default.
        parents: parent step -> manifest hash.
        memory_bytes: memory that each Ray Data task asks the cluster for; 0 = none.

    Raises:
        InputError: E-CORPUS-MISSING, E-DICTIONARY, E-CORPUS-EMPTY, E-REJECTS, E-TASK-EMPTY, E-VOCAB-FORMAT, E-VOCAB-UNKNOWN.
        ResourceError: E-DISK-FULL, E-PERMISSION, E-SPLIT-DIES, E-MEMORY.
    """
    # here, because Ray's workers import this file and need none of the audit's libraries (2 s)
    from corpus_prep.results import check_documents, check_tasks, document_facts, finish, task_facts

    splits = plan_splits(corpora, settings["split_bytes"])
    vocab = None if settings["vocab"] is None else Vocab.load(Path(settings["vocab"]))
    shutil.rmtree(folder / "attempts", ignore_errors=True)
    plan = _plan(folder, settings, benchmarks_texts, splits, seed)
    say(f"prepare: {len(splits)} split{'s' * (len(splits) > 1)}, {sum(s.size_bytes for s in splits) / 1e6:.1f} MB of input")

    run_pass("1", "documents", splits, plan, workers, say, log, memory_bytes)
    entries = {split.number: read_entry(folder, f"1-{split.number:05d}") for split in splits}
    check_documents(entries, settings["max_reject_fraction"], say)
    tables, table_files = _tables(folder, entries, vocab, settings, corpora, say)
    plan = replace(plan, tables={**plan.tables, **{f.path: f.sha256 for f in table_files}})

    run_pass("2", "samples", splits, plan, workers, say, log, memory_bytes)
    built = {split.number: read_entry(folder, f"2-{split.number:05d}") for split in splits}
    facts: dict[str, Any] = {
        "documents": document_facts(entries, built, tables, folder), "tasks": task_facts(built, settings["tasks"]), "splits": len(splits),
        "vocab": {"size": tables.vocab.size, "sha256": tables.vocab.sha256, "built": vocab is None, "scripts": tables.scripts},
        "phrase_pairs": tables.num_pairs, **software(settings),
    }  # fmt: skip
    check_tasks(facts["tasks"], say)
    files = [replace(f, path=f"tables/{f.path}") for f in table_files] + [file for entry in built.values() for file in entry.files]
    manifest = Manifest("prepare", dict(settings if recorded is None else recorded), dict(parents or {}), tuple(files), facts)
    return finish(folder, manifest, tables.vocab, settings, seed, say)


def _plan(folder: Path, settings: Mapping[str, Any], benchmarks_texts: Sequence[Path], splits: Sequence[Split], seed: int) -> Plan:
    """Return the plan of pass 1, what its workers read copied to the step's folder: benchmarks' runs, and the user's dictionaries."""
    texts: dict[str, list[str]] = {}
    for path in sorted(benchmarks_texts) if settings["exclude_benchmarks"] else ():
        texts.setdefault(path.parent.name, []).extend(benchmark_texts(path))
    runs = contamination_table(texts, Normaliser(settings["to_simplified"]))
    hashes = {"contamination.npy": _keep(folder / "tables" / "contamination.npy", runs.to_bytes()).sha256}
    copies = {}
    for name, data in dictionaries(settings).items():
        copies[name] = str(folder / "tables" / f"{name}.txt")
        hashes[f"{name}.txt"] = _keep(Path(copies[name]), data).sha256
    phrase_share = 0.0 if settings["phrases"] is None else share_of(sum(s.size_bytes for s in splits))
    return Plan(str(folder), seed, {**settings, **copies}, runs.names, hashes, phrase_share)


def _tables(
    folder: Path, entries: Mapping[int, Entry], vocab: Vocab | None, settings: Mapping[str, Any], corpora: Mapping[str, Mapping[str, Any]], say: Say
) -> tuple[Tables, list[FileEntry]]:
    """Make and keep the corpus tables, and say what is in them."""
    weights = {name: float(corpus["weight"]) for name, corpus in corpora.items() if corpus.get("weight") is not None}
    reducing = time.monotonic()
    tables = _reduce(folder, entries, vocab, settings, weights)
    normaliser = Normaliser(settings["to_simplified"])
    kept = [_keep(folder / "tables" / name, data) for name, data in {**tables.files(), NORMALISER_NAME: normaliser.to_bytes()}.items()]
    held = f"vocabulary of {tables.vocab.size} tokens, {tables.num_pairs} pairs of words in phrases, {len(tables.lines)} frequent lines"
    say(f"prepare: {held}; tables in {time.monotonic() - reducing:.1f} s")
    say(f"prepare: [UNK] by script: {unknown_line(tables.scripts)}")
    if hint := language_hint(tables.scripts, settings["language"]):
        say(f"prepare: {hint}")
    for what, most in tables.lost.items():
        say(f"prepare: more different {what} than are counted at a time; counts of rare ones may be up to {most} too small")
    return tables, kept


def _keep(path: Path, data: bytes) -> FileEntry:
    """Write a table unless it stands there already, and put it into the run's object store, if that has one; return its entry."""
    if not path.exists() or path.stat().st_size != len(data) or file_sha256(path) != sha256_of(data):
        atomic_write(path, data)
    put([path])
    return FileEntry(path.name, len(data), sha256_of(data), {"table": path.name})


def _reduce(folder: Path, entries: Mapping[int, Entry], vocab: Vocab | None, settings: Mapping[str, Any], weights: Mapping[str, float]) -> Tables:
    def load(number: int, place: str) -> Any:
        path = verified_path(folder, entries[number].file(place))
        if place == "near":
            return np.load(path, mmap_mode="r", allow_pickle=False)
        return np.load(path, allow_pickle=False) if path.suffix == ".npy" else unpack(path.read_bytes())

    sources = {number: str(entry.facts["source"]) for number, entry in entries.items()}
    near, boilerplate, sampling = settings["near_duplicates"], settings["boilerplate_share"], list(sampling_tasks(settings["tasks"]))
    return reduce_tables(load, sources, vocab, settings["vocab_size"], near, boilerplate, weights, sampling, settings["phrases"])


def run_pass(number: str, what: str, splits: Sequence[Split], plan: Plan, workers: int, say: Say, log: Log | None, memory_bytes: int = 0) -> None:
    """Bring every split's pass up to date, and say what was done and why, and what took how much of the time; see `prepare`."""
    started = time.monotonic()
    outcomes = _on_ray(number, splits, plan, workers, memory_bytes) if workers else (_work(number, split, plan) for split in splits)
    sizes = {s.number: s.size_bytes for s in splits}
    reasons: Counter[str] = Counter()
    seconds: dict[str, float] = {}
    worked = 0
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:.1f}/{task.total:.1f} MB"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, transient=True, disable=not sys.stderr.isatty()) as progress:
        bar = progress.add_task(f"prepare: {what}", total=sum(sizes.values()) / 1e6)
        for outcome in outcomes:
            reasons.update([", ".join(outcome.why) or "done before"])
            if outcome.why:
                worked += sizes[outcome.split]
                seconds = {stage: seconds.get(stage, 0.0) + outcome.seconds.get(stage, 0.0) for stage in {**seconds, **outcome.seconds}}
            progress.advance(bar, sizes[outcome.split] / 1e6)
    wall_s = time.monotonic() - started
    shown = "; ".join(f"{n} {reason}" for reason, n in reasons.most_common(_MAX_SAID))
    say(f"prepare: pass {number} ({what}) over {len(splits)} splits in {wall_s:.1f} s: {shown}")
    if seconds:
        say(f"prepare: {worked / 1e6:.1f} MB in {sum(seconds.values()):.1f} s of work on {what}: {shares_line(seconds)}")
        if log is not None:
            log(stage_metrics(f"pass_{number}", seconds, wall_s, worked / 1e6))


def _on_ray(number: str, splits: Sequence[Split], plan: Plan, workers: int, memory_bytes: int) -> Iterator[_Outcome]:
    """Yield what came of splits as Ray Data finishes them: one split a row, one row a block, so one a task."""
    check_environment()
    import ray.data

    context = ray.data.DataContext.get_current()
    assert context.max_errored_blocks == 0, "a failed block would be left out in silence (reliability P4)"
    logging.getLogger("ray.data").setLevel(logging.ERROR)  # it tells its plan at each start, and warns that its bars are off
    context.enable_progress_bars = False
    largest_first = sorted(splits, key=lambda split: -split.size_bytes)  # so that no worker ends long after the others
    rows = [{"split": json.dumps(split.to_json())} for split in largest_first]
    mapped = ray.data.from_items(rows, override_num_blocks=len(rows)).map(
        functools.partial(_work_row, number=number, plan=plan),
        num_cpus=1,
        memory=memory_bytes or None,
        compute=ray.data.TaskPoolStrategy(size=min(workers, len(rows))),  # of more than there are rows it warns
    )
    for row in mapped.iter_rows():
        outcome = json.loads(row["outcome"])
        if "error" in outcome:
            kind, *arguments = outcome["error"]
            raise rebuilt_error(kind, arguments)
        yield _Outcome(**outcome)


@dataclass(frozen=True)
class _Outcome:
    """What came of one split: why it was done (nothing if it was done before), and seconds by stage."""

    split: int
    why: list[str]
    seconds: dict[str, float]


def _work(number: str, split: Split, plan: Plan) -> _Outcome:
    stages = Stages()
    try:
        return _Outcome(split.number, _PASSES[number](split, plan, stages), stages.seconds)
    except MemoryError as e:
        fix = "give more memory, or make prepare.split_bytes smaller; what is done is kept"
        raise ResourceError("E-MEMORY", "this process may have no more memory", where=split_name(split), found=str(e), fix=fix) from e


def check_environment() -> None:
    """Refuse an environment in which Ray Data would unpickle what it finds in data files (reliability S7).

    Raises:
        RecipeError: E-ENVIRONMENT.
    """
    if found := [name for name in UNPICKLING if os.environ.get(name, "0").lower() not in {"", "0", "false"}]:
        raise RecipeError("E-ENVIRONMENT", "Ray Data would run code from data files", found=", ".join(found), fix="unset it; nothing here needs it")


def _work_row(row: dict[str, Any], *, number: str, plan: Plan) -> dict[str, Any]:
    """Do one split's pass in a Ray worker; our own errors travel as values, so that they arrive as they were raised.

    Without memory the worker ends, as the system would end it: the next attempt has a fresh one, and the last names the document.
    """
    split = Split.from_json(json.loads(row["split"]))
    try:
        outcome = asdict(_work(number, split, plan))
    except ErnieError as e:
        if e.code == "E-MEMORY":
            os.kill(os.getpid(), signal.SIGKILL)
        outcome = {"error": [type(e).__name__, e.code, e.what, e.where, e.expected, e.found, e.fix]}
    return {"outcome": json.dumps(outcome)}


def rebuilt_error(kind: str, arguments: Sequence[str]) -> ErnieError:
    """Return the error that a worker described as [class, code, what, where, expected, found, fix]."""
    code, what, where, expected, found, fix = arguments
    error: type[ErnieError] = getattr(errors, kind)
    return error(code, what, where=where, expected=expected, found=found, fix=fix)
