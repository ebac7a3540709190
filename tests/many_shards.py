"""A manifest of very many shards: one small shard's files, under as many names (hard links)."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

from ernie_core.data.shards import write_shard
from ernie_core.manifest import FileEntry, Manifest, write_manifest
from tests.rows_helper import toy_rows

TASK = "next_sentence"
PER_COPY = 30_000
"""Names of one file; ext4 allows 65,000."""


def many_shards(folder: Path, count: int, *, rows: int = 64, files: bool = True) -> Manifest:
    """Write a prepare step of `count` shards of `rows` rows in 2 row groups, Parquet and lengths each; without `files` the manifest alone."""
    (folder / "shards").mkdir(parents=True)
    made = write_shard(folder, "shards/t-000000", toy_rows(rows), task=TASK, subset="train", group_rows=rows // 2, encodings=["parquet"])
    entries: list[FileEntry] = []
    for number in range(count):
        name = f"shards/t-{number:06d}"
        for entry in made:
            path = name + entry.path.removeprefix("shards/t-000000")
            if files and number:
                base = number // PER_COPY * PER_COPY
                place = shutil.copyfile if number == base else os.link
                place(folder / entry.path.replace("000000", f"{0 if number == base else base:06d}"), folder / path)
            entries.append(replace(entry, path=path, facts={**entry.facts, "shard": name}))
    return write_manifest(folder, Manifest("prepare", {"tasks": {TASK: {}}}, {}, tuple(entries)), ())
