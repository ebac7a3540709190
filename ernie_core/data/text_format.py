"""The seed's text encoding of rows: ``token_ids;sentence_type_ids;position_ids;seg_labels;label``, one row a line (DESIGN, Contracts).

Token-level labels are further fields between seg_labels and label, in a given order. Reading is strict: only what `encode_text`
would write is accepted, so text -> rows -> text gives the bytes back. Source: the published reader, reference ernie.md 1.1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ernie_core.data.rows import Rows
from ernie_core.errors import InputError, printable

_SPACE, _MINUS, _ZERO, _NINE, _SEMICOLON, _NEWLINE = (ord(c) for c in " -09;\n")
_TOKEN_FIELDS = ("token_ids", "sentence_type_ids", "position_ids", "seg_labels")
_DTYPES: tuple[type[np.signedinteger], ...] = (np.int32, np.int8, np.int16, np.int8)
_MAX_WIDTH = 10  # "-99999999" and "2147483647" fit; what does not fit its column is refused by value


def encode_text(rows: Rows) -> bytes:
    """Return `rows` as text, token labels in the order of `rows.token_labels`. Units cannot be held and are left out.

    Example: [CLS] 好 [SEP] with label 1 -> ``b"1 5 2;0 0 0;0 1 2;-1 0 -1;1\\n"``.

    Raises:
        InputError: E-SAMPLE-FORMAT, a row without tokens.
    """
    lengths = rows.lengths
    if len(rows) and lengths.min() < 1:
        raise InputError("E-SAMPLE-FORMAT", "a row without tokens", where=f"row {int(lengths.argmin())}", fix="leave the row out")
    columns = [getattr(rows, name) for name in _TOKEN_FIELDS] + list(rows.token_labels.values())
    first, positions = _layout(rows.offsets, len(columns))
    values = np.empty(int(first[-1]), np.int64)
    separators = np.full(len(values), _SPACE, np.uint8)
    for c, column in enumerate(columns):
        values[positions + np.repeat(c * lengths, lengths)] = column
        separators[first[:-1] + (c + 1) * lengths - 1] = _SEMICOLON
    values[first[1:] - 1] = rows.labels
    separators[first[1:] - 1] = _NEWLINE
    return _render(values, separators)


def _layout(offsets: NDArray[np.int64], num_columns: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return (index of each row's first integer in file order int64[n + 1], index of each token's first field int64[N])."""
    lengths = np.diff(offsets)
    first = np.concatenate([[0], np.cumsum(lengths * num_columns + 1)]).astype(np.int64)
    return first, np.arange(offsets[-1]) + np.repeat(first[:-1] - offsets[:-1], lengths)


def _render(values: NDArray[np.int64], separators: NDArray[np.uint8]) -> bytes:
    """Return each integer in decimal followed by its separator byte."""
    if not len(values):
        return b""
    low, high = int(values.min()), int(values.max())
    names, of = (np.arange(low, high + 1), values - low) if high - low < len(values) else np.unique(values, return_inverse=True)
    spelled = np.array([f" {name}".encode() for name in names.tolist()])[of]
    characters = spelled.view(np.uint8).reshape(len(values), -1)  # each with a place for the separator before it, and 0 where a longer one has digits
    characters[0, 0] = 0
    characters[1:, 0] = separators[:-1]
    return characters.tobytes().translate(None, b"\0") + separators[-1:].tobytes()


@dataclass(frozen=True)
class _Source:
    """Text being read, and where it comes from."""

    data: bytes
    where: str
    first_line: int

    def bad(self, byte: int, what: str, expected: str) -> InputError:
        line = self.data.count(b"\n", 0, byte) + self.first_line
        start = self.data.rfind(b"\n", 0, byte) + 1
        near = self.data[max(start, byte - 20) : byte + 20].split(b"\n")[0]
        where = f"{self.where} line {line} byte {byte - start}"
        return InputError("E-SAMPLE-FORMAT", what, where=where, expected=expected, found=repr(printable(near)), fix="correct or remove the line")


