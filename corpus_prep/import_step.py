"""The `import` step: text and benchmarks that are not files of the recipe's corpora, as files of the run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from corpus_prep.benchmark_files import benchmark_inputs, import_benchmark
from corpus_prep.packages import import_corpora, package_files
from ernie_core.manifest import Manifest, file_sha256, write_manifest
from ernie_core.normalise import normalise


def import_step(
    *,
    corpora: Sequence[str],
    benchmarks: Mapping[str, Mapping[str, Any]],
    folder: Path,
    seed: int,
    settings: Mapping[str, Any],
    say: Callable[[str], None] = print,
) -> Manifest:
    """Write the packages' text and every benchmark's rows into `folder`, then its manifest; facts hold the hashes of the files read.

    Args:
        corpora: names of packages.
        benchmarks: the recipe's entry -> where its rows come from, see `benchmark_files.import_benchmark`.
        folder: the step's folder.
        seed: the recipe's seed.
        settings: what the manifest records.
        say: receives progress lines.

    Raises:
        InputError, RecipeError: see `import_corpora` and `import_benchmark`.
    """
    entries = import_corpora(corpora, folder)
    for entry in entries:
        say(f"import: {entry.path} {entry.facts['documents']} rows, {entry.size_bytes} bytes")
    for name, wanted in benchmarks.items():
        entries += import_benchmark(name, wanted, folder, seed, say)
    packages = sorted({*corpora, *(str(b["package"]) for b in benchmarks.values() if b["package"] is not None)})
    sources = {name: {path.name: file_sha256(path) for path in package_files(name)} for name in packages}
    files = {name: {s: file_sha256(path) for s, (path, _) in benchmark_inputs(name, wanted).items()} for name, wanted in benchmarks.items()}
    facts = {"sources": sources, "benchmarks": {name: hashes for name, hashes in files.items() if hashes}, "normaliser": normalise.version}
    return write_manifest(folder, Manifest("import", dict(settings), {}, tuple(entries), facts))
