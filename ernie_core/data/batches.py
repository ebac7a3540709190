"""What the model reads: padded batches, and how a rank's rows are cut into micro-batches (DESIGN, A step)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from ernie_core.data.masking import Masked
    from ernie_core.data.rows import Rows

LENGTH_MULTIPLE = 8
"""Padded lengths are multiples of this: matrix products over odd lengths are slower, and few lengths mean few shapes."""


@dataclass(frozen=True)
class Batch:
    """One micro-batch of one task. B rows, T tokens (a multiple of 8), M masking targets.

    Args:
        token_ids: int64[B, T], masked already, padded with pad_id.
        sentence_type_ids: int64[B, T], padded with 0.
        position_ids: int64[B, T], padded with 0.
        lengths: int64[B], real tokens of each row.
        task_id: fixed id of the task, the row of the task embedding.
        target_positions: int64[M], ``b * T + t`` of each masking target, ascending.
        target_ids: int64[M], the token that stood there.
        labels: int64[B], -1 = none; float32[B] where the head is a regression.
        token_labels: task name -> int64[B, T], -1 = not scored (padding and masking targets never are).
        sample_ids: uint64[B].

    Example (rows 2 5 3 and 2 6 7 3, token 6 masked by 4): token_ids [[2, 5, 3, 0, 0, 0, 0, 0], [2, 4, 7, 3, 0, 0, 0, 0]],
    lengths [3, 4], target_positions [9], target_ids [6].
    """

    token_ids: NDArray[np.int64]
    sentence_type_ids: NDArray[np.int64]
    position_ids: NDArray[np.int64]
    lengths: NDArray[np.int64]
    task_id: int
    target_positions: NDArray[np.int64]
    target_ids: NDArray[np.int64]
    labels: NDArray[Any]
    token_labels: dict[str, NDArray[np.int64]]
    sample_ids: NDArray[np.uint64]


def round_up(length: int) -> int:
    """Return the padded length of rows whose longest has `length` tokens.

    Example: ``round_up(9)`` -> ``16``.
    """
    return -(-length // LENGTH_MULTIPLE) * LENGTH_MULTIPLE


def collate(rows: Rows, masked: Masked | None, *, task_id: int, pad_id: int) -> Batch:
    """Pad rows to one length; T is the longest, rounded up to a multiple of 8.

    Args:
        rows: at least one row.
        masked: what `masking.mask_rows` made of exactly these rows, or None for unmasked input (no targets then).
        task_id: id of the rows' task.
        pad_id: fills token_ids beyond a row's end.

    Returns:
        A batch in the rows' order. See `Batch` for an example.
    """
    assert len(rows) > 0, "a batch needs a row"
    lengths = np.asarray(rows.lengths, dtype=np.int64)
    width = round_up(int(lengths.max()))
    real = np.arange(width) < lengths[:, None]
    at = np.flatnonzero(real)  # flat place in [B, T] of every real token, in the rows' own order

    def padded(values: NDArray[Any], fill: int) -> NDArray[np.int64]:
        out = np.full(real.size, fill, dtype=np.int64)
        out[at] = values
        return out.reshape(real.shape)

    targets = np.empty(0, np.int64) if masked is None else masked.targets
    token_labels = {}
    for name, values in rows.token_labels.items():
        scored = padded(values, -1)
        scored.reshape(-1)[at[targets]] = -1
        token_labels[name] = scored
    return Batch(
        token_ids=padded(rows.token_ids if masked is None else masked.token_ids, pad_id),
        sentence_type_ids=padded(rows.sentence_type_ids, 0),
        position_ids=padded(rows.position_ids, 0),
        lengths=lengths,
        task_id=task_id,
        target_positions=at[targets].astype(np.int64),
        target_ids=np.empty(0, np.int64) if masked is None else masked.target_ids.astype(np.int64),
        labels=rows.labels.astype(np.int64),
        token_labels=token_labels,
        sample_ids=rows.sample_ids,
    )


def split_rows(lengths: NDArray[np.integer[Any]], device_tokens: int) -> list[slice]:
    """Cut rows, in their order, into micro-batches of at most `device_tokens` padded tokens; a longer single row stands alone.

    Example: ``split_rows(np.array([8, 8, 16, 40]), 32)`` -> ``[slice(0, 2), slice(2, 3), slice(3, 4)]`` (8 + 8 would become 3 x 16 = 48).
    """
    out: list[slice] = []
    start = longest = 0
    for i, length in enumerate(lengths.tolist()):
        width = round_up(max(longest, length))
        if i > start and width * (i + 1 - start) > device_tokens:
            out.append(slice(start, i))
            start, width = i, round_up(length)
        longest = width
    if len(lengths):
        out.append(slice(start, len(lengths)))
    return out
