"""Is a shard set what its manifest says: every file's hash, every row's contract, both encodings equal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np

from ernie_core.data.checks import MAX_SENT_TYPES, check_contract, check_rows
from ernie_core.data.rows import Rows
from ernie_core.data.shards import ENCODINGS, ShardSet
from ernie_core.errors import IntegrityError
from ernie_core.manifest import FileEntry, Manifest, verified_path
from ernie_core.tasks.base import all_tasks
from ernie_core.vocab import Vocab

_FIX = "delete the step's folder and run it again; if that gives the same, report it"
_COLUMNS = ("token_ids", "sentence_type_ids", "position_ids", "seg_labels", "labels")


def verify(folder: Path, manifest: Manifest, vocab: Vocab) -> Counter[str]:
    """Check everything that the manifest names, and return how much was checked: "files", "rows", "tokens".

    Raises:
        IntegrityError: E-SHARD-MISSING, E-SHARD-HASH, E-SHARD-PAGE, E-SCHEMA, E-SHARD-LENGTHS; E-TOKEN-RANGE and its like of `check_rows`;
            E-CONTRACT (a row breaks the contract of its labels), E-ENCODINGS-DIFFER, E-SHARD-CONTENT (rows are not those of the manifest).
    """
    done: Counter[str] = Counter()
    for entry in manifest.files:
        verified_path(folder, entry, siblings=manifest.files)
        done["files"] += 1
    shards: dict[tuple[str, str], list[FileEntry]] = {}
    for entry in manifest.files:
        if entry.facts.get("encoding") in ENCODINGS:
            shards.setdefault((entry.facts["task"], entry.facts["subset"]), []).append(entry)
    for (task, subset), entries in sorted(shards.items()):
        rows, tokens = _verify_subset(folder, manifest, vocab, task, subset, sorted({e.facts["encoding"] for e in entries}))
        done.update(rows=rows, tokens=tokens)
    return done


def _verify_subset(folder: Path, manifest: Manifest, vocab: Vocab, task: str, subset: str, encodings: list[str]) -> tuple[int, int]:
    check = partial(_check, vocab=vocab, task=task, options=manifest.settings.get("tasks", {}).get(task, {}))
    first, *others = (ShardSet.open(folder, manifest, task, subset, encoding, check=check) for encoding in encodings)
    held: dict[str, list[Rows]] = {}
    entries = {str(e.facts["shard"]): e for e in manifest.files if "shard" in e.facts}
    tokens = 0
    for group in range(first.num_groups):
        rows = first.read_group(group)
        tokens += rows.num_tokens
        for other in others:
            _compare(rows, other.read_group(group), f"{first.file_of(group)} and {other.file_of(group)} row group {group}")
        shard = first.shard_of(group)
        held.setdefault(shard, []).append(rows)
        if group + 1 == first.num_groups or first.shard_of(group + 1) != shard:
            _check_content(Rows.concat(held.pop(shard)), entries[shard], folder)
    return first.num_rows, tokens


def _check_content(rows: Rows, entry: FileEntry, folder: Path) -> None:
    facts = {"rows": len(rows), "tokens": rows.num_tokens, "content_sha256": rows.content_sha256()}
    for name, found in facts.items():
        if entry.facts[name] != found:
            raise IntegrityError(
                "E-SHARD-CONTENT", f"{name} of a shard differ from the manifest", where=str(folder / entry.facts["shard"]), expected=str(entry.facts[name]),
                found=str(found), fix=_FIX,
            )  # fmt: skip


def _check(rows: Rows, where: str, *, vocab: Vocab, task: str, options: Mapping[str, object]) -> None:
    """Check one row group: values in range, then the contract of the labels (DESIGN, Sample; TASKS, Units)."""
    tasks = all_tasks()
    classes = tasks[task].classes(options) if tasks[task].level == "sentence" else 0
    token_classes = {name: tasks[name].num_classes for name in rows.token_labels}
    check_rows(
        rows, where, vocab_size=vocab.size, max_positions=1 << 15, sent_types=MAX_SENT_TYPES, classes=classes, token_classes=token_classes,
        pad_id=vocab.pad_id,
    )  # fmt: skip
    check_contract(rows, where, vocab)


def _compare(one: Rows, other: Rows, where: str) -> None:
    columns = {name: (getattr(one, name), getattr(other, name)) for name in _COLUMNS}
    columns |= {f"label of {name}": (column, other.token_labels.get(name, np.zeros(0, np.int8))) for name, column in one.token_labels.items()}
    for name, (a, b) in columns.items():
        if not np.array_equal(a, b):
            raise IntegrityError(
                "E-ENCODINGS-DIFFER", f"the two encodings differ in {name}", where=where, expected="equal rows", found="others", fix=_FIX
            )
