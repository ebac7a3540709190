"""The seed's own files: file lists of gzip text, and conversion of single files between the two encodings.

Source: reference ernie.md 1.2 and 1.3; what the published reader lets pass in silence (ids, lengths, drops) is counted or refused here.
"""

from __future__ import annotations

import gzip
import math
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from ernie_core.data.checks import MAX_SENT_TYPES, check_contract, check_rows
from ernie_core.data.parquet_format import encode_parquet, read_parquet
from ernie_core.data.rows import Rows
from ernie_core.data.shards import ShardSet, gzip_members, write_shard
from ernie_core.data.text_format import decode_text
from ernie_core.errors import InputError, printable
from ernie_core.manifest import FileEntry, atomic_write
from ernie_core.tasks.base import Task, all_tasks
from ernie_core.vocab import Vocab

_BLOCK_LINES = 512  # larger blocks are slower: they leave the processor cache


@dataclass(frozen=True)
class ListedFile:
    """One line of a file list: a gzip text file and the probability of word masking, compared with one draw per visit of the file."""

    path: Path
    mask_word_probability: float


def read_filelist(filelist: Path) -> list[ListedFile]:
    """Read ``path TAB mask_word_probability`` lines; a relative path is looked for from the working folder, then beside the list.

    Example: ``data/demo_train_set.gz\\t1.1\\n`` -> ``[ListedFile(Path("data/demo_train_set.gz"), 1.1)]``; 1.1 means always words.

    Raises:
        InputError: E-FILELIST naming the line.
    """
    try:
        lines = filelist.read_text(encoding="utf-8").splitlines()
    except (FileNotFoundError, IsADirectoryError, UnicodeDecodeError) as e:
        raise InputError("E-FILELIST", "cannot read the file list", where=str(filelist), found=str(e), fix="give a UTF-8 text file") from e
    files = [_listed(line, filelist, i + 1) for i, line in enumerate(lines) if line.strip()]
    if not files:
        raise InputError("E-FILELIST", "the file list is empty", where=str(filelist), expected="path TAB probability", fix="name at least one file")
    return files


def _listed(line: str, filelist: Path, number: int) -> ListedFile:
    where = f"{filelist} line {number}"
    fields = line.split("\t")
    if len(fields) != 2:
        raise InputError(
            "E-FILELIST",
            "not two columns",
            where=where,
            expected="path TAB mask_word_probability",
            found=printable(line),
            fix="add the probability (1.1: always words)",
        )
    try:
        probability = float(fields[1])
    except ValueError:
        probability = math.nan
    if not (math.isfinite(probability) and probability >= 0):
        raise InputError(
            "E-FILELIST",
            "not a probability",
            where=where,
            expected="a number from 0; above 1 means always words",
            found=printable(fields[1]),
            fix="correct the second column",
        )
    found = [p for p in (Path(fields[0]), filelist.parent / fields[0]) if p.is_file()]
    if not found:
        raise InputError(
            "E-FILELIST",
            "a listed file is missing",
            where=where,
            found=printable(fields[0], 400),
            fix="correct the path; it is looked for from here and beside the list",
        )
    return ListedFile(found[0], probability)


def import_filelist(
    filelist: Path,
    folder: Path,
    *,
    subset: str,
    task: str,
    vocab: Vocab,
    options: Mapping[str, Any] | None = None,
    token_labels: Sequence[str] = (),
    group_rows: int = 512,
    max_seq_len: int = 512,
    encodings: Sequence[str] = ("parquet", "text"),
) -> list[FileEntry]:
    """Write one shard ``shards/<task>/<subset>-NNNNN`` per listed file into `folder` and return the manifest entries.

    Every line is checked, by itself and against `vocab`. Lines longer than `max_seq_len` tokens are left out, as the published reader does:
    fact ``dropped_long``. Of a sentence-level task the text encoding holds the other lines byte for byte once decompressed; other tasks have
    no sentence-level label, so the lines' last field becomes -1. Further facts: ``mask_word_probability`` and ``source`` (the file's path).

    Args:
        filelist: see `read_filelist`.
        folder: the folder that the entries' paths are relative to.
        subset: "train" or "valid".
        task: the pretraining task that the lines are rows of; what it does when a row is read is done here too.
        vocab: the vocabulary of the token ids.
        options: of the task.
        token_labels: the fields between seg_labels and label, in order, by the tasks whose labels they are: () for five fields a line,
            ("capitalization", "token_document") for seven.
        group_rows, encodings: see `write_shard`.
        max_seq_len: tokens of the longest line to keep.

    Raises:
        InputError: E-FILELIST; E-GZIP for a damaged file; with file and line E-SAMPLE-FORMAT, E-CONTRACT, E-TOKEN-RANGE and its like.
    """
    entries: list[FileEntry] = []
    for number, listed in enumerate(read_filelist(filelist)):
        check = partial(_check_lines, path=listed.path, task=all_tasks()[task], options=options or {}, vocab=vocab)
        rows = read_text_file(listed.path, token_labels, check)
        if all_tasks()[task].level != "sentence":
            rows = replace(rows, labels=np.full_like(rows.labels, -1))
        keep = np.flatnonzero(rows.lengths <= max_seq_len)
        facts = {"mask_word_probability": listed.mask_word_probability, "source": str(listed.path), "dropped_long": len(rows) - len(keep)}
        name = f"shards/{task}/{subset}-{number:05d}"
        entries += write_shard(folder, name, rows.take(keep), task=task, subset=subset, group_rows=group_rows, encodings=encodings, extra_facts=facts)
    return entries


