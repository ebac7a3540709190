"""Parquet files as input: cut by rows, and read as JSON lines, so that a row is a record like any other."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from corpus_prep.inputs import MAX_PARTS, Part
from corpus_prep.stores import InputFile, open_input
from ernie_core.data.parquet_format import UNREADABLE
from ernie_core.errors import InputError, printable

_BATCH_ROWS = 1024


def _damaged(path: str, error: Exception) -> InputError:
    return InputError("E-PARQUET", "a Parquet file is damaged or none", where=path, found=str(error), fix="fetch it again; nothing of it was used")


def parquet_parts(file: InputFile, columns: Mapping[str, bool], corpus: str, part_bytes: int) -> list[Part]:
    """Return a file's parts, of about equal numbers of rows.

    Args:
        file: plain Parquet.
        columns: those it must have, by name -> whether numbers will do.
        corpus: its name, for messages.
        part_bytes: of the expanded columns together, about.

    Raises:
        InputError: E-PARQUET; E-SCHEMA, a column that is missing or holds no text (or lists), each named.
    """
    try:
        with open_input(file.path) as f, pq.ParquetFile(f) as parquet:
            schema, metadata = parquet.schema_arrow, parquet.metadata
            size = sum(metadata.row_group(i).total_byte_size for i in range(metadata.num_row_groups))
            rows = metadata.num_rows
    except InputError:
        raise
    except UNREADABLE as e:
        raise _damaged(file.path, e) from e
    held = {field.name: field.type for field in schema}
    problems = [f"{name} is missing" for name in columns if name not in held]
    problems += [f"{name} is {held[name]}" for name, scalar in columns.items() if name in held and not _fits(held[name], scalar=scalar)]
    if problems:
        raise InputError(
            "E-SCHEMA", f"corpus {corpus!r} asks for other columns than a file has", where=file.path, expected=f"{', '.join(columns)} as text or lists",
            found=f"{'; '.join(problems)}; the file has {printable(', '.join(f'{name} ({kind})' for name, kind in held.items()), 400)}", fix="correct the corpus's options",
        )  # fmt: skip
    count = max(1, min(rows, MAX_PARTS * metadata.num_row_groups, -(-size // part_bytes)))
    bounds = [rows * i // count for i in range(count + 1)]
    return [Part(file.path, a, b, size * (b - a) // rows) for a, b in itertools.pairwise(bounds) if b > a]


def parquet_rows(part: Part, columns: Iterable[str]) -> bytes:
    """Return rows start:end as JSON lines of the columns asked for; bytes that are not UTF-8 stay as they are, for the reader to reject.

    Raises:
        InputError: E-PARQUET.
    """
    try:
        return b"".join(_lines(part, list(dict.fromkeys(columns))))
    except InputError:
        raise
    except UNREADABLE as e:
        raise _damaged(part.path, e) from e


def _lines(part: Part, columns: list[str]) -> Iterator[bytes]:
    with open_input(part.path) as f, pq.ParquetFile(f, page_checksum_verification=True) as parquet:
        groups: list[int] = []
        first = skipped = 0
        for i in range(parquet.metadata.num_row_groups):
            count = parquet.metadata.row_group(i).num_rows
            if first < part.end and part.start < first + count:
                groups.append(i)
            elif first + count <= part.start:
                skipped = first + count
            first += count
        at = skipped
        for batch in parquet.iter_batches(_BATCH_ROWS, row_groups=groups, columns=columns):
            wanted = batch.slice(max(0, part.start - at), max(0, min(part.end - at, batch.num_rows) - max(0, part.start - at)))
            at += batch.num_rows
            values = [_values(wanted.column(name)) for name in columns]
            yield from (_line(dict(zip(columns, row, strict=True))) for row in zip(*values, strict=True))


def _values(column: Any) -> list[Any]:
    """Return a column's values; text as bytes, so that what is not UTF-8 fails in its own row only."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        column, kind = column.dictionary_decode(), kind.value_type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        column = column.cast(pa.large_binary())
    elif (pa.types.is_list(kind) or pa.types.is_large_list(kind)) and (
        pa.types.is_string(kind.value_type) or pa.types.is_large_string(kind.value_type)
    ):
        column = column.cast(pa.large_list(pa.large_binary()))
    try:
        return list(column.to_pylist())
    except UnicodeDecodeError:  # text inside structs
        return [_value(item) for item in column]


def _value(item: Any) -> Any:
    try:
        return item.as_py()
    except UnicodeDecodeError as e:
        return e.object


def _fits(kind: Any, *, scalar: bool) -> bool:
    types = pa.types
    if types.is_dictionary(kind):
        return _fits(kind.value_type, scalar=scalar)
    text = types.is_string(kind) or types.is_large_string(kind) or types.is_list(kind) or types.is_large_list(kind)
    return bool(text or (scalar and (types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind))))


def _line(row: dict[str, Any]) -> bytes:
    return json.dumps(row, ensure_ascii=False, default=_plain).encode("utf-8", "surrogateescape") + b"\n"


def _plain(value: Any) -> str:
    return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else str(value)
