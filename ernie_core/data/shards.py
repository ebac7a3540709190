"""Shards: writing rows in both encodings, and reading them back only after hash, page checksums and schema are checked.

A shard `name` is up to three files: `name.parquet`, `name.txt.gz` (one gzip member per row group) and `name.lengths.npy` (uint16
tokens per row, from which the order of training is made without opening the others). Source: DESIGN (Shard, Manifest).
"""

from __future__ import annotations

import gzip
import io
import zlib
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ernie_core.data.parquet_format import decode_group, encode_parquet
from ernie_core.data.rows import Rows
from ernie_core.data.text_format import decode_text, encode_text
from ernie_core.errors import InputError, IntegrityError, closest
from ernie_core.manifest import FileEntry, Manifest, atomic_write, verified_path
from ernie_core.seeding import combine, key

ENCODINGS = ("parquet", "text")
_SUFFIX = {"parquet": ".parquet", "text": ".txt.gz", "lengths": ".lengths.npy"}
_GZIP_LEVEL = 6  # four times faster than 9 for 5 % more bytes (measured.md 4)
_MAX_LENGTH = int(np.iinfo(np.uint16).max)


def sample_ids(content_sha256: str, task: str, num_rows: int) -> NDArray[np.uint64]:
    """Return the ids of a shard's rows, uint64[num_rows]: equal for either encoding, stored in neither (DESIGN, Shard)."""
    return combine(key(content_sha256, task), np.arange(num_rows, dtype=np.uint64))


def write_shard(
    folder: Path,
    name: str,
    rows: Rows,
    *,
    task: str,
    subset: str,
    group_rows: int,
    encodings: Sequence[str],
    extra_facts: Mapping[str, Any] | None = None,
) -> list[FileEntry]:
    """Write one shard's files atomically and return their manifest entries, paths relative to `folder`.

    The bytes depend on rows, task, group_rows and library versions alone.

    Args:
        folder: the folder that the entries' paths are relative to.
        name: the shard's path in it, without suffix, such as ``shards/next_sentence/train-00003``.
        rows: the samples; their sample ids are not stored.
        task: the pretraining task they belong to.
        subset: "train" or "valid".
        group_rows: rows per row group, the unit of shuffling and reading.
        encodings: "parquet", "text" or both.
        extra_facts: further facts for each entry, such as mask_word_probability.

    Raises:
        InputError: E-NAME for an unknown encoding, E-SAMPLE-FORMAT for a row without tokens or too long.
        ResourceError: disk full, no permission.
    """
    unknown = [e for e in encodings if e not in ENCODINGS]
    if unknown or not encodings:
        raise InputError("E-NAME", f"unknown encodings {unknown}", expected=" or ".join(ENCODINGS), fix="correct prepare.encodings")
    lengths = rows.lengths
    if len(rows) and not 1 <= lengths.min() <= lengths.max() <= _MAX_LENGTH:
        raise InputError(
            "E-SAMPLE-FORMAT",
            "row length out of range",
            where=name,
            expected=f"1 to {_MAX_LENGTH}",
            found=f"{lengths.min()} to {lengths.max()}",
            fix="leave the row out",
        )
    starts = range(0, len(rows), group_rows)
    sizes = [min(group_rows, len(rows) - start) for start in starts]
    facts = {
        "shard": name, "task": task, "subset": subset, "rows": len(rows), "tokens": rows.num_tokens, "content_sha256": rows.content_sha256(),
        "group_rows": sizes, "token_labels": list(rows.token_labels), "units": rows.unit_labels is not None, **(extra_facts or {}),
    }  # fmt: skip
    entries = []
    for encoding in ("lengths", *sorted(encodings)):
        data, more = _encode(rows, encoding, group_rows, task)
        path = name + _SUFFIX[encoding]
        entries.append(replace(atomic_write(folder / path, data), path=path, facts={**facts, "encoding": encoding, **more}))
    return entries


def _encode(rows: Rows, encoding: str, group_rows: int, task: str) -> tuple[bytes, dict[str, Any]]:
    """Return a file's bytes and the facts that only this encoding has."""
    if encoding == "parquet":
        return encode_parquet(rows, group_rows, {"task": task}), {}
    if encoding == "lengths":
        return _npy(rows.lengths.astype(np.uint16)), {}
    members = gzip_members(rows, group_rows)
    bounds = np.cumsum([0, *map(len, members)]).tolist()
    return b"".join(members), {"group_bytes": [list(pair) for pair in pairwise(bounds)]}


