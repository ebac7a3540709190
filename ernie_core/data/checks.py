"""The pre-check of rows before they reach an embedding table: an id out of range is named here, not by a device assert (reliability F62, F63)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from ernie_core.data.rows import Rows
from ernie_core.errors import IntegrityError


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

    Example: an id 18000 for ``vocab_size=18000`` -> ``E-TOKEN-RANGE … row 3 position 7``.

    Raises:
        IntegrityError: E-TOKEN-RANGE, E-POS-RANGE, E-TYPE-RANGE, E-SEG-RANGE, E-LABEL-RANGE naming shard, row and position.
    """
    _check(rows, rows.token_ids, 0, vocab_size, "E-TOKEN-RANGE", "token id", where)
    padding = rows.token_ids == pad_id
    if padding.any():
        raise _error(rows, int(np.argmax(padding)), "E-TOKEN-RANGE", "token id is that of padding", where, f"any but {pad_id}", str(pad_id))
    _check(rows, rows.position_ids, 0, max_positions, "E-POS-RANGE", "position", where)
    _check(rows, rows.sentence_type_ids, 0, sent_types, "E-TYPE-RANGE", "sentence type", where)
    _check(rows, rows.seg_labels, -1, 2, "E-SEG-RANGE", "seg label", where)
    for name, column in rows.token_labels.items():
        _check(rows, column, -1, (token_classes or {})[name], "E-LABEL-RANGE", f"token label of {name}", where)
    wrong = (rows.labels < -1) | (rows.labels >= classes)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise IntegrityError(
            "E-LABEL-RANGE", "label out of range", where=f"{where} row {row}", expected=f"-1 to {classes - 1}", found=str(rows.labels[row]), fix=_FIX
        )


_FIX = "prepare the data again with this vocabulary and these settings, or correct the model's config"


def _check(rows: Rows, column: NDArray[np.signedinteger], low: int, high: int, code: str, what: str, where: str) -> None:
    if len(column) and (column.min() < low or column.max() >= high):
        token = int(np.argmax((column < low) | (column >= high)))
        raise _error(rows, token, code, f"{what} out of range", where, f"{low} to {high - 1}", str(column[token]))


def _error(rows: Rows, token: int, code: str, what: str, where: str, expected: str, found: str) -> IntegrityError:
    row = int(np.searchsorted(rows.offsets, token, side="right")) - 1
    at = f"{where} row {row} position {token - int(rows.offsets[row])}"
    return IntegrityError(code, what, where=at, expected=expected, found=found, fix=_FIX)
