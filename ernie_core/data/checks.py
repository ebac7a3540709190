"""What rows must be before they reach an embedding table: in range (reliability F62, F63), and as the contract of shards says (DESIGN, Sample)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ernie_core.data.rows import Rows
from ernie_core.errors import ErnieError, InputError, IntegrityError
from ernie_core.vocab import Vocab

MAX_SENT_TYPES = 16
"""Sentence types that shards may hold; the model's table is compared when it is trained."""


def check_rows(
    rows: Rows,
    where: str,
    *,
    vocab_size: int,
    max_positions: int,
    sent_types: int,
    classes: int,
    token_classes: Mapping[str, int] | None = None,
    pad_id: int = 0,
    first_line: int | None = None,
) -> None:
    """Check every value of `rows` against the tables that it will index.

    Args:
        rows: rows as read from a shard.
        where: the shard's name, for errors.
        vocab_size: token ids must be in [0, vocab_size) and not `pad_id`.
        max_positions: position ids must be in [0, max_positions).
        sent_types: sentence types must be in [0, sent_types).
        classes: labels must be in [-1, classes).
        token_classes: token label name -> its classes; labels must be in [-1, classes).
        pad_id: the id of padding, which no row may hold.
        first_line: the line of the first row, where the rows are lines of a user's file; None: rows of a shard of ours.

    Example: an id 18000 for ``vocab_size=18000`` -> ``E-TOKEN-RANGE … row 3 position 7``.

    Raises:
        IntegrityError: E-TOKEN-RANGE, E-POS-RANGE, E-TYPE-RANGE, E-SEG-RANGE, E-LABEL-RANGE naming shard, row and position.
        InputError: the same of a user's file, naming the line.
    """
    place = _Place(rows, where, first_line)
    _check(place, rows.token_ids, 0, vocab_size, "E-TOKEN-RANGE", "token id")
    padding = rows.token_ids == pad_id
    if padding.any():
        raise place.token(int(np.argmax(padding)), "E-TOKEN-RANGE", "token id is that of padding", f"any but {pad_id}", str(pad_id))
    _check(place, rows.position_ids, 0, max_positions, "E-POS-RANGE", "position")
    _check(place, rows.sentence_type_ids, 0, sent_types, "E-TYPE-RANGE", "sentence type")
    _check(place, rows.seg_labels, -1, 2, "E-SEG-RANGE", "seg label")
    for name, column in rows.token_labels.items():
        _check(place, column, -1, (token_classes or {})[name], "E-LABEL-RANGE", f"token label of {name}")
    wrong = (rows.labels < -1) | (rows.labels >= classes)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise place.error("E-LABEL-RANGE", "label out of range", place.row(row), f"-1 to {classes - 1}", str(rows.labels[row]))


def check_contract(rows: Rows, where: str, vocab: Vocab, *, first_line: int | None = None) -> None:
    """Check what must hold within each row, whatever its task (DESIGN, Sample; TASKS, Units).

    Args:
        rows: rows whose values are in range.
        where: the shard's or file's name, for errors.
        vocab: of the rows' ids.
        first_line: see `check_rows`.

    Raises:
        IntegrityError, or InputError where `first_line` is given: E-CONTRACT naming row or line, position, and the rule.
    """
    place = _Place(rows, where, first_line)
    special = np.isin(rows.token_ids, (vocab.cls_id, vocab.sep_id))
    starts = rows.offsets[:-1]
    first = np.zeros(rows.num_tokens, bool)
    first[starts] = True
    behind_special = np.concatenate([[False], special[:-1]])
    index = np.arange(rows.num_tokens) - np.repeat(starts, rows.lengths)
    rules = [
        ("seg label is -1 exactly at [CLS] and [SEP]", (rows.seg_labels == -1) != special),
        ("a row begins with [CLS]", first & (rows.token_ids != vocab.cls_id)),
        ("a row ends with [SEP]", np.roll(first, -1) & (rows.token_ids != vocab.sep_id)),
        ("a word begins behind [CLS] and [SEP]", behind_special & (rows.seg_labels == 1)),
        ("positions count the tokens from 0", rows.position_ids != index),
        *((f"no label of {name} at [CLS] and [SEP]", (column >= 0) & special) for name, column in rows.token_labels.items()),
    ]
    if rows.unit_labels is not None and rows.unit_kind is not None:
        rules += [
            ("unit label is -1 exactly at [CLS] and [SEP]", (rows.unit_labels == -1) != special),
            ("a unit begins where a word begins", (rows.unit_labels == 0) & (rows.seg_labels != 0)),
            ("a unit begins behind [CLS] and [SEP]", behind_special & (rows.unit_labels == 1)),
            ("unit kind is -1 exactly at [CLS] and [SEP]", (rows.unit_kind == -1) != special),
        ]
    for rule, wrong in rules:
        if wrong.any():
            token = int(np.argmax(wrong))
            found = f"token id {rows.token_ids[token]}, seg label {rows.seg_labels[token]}, position {rows.position_ids[token]}"
            raise place.token(token, "E-CONTRACT", "a row breaks the contract of shards", rule, found)


@dataclass(frozen=True)
class _Place:
    """Where rows stand, for errors."""

    rows: Rows
    where: str
    first_line: int | None

    def row(self, row: int) -> str:
        return f"{self.where} row {row}" if self.first_line is None else f"{self.where} line {self.first_line + row}"

    def token(self, token: int, code: str, what: str, expected: str, found: str) -> ErnieError:
        row = int(np.searchsorted(self.rows.offsets, token, side="right")) - 1
        return self.error(code, what, f"{self.row(row)} position {token - int(self.rows.offsets[row])}", expected, found)

    def error(self, code: str, what: str, where: str, expected: str, found: str) -> ErnieError:
        if self.first_line is None:
            fix = "prepare the data again with this vocabulary and these settings, or correct the model's config"
            return IntegrityError(code, what, where=where, expected=expected, found=found, fix=fix)
        return InputError(
            code, what, where=where, expected=expected, found=found, fix="correct or remove the line, or name the vocabulary it was made with"
        )


def _check(place: _Place, column: NDArray[np.signedinteger], low: int, high: int, code: str, what: str) -> None:
    if len(column) and (column.min() < low or column.max() >= high):
        token = int(np.argmax((column < low) | (column >= high)))
        raise place.token(token, code, f"{what} out of range", f"{low} to {high - 1}", str(column[token]))