def gzip_members(rows: Rows, group_rows: int) -> list[bytes]:
    """Return the text encoding as one gzip member per row group: fixed level, no time stamp. Their concatenation is a gzip file."""
    starts = range(0, len(rows), group_rows)
    return [gzip.compress(encode_text(rows.take(np.arange(start, min(start + group_rows, len(rows))))), _GZIP_LEVEL, mtime=0) for start in starts]


def _npy(array: NDArray[np.uint16]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


Check = Callable[[Rows, str], None]


class ShardSet:
    """All shards of one task and subset in one encoding, seen as a list of row groups (the shards in order of their names).

    Holds a cache of decoded row groups, oldest use out first, bounded in bytes.
    """

    def __init__(
        self, folder: Path, entries: Sequence[FileEntry], lengths: Sequence[NDArray[np.uint16]], cache_bytes: int, check: Check | None
    ) -> None:
        self._folder, self._check = folder, check
        self._shards = list(entries)
        self._lengths = list(lengths)
        self._cache: OrderedDict[int, Rows] = OrderedDict()
        self._cache_bytes, self._held_bytes = cache_bytes, 0
        self._groups = [(s, i) for s, entry in enumerate(entries) for i in range(len(entry.facts["group_rows"]))]
        self._bounds = [np.cumsum([0, *e.facts["group_rows"]]) for e in entries]
        self._bases = np.array([key(e.facts["content_sha256"], e.facts["task"]) for e in entries], dtype=np.uint64)
        self._places = np.array([(s, self._bounds[s][i]) for s, i in self._groups], dtype=np.int64).reshape(-1, 2)

    @staticmethod
    def open(
        folder: Path, manifest: Manifest, task: str, subset: str, encoding: str, cache_bytes: int = 128 << 20, check: Check | None = None
    ) -> ShardSet:
        """Return the shards of `task` and `subset` that the manifest names; only the lengths files are read now.

        A subset without shards gives a set of no groups. `check(rows, shard and group)` sees each row group once, as it is read.

        Raises:
            InputError: E-TASK-EMPTY (the task has no shards at all), E-ENCODING (it has none in this encoding).
            IntegrityError: E-SHARD-MISSING, E-SHARD-HASH, E-SHARD-LENGTHS.
        """
        mine = [e for e in manifest.files if e.facts.get("task") == task]
        if not mine:
            tasks = sorted({e.facts["task"] for e in manifest.files if "task" in e.facts})
            raise InputError(
                "E-TASK-EMPTY",
                f"there are no shards of task {task!r}",
                where=str(folder),
                expected=f"one of {closest(task, tasks)}",
                fix="prepare this task, or take it out of the stages",
            )
        held = {e.facts["encoding"] for e in mine} - {"lengths"}
        if encoding not in held:
            raise InputError(
                "E-ENCODING",
                f"task {task!r} was not prepared as {encoding!r}",
                where=str(folder),
                expected=" or ".join(sorted(held)),
                fix="choose that encoding, or prepare with this one too",
            )
        chosen = sorted((e for e in mine if e.facts["subset"] == subset and e.facts["encoding"] == encoding), key=lambda e: str(e.facts["shard"]))
        lengths_entries = {e.facts["shard"]: e for e in mine if e.facts["encoding"] == "lengths"}
        return ShardSet(folder, chosen, [_read_lengths(folder, e, lengths_entries.get(e.facts["shard"])) for e in chosen], cache_bytes, check)

    @property
    def num_groups(self) -> int:
        return len(self._groups)

    @property
    def num_rows(self) -> int:
        return sum(len(lengths) for lengths in self._lengths)

    @property
    def token_label_names(self) -> tuple[str, ...]:
        return tuple(self._shards[0].facts["token_labels"]) if self._shards else ()

    @property
    def group_lengths(self) -> list[NDArray[np.uint16]]:
        """Return tokens per row of each row group, uint16[rows of the group]."""
        return [self._lengths[s][self._bounds[s][i] : self._bounds[s][i + 1]] for s, i in self._groups]

    def file_of(self, group: int) -> str:
        """Return the manifest path of the file that holds the group."""
        return self._shards[self._groups[group][0]].path

    def shard_of(self, group: int) -> str:
        """Return the name of the shard that holds the group, the same for either encoding."""
        return str(self._shards[self._groups[group][0]].facts["shard"])

    def sample_ids(self, groups: NDArray[np.integer], rows: NDArray[np.integer]) -> NDArray[np.uint64]:
        """Return the ids of row rows[k] of group groups[k], uint64[n]; no shard is opened."""
        shards, starts = self._places[np.asarray(groups, dtype=np.int64)].T
        return combine(self._bases[shards], (starts + np.asarray(rows)).astype(np.uint64))

    def mask_word_probability(self, group: int) -> float | None:
        """Return the seed's per-file probability of word masking, or None where the shard has none."""
        value = self._shards[self._groups[group][0]].facts.get("mask_word_probability")
        return None if value is None else float(value)

    def read_group(self, group: int) -> Rows:
        """Return one row group with its sample ids; its file's hash is checked the first time.

        Raises:
            IntegrityError: E-SHARD-MISSING, E-SHARD-HASH, E-SCHEMA, E-SHARD-LENGTHS.
        """
        if group in self._cache:
            self._cache.move_to_end(group)
            return self._cache[group]
        shard, i = self._groups[group]
        entry = self._shards[shard]
        path = verified_path(self._folder, entry, siblings=self._shards)
        if entry.facts["encoding"] == "parquet":
            rows = decode_group(path, i, entry.facts["token_labels"], units=entry.facts["units"])
        else:
            rows = _read_text_group(path, entry.facts, i)
        start, end = (int(b) for b in self._bounds[shard][i : i + 2])
        if not np.array_equal(rows.lengths, self._lengths[shard][start:end]):
            raise IntegrityError(
                "E-SHARD-LENGTHS",
                "row lengths differ from the lengths file",
                where=f"{path} row group {i}",
                fix="delete the step's folder and run it again",
            )
        if self._check is not None:
            self._check(rows, f"{path} row group {i}")
        rows = rows.with_sample_ids(combine(self._bases[shard], np.arange(start, end, dtype=np.uint64)))
        self._remember(group, rows)
        return rows

    def _remember(self, group: int, rows: Rows) -> None:
        self._cache[group] = rows
        self._held_bytes += _size_bytes(rows)
        while len(self._cache) > 1 and self._held_bytes > self._cache_bytes:
            self._held_bytes -= _size_bytes(self._cache.popitem(last=False)[1])

    def gather(self, groups: NDArray[np.integer], rows: NDArray[np.integer]) -> Rows:
        """Return row rows[k] of group groups[k] for each k, in that order (int[n] each)."""
        wanted, which = np.unique(np.asarray(groups), return_inverse=True)
        order = np.argsort(which, kind="stable")
        parts = [self.read_group(int(g)).take(np.asarray(rows)[which == k]) for k, g in enumerate(wanted)]
        back = np.empty(len(order), np.int64)
        back[order] = np.arange(len(order))
        return Rows.concat(parts).take(back)


def _size_bytes(rows: Rows) -> int:
    return rows.num_tokens * (10 + len(rows.token_labels)) + len(rows) * 20


def _read_lengths(folder: Path, shard: FileEntry, entry: FileEntry | None) -> NDArray[np.uint16]:
    if entry is None:
        raise IntegrityError(
            "E-SHARD-MISSING",
            "the manifest names no lengths file for a shard",
            where=str(folder / shard.path),
            fix="delete the step's folder and run it again",
        )
    data = verified_path(folder, entry).read_bytes()
    num_rows = sum(shard.facts["group_rows"])
    lengths = np.frombuffer(data[-2 * num_rows :] if num_rows and len(data) >= 2 * num_rows else b"", np.uint16)
    if _npy(lengths) != data or len(lengths) != shard.facts["rows"]:
        raise IntegrityError(
            "E-SHARD-LENGTHS",
            "lengths file does not fit its shard",
            where=str(folder / entry.path),
            expected=f"{shard.facts['rows']} uint16 in numpy's format",
            found=f"{len(data)} bytes",
            fix="delete the step's folder and run it again",
        )
    return lengths


def _read_text_group(path: Path, facts: Mapping[str, Any], group: int) -> Rows:
    start, end = facts["group_bytes"][group]
    with path.open("rb") as f:
        f.seek(start)
        member = f.read(end - start)
    try:
        data = gzip.decompress(member)
    except (gzip.BadGzipFile, EOFError, zlib.error) as e:
        raise IntegrityError(
            "E-SHARD-PAGE",
            "damaged gzip member",
            where=f"{path} row group {group}",
            found=str(e),
            fix="restore the file, or delete the step's folder and run the step again",
        ) from e
    return decode_text(data, f"{path} row group {group}", facts["token_labels"])
