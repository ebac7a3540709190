"""Rows that were made elsewhere, in the seed's format and named by file lists, as a prepare step: shards, vocabulary, manifest."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from corpus_prep.shard_stats import Stats, shard_stats
from ernie_core.data.reference import import_filelist
from ernie_core.errors import InputError
from ernie_core.manifest import Manifest, atomic_write, write_manifest
from ernie_core.normalise import normalise
from ernie_core.vocab import Vocab

SUBSETS = ("train", "valid")


def prepare_filelists(
    filelists: Mapping[str, Mapping[str, Any]],
    *,
    vocab: Vocab,
    vocab_path: str,
    normaliser_path: str,
    folder: Path,
    settings: Mapping[str, Any],
    parents: Mapping[str, str],
    say: Callable[[str], None] = print,
) -> Manifest:
    """Write the shards of every listed file, the vocabulary and the normaliser into `folder`, then the manifest.

    Args:
        filelists: task -> {"train": path of a file list, "valid": path, "token_labels": names of the further fields, "options": of the task}.
        vocab: of the files' ids.
        vocab_path, normaliser_path: where in `folder` they go; the normaliser is of text that the model is given later.
        folder: the step's folder.
        settings: what the manifest records; max_seq_len, group_rows, encodings and tasks act.
        parents: hashes of the manifests of the steps before.
        say: receives a line for each task and subset.

    Returns:
        The manifest, with fact "tasks" as `flow.prepare` has it; lines too long are the only "drops".

    Raises:
        InputError: E-TASK-EMPTY, no line of a list is left; else see `import_filelist`.
    """
    files = [
        replace(atomic_write(folder / path, data), path=path)
        for path, data in ((vocab_path, vocab.to_bytes()), (normaliser_path, normalise.to_bytes()))
    ]
    for task, lists in filelists.items():
        for subset in SUBSETS:
            files += import_filelist(
                Path(lists[subset]), folder, subset=subset, task=task, vocab=vocab, options=lists["options"], token_labels=lists["token_labels"],
                group_rows=settings["group_rows"], max_seq_len=settings["max_seq_len"], encodings=settings["encodings"],
            )  # fmt: skip
    manifest = Manifest("prepare", dict(settings), dict(parents), tuple(files))
    tasks: dict[str, Any] = {}
    for task, lists in filelists.items():
        by_subset = {subset: _counted(folder, manifest, vocab, task, subset, str(lists[subset]), say) for subset in SUBSETS}
        total = Stats()
        for stats, _ in by_subset.values():
            total.add(stats)
        drops = {"too_long": n} if (n := sum(long for _, long in by_subset.values())) else {}
        tasks[task] = {**_facts(total), **{subset: _facts(stats) for subset, (stats, _) in by_subset.items()}, "drops": drops}
    return write_manifest(folder, replace(manifest, facts={"tasks": tasks}))


def _facts(stats: Stats) -> dict[str, Any]:
    classes = {str(label): n for label, n in sorted(stats.classes.items())}
    return {"rows": stats.rows, "tokens": stats.tokens, "unknown": stats.unknown, "classes": classes, "carried": {}}


def _counted(folder: Path, manifest: Manifest, vocab: Vocab, task: str, subset: str, where: str, say: Callable[[str], None]) -> tuple[Stats, int]:
    """Return what a subset's shards hold and how many lines were too long."""
    encoding = str(manifest.settings["encodings"][0])
    total = Stats()
    for stats in shard_stats(folder, manifest, vocab, task, subset, encoding).values():
        total.add(stats)
    mine = [f.facts for f in manifest.files if f.facts.get("task") == task and f.facts.get("subset") == subset and f.facts["encoding"] == encoding]
    long = sum(facts["dropped_long"] for facts in mine)
    if not total.rows:
        raise InputError(
            "E-TASK-EMPTY", f"task {task} has no {subset} rows", where=where, expected=f"lines of at most {manifest.settings['max_seq_len']} tokens",
            found=f"{long} longer ones", fix="add files to the list, or raise the longest length",
        )  # fmt: skip
    masks = ", ".join(sorted({f"{facts['mask_word_probability']:g}" for facts in mine}))
    say(f"prepare: {task} {subset}: {total.rows:,} rows of {len(mine)} files, {long} lines too long, probability of word masking {masks}")
    return total, long
