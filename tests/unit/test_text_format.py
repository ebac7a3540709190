"""The seed's text: written one way only, read strictly."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from rows_helper import same, samples

from ernie_core.data.rows import Rows
from ernie_core.data.text_format import decode_text, encode_text
from ernie_core.errors import InputError
from ernie_core.schemas import Sample

LINE = b"1 5 2;0 0 0;0 1 2;-1 0 -1;1\n"
NAMES = ("one", "two")


def test_one_row_is_the_seeds_line() -> None:
    rows = Rows.from_samples([Sample([1, 5, 2], [0] * 3, [0, 1, 2], [-1, 0, -1], [-1, 0, -1], [-1, 0, -1], 1)])
    assert encode_text(rows) == LINE
    assert same(decode_text(LINE, "x"), rows, units=False)


def test_token_labels_stand_between_seg_labels_and_label() -> None:
    sample = Sample([1, 5], [0, 0], [0, 1], [-1, 0], [-1, 0], [-1, 0], -1, {"one": [-1, 1], "two": [-1, 0]})
    assert encode_text(Rows.from_samples([sample], NAMES)) == b"1 5;0 0;0 1;-1 0;-1 1;-1 0;-1\n"
    assert encode_text(Rows.from_samples([sample], ("two", "one"))) == b"1 5;0 0;0 1;-1 0;-1 0;-1 1;-1\n"


@settings(max_examples=25)
@given(st.lists(samples(NAMES), max_size=5))
def test_rows_survive_writing_and_reading(made: list) -> None:
    rows = Rows.from_samples(made, NAMES)
    assert same(decode_text(encode_text(rows), "x", NAMES), rows, units=False)


def expected_text(sample: Sample) -> str:
    columns = (sample.token_ids, sample.sentence_type_ids, sample.position_ids, sample.seg_labels)
    return ";".join([*(" ".join(map(str, c)) for c in columns), str(sample.label)]) + "\n"


@settings(max_examples=25)
@given(st.lists(samples(), max_size=5))
def test_the_bytes_equal_plain_string_formatting(made: list) -> None:
    assert encode_text(Rows.from_samples(made)).decode() == "".join(map(expected_text, made))


@pytest.mark.parametrize(
    ("line", "what"),
    [
        (b"1 5 2;0 0 0;0 1 2;-1 0 -1\n", "4 fields"),
        (b"1 5 2;0 0 0;0 1 2;-1 0 -1;1;1\n", "6 fields"),
        (b"1 5 2;0 0;0 1 2;-1 0 -1;1\n", "[3, 2, 3, 3, 1]"),
        (b"1 5 2;0 0 0;0 1 2;-1 0 -1;1 1\n", "[3, 3, 3, 3, 2]"),
        (b"1 5 2;0 0 0;0 1 2;-1 0 -1;\n", "missing"),
        (b"1  2;0 0 0;0 1 2;-1 0 -1;1\n", "missing"),
        (b"1 5 2 ;0 0 0;0 1 2;-1 0 -1;1\n", "missing"),
        (b";;;;1\n", "missing"),
        (b"\n", "missing"),
        (b"1 - 2;0 0 0;0 1 2;-1 0 -1;1\n", "missing"),
        (b"1 05 2;0 0 0;0 1 2;-1 0 -1;1\n", "spelling"),
        (b"1 -0 2;0 0 0;0 1 2;-1 0 -1;1\n", "spelling"),
        (b"1 99999999999 2;0 0 0;0 1 2;-1 0 -1;1\n", "spelling"),
        (b"1 5.0 2;0 0 0;0 1 2;-1 0 -1;1\n", "not an integer"),
        (b"1 +5 2;0 0 0;0 1 2;-1 0 -1;1\n", "not an integer"),
        (b"1 5 2;0 0 0;0 1 2;-1 0 1-1;1\n", "not an integer"),
        (b"1 5 2;0 0 0;0 1 2;-1 0 -1;1\r\n", "not an integer"),
        (b"1\t5 2;0 0 0;0 1 2;-1 0 -1;1\n", "not an integer"),
        (b"1 5 2;0 0 0;0 1 99999;-1 0 -1;1\n", "out of range"),
        (b"1 5 2;0 0 0;0 1 2;-1 0 -129;1\n", "out of range"),
        (b"1 4294967 2;0 0 300;0 1 2;-1 0 -1;1\n", "out of range"),
        (b"1 5 2;0 0 0;0 1 2;-1 0 -1;1", "cut off"),
        (b"\xef\xbb\xbf1 5 2;0 0 0;0 1 2;-1 0 -1;1\n", "not an integer"),
    ],
)
def test_a_malformed_line_is_refused_by_its_number(line: bytes, what: str) -> None:
    with pytest.raises(InputError) as error:
        decode_text(LINE + LINE + line, "part.gz", first_line=10)
    assert error.value.code == "E-SAMPLE-FORMAT"
    assert "part.gz line 12" in error.value.where
    assert what in str(error.value)


def test_five_fields_are_refused_where_token_labels_are_expected() -> None:
    with pytest.raises(InputError, match="6 fields"):
        decode_text(LINE, "x", ("one",))


@given(st.binary(max_size=60) | st.text("0123456789- ;\n", max_size=60).map(str.encode))
@example(b"")
@example(b"-")
@example(b"5\n")
def test_any_bytes_either_come_back_or_are_refused(data: bytes) -> None:
    try:
        rows = decode_text(data, "x")
    except InputError:
        return
    assert encode_text(rows) == data


def test_a_row_without_tokens_cannot_be_written() -> None:
    with pytest.raises(InputError, match="without tokens"):
        encode_text(Rows.from_samples([Sample([], [], [], [], [], [], 0)]))