def decode_text(data: bytes, where: str, token_label_names: Sequence[str] = (), first_line: int = 1) -> Rows:
    """Return the rows of text lines, without units and with sample ids 0.

    Args:
        data: whole lines, each ended by LF.
        where: names the source in errors; the line number is added.
        token_label_names: the further fields between seg_labels and label.
        first_line: the number of the first line, for errors.

    Example: ``decode_text(b"1 5 2;0 0 0;0 1 2;-1 0 -1;1\\n", "x.gz").labels`` -> ``[1]``.

    Raises:
        InputError: E-SAMPLE-FORMAT with line number: field count, lengths that differ, anything but plain integers, a value out of range.
    """
    source = _Source(data, where, first_line)
    raw = np.frombuffer(data, np.uint8)
    if data and not data.endswith(b"\n"):
        raise source.bad(len(data) - 1, "the last line is cut off", "LF at its end")
    ends = np.flatnonzero((raw == _SPACE) | (raw == _SEMICOLON) | (raw == _NEWLINE))
    values = _parse(source, raw, ends)
    num_columns = len(_TOKEN_FIELDS) + len(token_label_names)
    lengths = _row_lengths(source, raw[ends], ends, num_columns)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    first, positions = _layout(offsets, num_columns)
    at = [positions + np.repeat(c * lengths, lengths) for c in range(num_columns)] + [first[1:] - 1]
    dtypes: list[type[np.signedinteger]] = [*_DTYPES, *[np.int8] * len(token_label_names), np.int32]
    columns = [_fit(source, values[p], dtype, ends[p]) for p, dtype in zip(at, dtypes, strict=True)]
    return Rows(
        offsets=offsets,
        token_ids=columns[0],
        sentence_type_ids=columns[1],
        position_ids=columns[2],
        seg_labels=columns[3],
        labels=columns[-1],
        sample_ids=np.zeros(len(lengths), np.uint64),
        token_labels=dict(zip(token_label_names, columns[4:-1], strict=True)),
    )


def _parse(source: _Source, raw: NDArray[np.uint8], ends: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the integers that end before each of `ends`, refusing anything that is not one in its only spelling."""
    starts = np.concatenate([np.zeros(1, np.int64), ends[:-1] + 1])[: len(ends)]
    negative = raw[starts] == _MINUS
    first = starts + negative
    digits = ends - first
    is_digit = (raw >= _ZERO) & (raw <= _NINE)
    known = is_digit.copy()
    known[ends] = True
    known[starts[negative]] = True
    if not known.all():
        raise source.bad(int(np.argmin(known)), "not an integer", "digits, after at most one minus sign")
    if len(digits) and digits.min() < 1:
        raise source.bad(int(ends[np.argmin(digits)]), "an integer is missing", "one between separators")
    odd = ((raw[first] == _ZERO) & (negative | (digits > 1))) | (digits + negative > _MAX_WIDTH)
    if odd.any():
        raise source.bad(int(starts[np.argmax(odd)]), "integer in another spelling", "no leading zero, no -0, at most 10 characters")
    values = np.zeros(len(ends), np.int64)
    index = np.arange(len(ends))
    for place in range(int(digits.max(initial=0))):
        index = index[digits[index] > place]
        values[index] = values[index] * 10 + (raw[first[index] + place] - _ZERO)
    values[negative] *= -1
    return values


def _row_lengths(source: _Source, separators: NDArray[np.uint8], ends: NDArray[np.int64], num_columns: int) -> NDArray[np.int64]:
    """Return tokens per row, int64[n], after checking that every line has `num_columns` equally long fields and one label."""
    line_ends = np.flatnonzero(separators == _NEWLINE)
    field_ends = np.flatnonzero((separators == _SEMICOLON) | (separators == _NEWLINE))
    per_line = np.diff(np.searchsorted(field_ends, line_ends, side="right"), prepend=0)
    wrong = per_line != num_columns + 1
    if wrong.any():
        line = int(np.argmax(wrong))
        expected = f"{num_columns + 1} fields separated by ';'"
        if num_columns == len(_TOKEN_FIELDS) and per_line[line] > num_columns + 1:
            expected += "; of more, those between seg_labels and label must be named: token_labels of a recipe's filelists, --token-label of convert"
        raise source.bad(int(ends[line_ends[line]]), f"{per_line[line]} fields", expected)
    fields = np.diff(field_ends, prepend=-1).reshape(-1, num_columns + 1)
    ragged = (fields[:, :-1] != fields[:, :1]).any(axis=1) | (fields[:, -1] != 1)
    if ragged.any():
        line = int(np.argmax(ragged))
        held = f"fields hold {fields[line].tolist()} integers"
        raise source.bad(int(ends[line_ends[line]]), held, "equally many in every field and one label")
    return fields[:, 0]


def _fit(source: _Source, values: NDArray[np.int64], dtype: type[np.signedinteger], ends: NDArray[np.int64]) -> NDArray[np.signedinteger]:
    info = np.iinfo(dtype)
    wrong = (values < info.min) | (values > info.max)
    if wrong.any():
        i = int(np.argmax(wrong))
        raise source.bad(int(ends[i]), f"value {values[i]} is out of range", f"{info.min} to {info.max}")
    return values.astype(dtype)
