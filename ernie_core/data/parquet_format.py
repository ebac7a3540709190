"""The Parquet encoding of rows: list columns of integers, zstd, page checksums written and verified, one row group per `group_rows` rows."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ernie_core.data.rows import Rows
from ernie_core.errors import IntegrityError

FORMAT = "1"
UNREADABLE = (pa.ArrowException, OSError, ValueError, TypeError, LookupError)
"""What opening a damaged or hostile file raises; the last three come out of Ray Data's extension types, where it is loaded and refuses to unpickle."""
_TYPES = {"token_ids": pa.int32(), "sentence_type_ids": pa.int8(), "position_ids": pa.int16(), "seg_labels": pa.int8()}
_UNITS = ("unit_labels", "unit_kind")


def schema(token_labels: Sequence[str], *, units: bool, metadata: Mapping[str, str] | None = None) -> pa.Schema:
    """Return the Arrow schema: the five columns, units where there are some, ``tok_<task>`` for each token label; nothing may be null."""
    types = {**_TYPES, **(dict.fromkeys(_UNITS, pa.int8()) if units else {}), **{f"tok_{name}": pa.int8() for name in token_labels}}
    fields = [pa.field(name, pa.list_(pa.field("element", t, nullable=False)), nullable=False) for name, t in types.items()]
    fields.append(pa.field("label", pa.int32(), nullable=False))
    return pa.schema(fields, metadata={"ernie.format": FORMAT, **{f"ernie.{k}": v for k, v in (metadata or {}).items()}})


def encode_parquet(rows: Rows, group_rows: int, metadata: Mapping[str, str]) -> bytes:
    """Return a Parquet file's bytes: a function of the arguments and the pyarrow version alone.

    Args:
        rows: the samples.
        group_rows: rows per row group.
        metadata: facts for the footer, prefixed ``ernie.``.
    """
    want = schema(list(rows.token_labels), units=rows.unit_labels is not None, metadata=metadata)
    offsets = pa.array(rows.offsets.astype(np.int32))
    columns: list[pa.Array] = []
    for field in want:
        if field.name == "label":
            columns.append(pa.array(rows.labels))
        else:
            flat = rows.token_labels[field.name[4:]] if field.name.startswith("tok_") else getattr(rows, field.name)
            columns.append(pa.ListArray.from_arrays(offsets, pa.array(flat), type=field.type))
    buffer = io.BytesIO()
    with pq.ParquetWriter(buffer, want, compression="zstd", compression_level=3, write_page_checksum=True, version="2.6") as writer:
        table = pa.Table.from_arrays(columns, schema=want)
        if len(rows):
            writer.write_table(table, row_group_size=group_rows)
    return buffer.getvalue()


def open_parquet(path: Path) -> pq.ParquetFile:
    """Open a Parquet shard with page checksums verified.

    Raises:
        IntegrityError: E-SCHEMA, not a Parquet file of ours.
    """
    try:
        return pq.ParquetFile(path, page_checksum_verification=True, memory_map=False)
    except UNREADABLE as e:
        raise IntegrityError(
            "E-SCHEMA",
            "not a readable Parquet file",
            where=str(path),
            found=str(e).split("\n", 1)[0],
            fix="delete the step's folder and run it again",
        ) from e


def decode_group(path: Path, group: int, token_labels: Sequence[str], *, units: bool) -> Rows:
    """Return one row group's rows, sample ids 0.

    Raises:
        IntegrityError: E-SCHEMA with a column-wise difference, E-SHARD-PAGE for a damaged page.
    """
    said = path.stat()
    footer = _footer(path, (said.st_size, said.st_mtime_ns), tuple(token_labels), units)
    try:
        with pa.OSFile(str(path)) as source:
            table = pq.ParquetFile(source, metadata=footer, page_checksum_verification=True).read_row_group(group, use_threads=False)
    except UNREADABLE as e:
        raise IntegrityError(
            "E-SHARD-PAGE",
            "damaged page",
            where=f"{path} row group {group}",
            found=str(e).split("\n", 1)[0],
            fix="restore the file, or delete the step's folder and run it again",
        ) from e
    return _to_rows(table, token_labels, units=units, where=f"{path} row group {group}")


