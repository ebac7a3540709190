"""Knowledge masking: whole units hidden with p = 0.15, 80/10/10 per token, keyed by (seed, epoch, sample, position).

Source: ERNIE 1.0, section 3.2 (https://arxiv.org/abs/1904.09223); TASKS (Masking targets, Units).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ernie_core.data.rows import Rows
from ernie_core.errors import InputError, RecipeError, closest
from ernie_core.schemas import PHRASE
from ernie_core.seeding import combine, key, uniform

MASK_UNITS = ("basic", "word", "phrase", "entity")
MASK_TYPES = ("mask_char", "mask_word", "mask_phrase", "mask_entity")
"""The seed's names of the same, for its log line."""
BASIC_CODE, WORD_CODE, PHRASE_CODE, ENTITY_CODE = range(4)
_SELECT, _TREAT, _REPLACE = range(3)


@dataclass(frozen=True)
class Masked:
    """Masked tokens of N flat tokens with M targets.

    Args:
        token_ids: int32[N], what the model sees.
        targets: int64[M], places in the flat token array, ascending.
        target_ids: int32[M], the tokens that stood there.

    Example (tokens 1 7 8 2, 8 masked by 3): token_ids [1, 7, 3, 2], targets [2], target_ids [8].
    """

    token_ids: NDArray[np.int32]
    targets: NDArray[np.int64]
    target_ids: NDArray[np.int32]


def unit_code(unit: str) -> int:
    """Return the code of a mask unit: its place in `MASK_UNITS`.

    Raises:
        RecipeError: E-NAME.
    """
    if unit not in MASK_UNITS:
        raise RecipeError(
            "E-NAME", f"unknown mask_unit {unit!r}", expected=f"one of {closest(unit, MASK_UNITS)}", fix="correct mask_unit in the recipe"
        )
    return MASK_UNITS.index(unit)


def unit_boundaries(rows: Rows, codes: NDArray[np.int64]) -> NDArray[np.int8]:
    """Return per token 0 = a unit starts, 1 = it goes on, -1 = never a target, under each row's unit.

    Args:
        rows: n rows of N tokens.
        codes: int64[n], places in `MASK_UNITS`.

    Raises:
        InputError: E-MASK-UNIT, phrases or entities asked of rows that do not hold them (text shards).

    Example (哈尔滨是, 哈尔滨 an entity of the words 哈 and 尔滨): basic [-1, 0, 0, 0, 0, -1], word [-1, 0, 0, 1, 0, -1],
    entity [-1, 0, 1, 1, 0, -1].
    """
    code = np.repeat(codes, rows.lengths)
    labels = np.where((code == BASIC_CODE) & (rows.seg_labels >= 0), np.int8(0), rows.seg_labels)
    if np.any(codes >= PHRASE_CODE):
        if rows.unit_labels is None or rows.unit_kind is None:
            raise InputError("E-MASK-UNIT", "these rows hold no phrases or entities to mask", expected="Parquet shards, or mask_unit basic or word",
                             found=f"text shards and mask_unit {MASK_UNITS[int(codes.max())]}", fix="set pretrain.encoding to parquet, or mask_unit to word")  # fmt: skip
        merged = (code == ENTITY_CODE) | ((code == PHRASE_CODE) & (rows.unit_kind == PHRASE))
        labels = np.where(merged, rows.unit_labels, labels)
    return np.asarray(labels, dtype=np.int8)


def mask_rows(
    rows: Rows,
    *,
    unit: str | NDArray[np.int64],
    seed: int,
    epoch: int | str,
    vocab_size: int,
    num_special: int,
    mask_id: int,
    probability: float = 0.15,
) -> Masked:
    """Mask whole units, each with `probability`; each token of a unit becomes [MASK] (80 %), a random token (10 %) or stays (10 %).

    Every draw is a function of (seed, epoch, sample id, position), so batching, order and world size do not matter.

    Args:
        rows: n rows of N tokens.
        unit: a name of `MASK_UNITS` for all rows, or int64[n] codes, one per row.
        seed: the recipe's seed.
        epoch: masks are drawn afresh for each; "valid" for validation.
        vocab_size: random tokens are drawn from [num_special, vocab_size).
        num_special: number of special ids at the front of the vocabulary.
        mask_id: id of [MASK].
        probability: of a unit being a target.

    Raises:
        RecipeError: E-NAME, unknown unit.
        InputError: E-MASK-UNIT, see `unit_boundaries`.

    Example: see `Masked`.
    """
    codes = np.full(len(rows), unit_code(unit), np.int64) if isinstance(unit, str) else unit
    boundaries = unit_boundaries(rows, codes)
    lengths, starts = rows.lengths, rows.offsets[:-1]
    place = np.arange(len(boundaries))
    token_key = combine(
        np.repeat(combine(key(seed, "mask", epoch), rows.sample_ids), lengths), (place - np.repeat(starts, lengths)).astype(np.uint64)
    )

    # A token shares the fate of the last token at or before it that does not go on with a unit; a row never goes on with the one before.
    opens = boundaries != 1
    opens[starts[lengths > 0]] = True
    first = np.maximum.accumulate(np.where(opens, place, 0))
    chosen = (boundaries == 0) & (_draw(token_key, _SELECT) < probability)
    targets = np.flatnonzero(chosen[first])

    treatment, replacement = _draw(token_key[targets], _TREAT), _draw(token_key[targets], _REPLACE)
    target_ids = rows.token_ids[targets]
    random_ids = num_special + (replacement * (vocab_size - num_special)).astype(np.int32)
    token_ids = rows.token_ids.copy()
    token_ids[targets] = np.where(treatment < 0.8, mask_id, np.where(treatment < 0.9, random_ids, target_ids))
    return Masked(token_ids, targets.astype(np.int64), target_ids)


def _draw(keys: NDArray[np.uint64], purpose: int) -> NDArray[np.float64]:
    return uniform(combine(keys, purpose))
