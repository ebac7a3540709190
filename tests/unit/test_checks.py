"""The range check names shard, row and position of the first value that no table could hold."""

from __future__ import annotations

import numpy as np
import pytest
from rows_helper import toy_rows

from ernie_core.data.checks import check_rows
from ernie_core.data.rows import Rows
from ernie_core.errors import IntegrityError


def check(rows: Rows) -> None:
    check_rows(rows, vocab_size=1000, max_positions=30, sent_types=2, classes=2, token_classes={"one": 2}, where="train-00003")


@pytest.mark.parametrize("rows", [toy_rows(50, names=("one",)), Rows.concat([])], ids=["rows", "none"])
def test_good_rows_raise_nothing(rows: Rows) -> None:
    found = None
    try:
        check(rows)
    except IntegrityError as e:
        found = e
    assert found is None


@pytest.mark.parametrize(
    ("column", "value", "code"),
    [
        ("token_ids", 1000, "E-TOKEN-RANGE"),
        ("token_ids", -1, "E-TOKEN-RANGE"),
        ("token_ids", 0, "E-TOKEN-RANGE"),
        ("position_ids", 30, "E-POS-RANGE"),
        ("position_ids", -1, "E-POS-RANGE"),
        ("sentence_type_ids", 2, "E-TYPE-RANGE"),
        ("sentence_type_ids", -1, "E-TYPE-RANGE"),
        ("seg_labels", 2, "E-SEG-RANGE"),
        ("one", 2, "E-LABEL-RANGE"),
        ("one", -2, "E-LABEL-RANGE"),
    ],
)
def test_a_token_value_out_of_range_is_named(column: str, value: int, code: str) -> None:
    rows = toy_rows(5, names=("one",))
    target = rows.token_labels["one"] if column == "one" else getattr(rows, column)
    target[int(rows.offsets[3]) + 2] = value
    with pytest.raises(IntegrityError) as error:
        check(rows)
    assert (error.value.code, error.value.where, error.value.found) == (code, "train-00003 row 3 position 2", str(value))


@pytest.mark.parametrize("value", [2, -2])
def test_a_label_out_of_range_is_named(value: int) -> None:
    rows = toy_rows(5, names=("one",))
    rows.labels[4] = value
    with pytest.raises(IntegrityError) as error:
        check(rows)
    assert (error.value.code, error.value.where) == ("E-LABEL-RANGE", "train-00003 row 4")


def test_a_task_without_classes_takes_only_minus_one() -> None:
    rows = toy_rows(2)
    with pytest.raises(IntegrityError, match="E-LABEL-RANGE"):
        check_rows(rows.take(np.array([0, 1])), vocab_size=1000, max_positions=30, sent_types=2, classes=0, where="x")