@lru_cache(maxsize=256)
def _footer(path: Path, _version: tuple[int, int], token_labels: tuple[str, ...], units: bool) -> pq.FileMetaData:
    """Return the footer of this version of a file, its schema checked: groups are read in any order, and all of a shard's share one footer."""
    with open_parquet(path) as file:
        check_schema(file.schema_arrow, token_labels, units=units, where=str(path))
        return file.metadata


def read_parquet(path: Path) -> Rows:
    """Return all rows of a Parquet shard whose token labels and units are taken from its own columns.

    Raises:
        IntegrityError: E-SCHEMA, E-SHARD-PAGE.
    """
    with open_parquet(path) as file:
        names = file.schema_arrow.names
        groups = file.num_row_groups
    labels = [name[4:] for name in names if name.startswith("tok_")]
    return Rows.concat([decode_group(path, g, labels, units="unit_labels" in names) for g in range(groups)])


def check_schema(found: pa.Schema, token_labels: Sequence[str], *, units: bool, where: str) -> None:
    """Compare a file's columns with what its manifest says (reliability F60).

    Raises:
        IntegrityError: E-SCHEMA, one line per column that differs.
    """
    want = {f.name: _describe(f) for f in schema(token_labels, units=units)}
    have = {f.name: _describe(f) for f in found}
    if list(want.items()) == list(have.items()) and len(found) == len(want):
        version = (found.metadata or {}).get(b"ernie.format", b"none").decode("utf-8", "replace")
        if version != FORMAT:
            raise IntegrityError(
                "E-SCHEMA",
                "shard of another format version",
                where=where,
                expected=FORMAT,
                found=version,
                fix="prepare the data again with this version",
            )
        return
    names = sorted({*want, *have})
    differences = [f"{n}: expected {want.get(n, 'nothing')}, found {have.get(n, 'nothing')}" for n in names if want.get(n) != have.get(n)]
    raise IntegrityError(
        "E-SCHEMA",
        "columns differ from the manifest",
        where=where,
        found="; ".join(differences) or "another column order",
        fix="prepare the data again with this version",
    )


def _describe(field: pa.Field) -> str:
    kind = field.type
    if pa.types.is_list(kind):
        return f"list<{kind.value_type}{'' if not kind.value_field.nullable else ' or null'}>{' or null' if field.nullable else ''}"
    return f"{kind}{' or null' if field.nullable else ''}"


def _to_rows(table: pa.Table, token_labels: Sequence[str], *, units: bool, where: str) -> Rows:
    flat: dict[str, NDArray[Any]] = {}
    offsets: NDArray[np.int32] | None = None
    for name, chunks in zip(table.column_names, table.columns, strict=True):
        column = chunks.chunk(0) if chunks.num_chunks == 1 else chunks.combine_chunks()  # one chunk needs no copy
        if name == "label":
            flat[name] = column.to_numpy()
            continue
        mine = column.offsets.to_numpy()
        flat[name] = column.values.to_numpy()[mine[0] : mine[-1]]
        mine = mine - mine[0]
        if offsets is not None and not np.array_equal(mine, offsets):
            raise IntegrityError(
                "E-SCHEMA", "columns of a row differ in length", where=where, found=f"column {name}", fix="prepare the data again with this version"
            )
        offsets = mine
    assert offsets is not None
    return Rows(
        offsets=offsets.astype(np.int64),
        token_ids=flat["token_ids"],
        sentence_type_ids=flat["sentence_type_ids"],
        position_ids=flat["position_ids"],
        seg_labels=flat["seg_labels"],
        labels=flat["label"],
        sample_ids=np.zeros(table.num_rows, np.uint64),
        unit_labels=flat["unit_labels"] if units else None,
        unit_kind=flat["unit_kind"] if units else None,
        token_labels={name: flat[f"tok_{name}"] for name in token_labels},
    )