def _check_lines(rows: Rows, first_line: int, *, path: Path, task: Task, options: Mapping[str, Any], vocab: Vocab) -> None:
    """Refuse the first line of a block that is no row of the task under the vocabulary."""
    classes = task.classes(options) if task.level == "sentence" else int(np.iinfo(np.int32).max)
    token_classes = {name: all_tasks()[name].num_classes for name in rows.token_labels}
    check_rows(
        rows, str(path), vocab_size=vocab.size, max_positions=1 << 15, sent_types=MAX_SENT_TYPES, classes=classes, token_classes=token_classes,
        pad_id=vocab.pad_id, first_line=first_line,
    )  # fmt: skip
    check_contract(rows, str(path), vocab, first_line=first_line)
    if task.at_read is None or not len(rows):
        return
    ends = np.add.reduceat(rows.token_ids == vocab.sep_id, rows.offsets[:-1], dtype=np.int64)
    row = int(np.argmax(ends))  # the most segments
    if (label := task.at_read(rows.sample(row), 0).label) >= classes:
        raise InputError(
            "E-LABEL-RANGE", f"{ends[row]} segments give a label that task {task.name} does not have", where=f"{path} line {first_line + row}",
            expected=f"0 to {classes - 1}", found=str(label), fix="correct or remove the line, or set the task's options",
        )  # fmt: skip


def read_text_file(path: Path, token_label_names: Sequence[str] = (), check: Callable[[Rows, int], None] | None = None) -> Rows:
    """Read a whole ``.gz`` text file, sample ids 0; `check` is given each block of rows and the line of its first.

    Raises:
        InputError: E-GZIP (not gzip, cut off or damaged), E-SAMPLE-FORMAT with the line; what `check` raises.
    """
    if path.suffix != ".gz":
        raise InputError("E-GZIP", "not a .gz file", where=str(path), fix="compress it with gzip and name it .gz")
    parts = []
    try:
        with gzip.open(path) as f:
            for line, block in _blocks(f):
                parts.append(decode_text(b"".join(block), str(path), token_label_names, first_line=line))
                if check is not None:
                    check(parts[-1], line)
    except (gzip.BadGzipFile, EOFError, zlib.error) as e:
        raise InputError("E-GZIP", "gzip file is damaged or cut off", where=str(path), found=str(e), fix="fetch or make the file again") from e
    return Rows.concat(parts)


def _blocks(file: gzip.GzipFile) -> Iterator[tuple[int, list[bytes]]]:
    line = 1
    while block := list(islice(file, _BLOCK_LINES)):
        yield line, block
        line += len(block)


def convert_shard_file(source: Path, target: Path, *, token_labels: Sequence[str] = (), group_rows: int = 512) -> list[str]:
    """Convert one file, ``.gz`` text to ``.parquet`` or back; the five columns and token labels go over unchanged.

    There and back gives the same bytes, decompressed. Parquet says which token labels it holds; text needs `token_labels`.

    Returns:
        What the target cannot hold: ``unit_labels`` and ``unit_kind`` when text is written from a file that has them.

    Raises:
        InputError: E-CONVERT for other endings, E-GZIP, E-SAMPLE-FORMAT.
        IntegrityError: E-SCHEMA, E-SHARD-PAGE.
    """
    kinds = (source.suffix, target.suffix)
    if kinds == (".gz", ".parquet"):
        atomic_write(target, encode_parquet(read_text_file(source, token_labels), group_rows, {}))
        return []
    if kinds == (".parquet", ".gz"):
        rows = read_parquet(source)
        atomic_write(target, b"".join(gzip_members(rows, group_rows)))
        return [] if rows.unit_labels is None else ["unit_labels", "unit_kind"]
    raise InputError(
        "E-CONVERT", "cannot convert these", where=f"{source} to {target}", expected=".gz to .parquet, or .parquet to .gz", fix="name the files so"
    )


def export_rows(shards: ShardSet, out: Path, subset: str, mask_word_probability: float) -> list[str]:
    """Write a subset's rows as the published reader takes them: ``out/<subset>-NNNNN.gz`` a shard, five fields, and the list ``out/<subset>_filelist``.

    The list names the files as `out` does, from the working folder or absolute, and is written last. Units have no place in five fields, nor
    have token labels; the one label of a row of a token-level task is -1.

    Args:
        shards: the rows, of either encoding.
        out: the folder to write into.
        subset: "train" or "valid".
        mask_word_probability: what the list says of each file.

    Returns:
        The token labels that were left out.

    Raises:
        IntegrityError: see `ShardSet.read_group`.
        ResourceError: disk full, no permission.
    """
    by_shard: dict[str, list[int]] = {}
    for group in range(shards.num_groups):
        by_shard.setdefault(shards.shard_of(group), []).append(group)
    lines = []
    left_out: dict[str, None] = {}
    for name, groups in by_shard.items():
        members = []
        for group in groups:
            rows = shards.read_group(group)
            left_out.update(dict.fromkeys(rows.token_labels))
            members += gzip_members(replace(rows, token_labels={}), len(rows))
        path = out / f"{Path(name).name}.gz"
        atomic_write(path, b"".join(members))
        lines.append(f"{path}\t{mask_word_probability:g}\n")
    atomic_write(out / f"{subset}_filelist", "".join(lines).encode())
    return list(left_out)
