"""Files in which benchmarks are published: every row is read as it stands, and every bad row is named."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import pickle
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ernie_core.benchmarks.base import OWN_FILES, Benchmark, Example, Layout, Subset, all_benchmarks
from ernie_core.benchmarks.chinese import LCQMC, NLPCC_DBQA
from ernie_core.benchmarks.classification import REVIEWS
from ernie_core.benchmarks.glue import MRPC, STSB, Mrpc
from ernie_core.benchmarks.json_layouts import JsonLines, JsonObject
from ernie_core.benchmarks.layouts import ERNIE, ERNIE_PAIR, ERNIE_TEXT, Either, Table, unlabelled
from ernie_core.benchmarks.packed import file_text
from ernie_core.errors import InputError

BARE = Table({"text_a": 0, "text_b": 1, "label": 2}, header=False)
CSV = Table({"text_a": "s1", "label": "y"}, delimiter=",", quoted=True)
LINES = JsonLines({"text_a": "s", "label": "y"})
OBJECT = JsonObject({"text_a": "s", "label": "y"})
SCORES = Table({"value": "score", "text_a": "a", "text_b": "b"})
QUESTIONS = Table({"group": 1, "text_a": 1, "text_b": 2, "label": 0}, header=False)


def write(folder: Path, text: str | bytes, name: str = "dev.tsv") -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def read(layout: Layout, text: str | bytes, folder: Path, benchmark: Benchmark = REVIEWS) -> Subset:
    return layout.read(write(folder, text), benchmark)


BAD_ROWS = [
    (ERNIE_TEXT, REVIEWS, "label\ttext_a\n1\t好\n2\t坏\n", ":3", "one of 0, 1", "label '2'"),
    (ERNIE_TEXT, REVIEWS, "label\ttext_a\n1.0\t好\n", ":2", "one of 0, 1", "label '1.0'"),
    (ERNIE_TEXT, REVIEWS, "label\ttext_a\nnan\t好\n", ":2", "one of 0, 1", "label 'nan'"),
    (ERNIE_TEXT, REVIEWS, "label\ttext_a\npositive\t好\n", ":2", "one of 0, 1", "label 'positive'"),
    (ERNIE_TEXT, REVIEWS, "label\ttext_a\n\t好\n", ":2", "one of 0, 1", "label ''"),
    (ERNIE_TEXT, REVIEWS, "label\ttext_a\n1\t好\t坏\n", ":2", "2 columns", "3: 1\\t好\\t坏"),
    (ERNIE_TEXT, REVIEWS, "label\ttext_a\n1\n", ":2", "2 columns", "1: 1"),
    (ERNIE_TEXT, REVIEWS, "label\ttext_a\n1\t \n", ":2", "a text in text_a", "nothing"),
    (ERNIE_TEXT, REVIEWS, "1\t好\n0\t坏\n", ":1", "label TAB text_a (and qid", "1 TAB 好"),
    (ERNIE_TEXT, REVIEWS, "text_a\n好\n", ":1", "label TAB text_a", "text_a"),
    (ERNIE_TEXT, REVIEWS, "label\ttext_a\ttext_b\n1\t好\t坏\n", ":1", "label TAB text_a", "label TAB text_a TAB text_b"),
    (ERNIE_TEXT, REVIEWS, "label\ttext_a\tlabel\n1\t好\t1\n", ":1", "label TAB text_a", "label TAB text_a TAB label"),
    (ERNIE_TEXT, REVIEWS, b"label\ttext_a\n1\t\xff\n", ":2, byte 2", "", "1\\t\\xff"),
    (ERNIE_TEXT, REVIEWS, "\n1\t好\n", ":1", "label TAB text_a", "nothing"),
    (ERNIE_PAIR, LCQMC, "label\ttext_a\n1\t好\n", ":1", "label TAB text_a TAB text_b", "label TAB text_a"),
    (ERNIE_PAIR, LCQMC, "label\ttext_a\ttext_b\n1\t好\t\n", ":2", "a text in text_b", "nothing"),
    (BARE, LCQMC, "好\t坏\t1\n好\t坏\n", ":2", "3 columns", "2: 好"),
    (BARE, LCQMC, "好\n", ":1", "3 columns", "1: 好"),
    (Either((ERNIE_PAIR, SCORES)), LCQMC, "x\ty\n", ":1", "label TAB text_a TAB text_b (and qid if there) in any order; or score TAB a", "x TAB y"),
    (SCORES, STSB, "a\tb\tscore\n好\t坏\t5.0.0\n", ":2", "a number in score", "'5.0.0'"),
    (SCORES, STSB, "a\tb\tscore\n好\t坏\tnan\n", ":2", "a number in score", "'nan'"),
    (SCORES, STSB, "a\tb\tscore\n好\t坏\t-inf\n", ":2", "a number in score", "'-inf'"),
    (SCORES, STSB, "a\tb\tscore\n好\t坏\t\n", ":2", "a number in score", "''"),
    (QUESTIONS, NLPCC_DBQA, "1\t \t好\n", ":1", "a text in column 2", "nothing"),
    (CSV, REVIEWS, 's1,y\n"好\n好",1\n坏,2\n', ":4", "one of 0, 1", "label '2'"),
    (CSV, REVIEWS, 's1,y\n好,1\n"坏,0\n好,1\n', ":3", "CSV", "unexpected end of data"),
    (LINES, REVIEWS, '{"s": "好", "y": 1}\n{"s": "坏", "y": 1\n', ":2", "a JSON object", '{"s": "坏"'),
    (LINES, REVIEWS, '["好", 1]\n', ":1", "a JSON object", '["好", 1]'),
    (LINES, REVIEWS, '{"s": "好"}\n', ":1", "the keys s, y", "no y"),
    (LINES, REVIEWS, '{"s": null, "y": 1}\n', ":1", "the keys s, y", "no s"),
    (LINES, REVIEWS, '{"s": ["好"], "y": 1}\n', ":1", "a text or a number in s", '["好"]'),
    (LINES, REVIEWS, '{"s": "好", "y": true}\n', ":1", "one of 0, 1", "label 'true'"),
    (LINES, REVIEWS, '{"s": "好", "y": 1}\n\n', ":2", "a JSON object", "nothing"),
    (OBJECT, REVIEWS, '{"a7": {"s": "好", "y": 3}}', ": a7", "one of 0, 1", "label '3'"),
    (OBJECT, REVIEWS, '{"a7":\n {"s": "好"', ":2", "JSON", "Expecting"),
    (OBJECT, REVIEWS, "[1]", "", "one JSON object of all rows", "list"),
]


@pytest.mark.parametrize(("layout", "benchmark", "text", "place", "expected", "found"), BAD_ROWS)
def test_a_wrong_row_is_named_with_what_is_allowed(
    layout: Layout, benchmark: Benchmark, text: str | bytes, place: str, expected: str, found: str, tmp_path: Path
) -> None:
    path = write(tmp_path, text)
    with pytest.raises(InputError, match=r"E-BENCH-(ROW|HEADER)") as error:
        layout.read(path, benchmark)
    assert error.value.exit_code == 3
    assert error.value.where == f"{path}{place}"
    assert error.value.expected.startswith(expected)
    assert error.value.found.startswith(found)


@pytest.mark.parametrize("text", ["label\ttext_a\n", "label\ttext_a\n-100\t好\n"])
def test_a_file_without_rows_is_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="E-BENCH-EMPTY"):
        read(ERNIE_TEXT, text, tmp_path)
    tables = (BARE, ERNIE_TEXT, Either((ERNIE_TEXT, BARE)), Either((ERNIE_TEXT,)))
    for layout, nothing in ((LINES, ""), *((table, nothing) for table in tables for nothing in ("", "\n"))):
        with pytest.raises(InputError, match="E-BENCH-EMPTY"):
            read(layout, nothing, tmp_path)
    with pytest.raises(InputError, match="E-BENCH-MISSING"):
        ERNIE_TEXT.read(tmp_path / "no.tsv", REVIEWS)


def test_a_header_of_data_of_ones_own_is_told_how_columns_are_named(tmp_path: Path) -> None:
    for benchmark, told in ((REVIEWS, False), (replace(REVIEWS, source=OWN_FILES), True)):
        with pytest.raises(InputError, match="E-BENCH-HEADER") as error:
            ERNIE_TEXT.read(write(tmp_path, b"one column\n", "own.tsv"), benchmark)
        assert ("header: false" in error.value.fix) is told


def test_rows_are_read_in_any_order_of_columns_and_ignored_ones_are_counted(tmp_path: Path) -> None:
    subset = read(ERNIE_TEXT, "text_a\tlabel\r\n好\t1\r\n坏\t-100\r\n一 \u2028\x85\x0c二\t0", tmp_path)
    assert subset.examples == (Example(("好",), (1,), id="0"), Example(("一 \u2028\x85\x0c二",), (0,), id="2"))
    assert subset.dropped == {"ignored": 1}


def test_quote_characters_are_literal_in_a_table_and_mean_something_in_csv(tmp_path: Path) -> None:
    rows = read(ERNIE_TEXT, 'label\ttext_a\n1\t"好\n0\t坏"" ,\n', tmp_path).examples
    assert [e.texts[0] for e in rows] == ['"好', '坏"" ,']
    rows = read(CSV, 's1,y,more\r\n"一,""二""\r\n三",1,\r\n四,0,x\r\n', tmp_path).examples
    assert rows == (Example(('一,"二"\n三',), (1,), id="0"), Example(("四",), (0,), id="1"))


def test_a_byte_order_mark_and_a_declared_encoding_are_read(tmp_path: Path) -> None:
    text = "label\ttext_a\n1\t好\n"
    for raw, layout in ((b"\xef\xbb\xbf" + text.encode(), ERNIE_TEXT), (text.encode("gb18030"), replace(ERNIE_TEXT, encoding="gb18030"))):
        assert read(layout, raw, tmp_path).examples == (Example(("好",), (1,), id="0"),)
    with pytest.raises(InputError, match="a row is not UTF-8") as error:
        read(ERNIE_TEXT, text.encode("gb18030"), tmp_path)
    assert error.value.where.endswith("dev.tsv:2, byte 2")
    with pytest.raises(InputError, match="a row is not GB18030"):
        read(replace(ERNIE_TEXT, encoding="gb18030"), "label\ttext_a\n1\t好\xff\n".encode() + b"\xff\xff", tmp_path)


@pytest.mark.parametrize(("suffix", "pack"), [(".gz", gzip.compress), (".bz2", bz2.compress), (".xz", lzma.compress)])
def test_compressed_files_stand_for_the_plain_one_and_are_named_themselves(suffix: str, pack: object, tmp_path: Path) -> None:
    assert callable(pack)
    packed = write(tmp_path, pack(b"a\nb\r\n"), f"dev.tsv{suffix}")
    assert file_text(tmp_path / "dev.tsv") == file_text(packed) == "a\nb\n"
    with pytest.raises(InputError, match="E-BENCH-HEADER") as error:
        ERNIE_TEXT.read(tmp_path / "dev.tsv", REVIEWS)
    assert error.value.where == f"{packed}:1"
    packed.write_bytes(packed.read_bytes()[:-9])
    with pytest.raises(InputError, match="E-BENCH-PACKED"):
        file_text(packed)
    write(tmp_path, "plain\n")
    assert file_text(tmp_path / "dev.tsv") == "plain\n", "the plain file comes first"


def test_ernies_columns_may_stand_in_any_order_with_or_without_a_second_text_and_a_question(tmp_path: Path) -> None:
    rows = read(ERNIE, "qid\ttext_b\tlabel\ttext_a\n7\t坏\t1\t好\n", tmp_path).examples
    assert rows == (Example(("好", "坏"), (1,), group="7", id="0"),)
    assert read(ERNIE, "label\ttext_a\n1\t好\n", tmp_path).examples == (Example(("好",), (1,), id="0"),)
    with pytest.raises(InputError, match=r"label TAB text_a \(and text_b, qid if there\)"):
        read(ERNIE, "label\ttext\n1\t好\n", tmp_path)


def test_unlabelled_rows_have_no_label_and_keep_the_publishers_id(tmp_path: Path) -> None:
    hidden = unlabelled(ERNIE_PAIR)
    for text in ("qid\ttext_a\ttext_b\tlabel\nx3\t好\t坏\t-1\n", "text_b\ttext_a\tqid\n坏\t好\tx3\n"):
        (row,) = read(hidden, text, tmp_path).examples
        assert row == Example(("好", "坏"), id="x3")
        assert not row.labelled
    (row,) = read(replace(LINES, labelled=False), '{"s": "好"}\n', tmp_path).examples
    assert row == Example(("好",), id="0")


def test_labels_are_renamed_and_those_that_say_so_leave_the_row_out(tmp_path: Path) -> None:
    layout = JsonLines({"text_a": "s", "label": "y", "id": "n"}, names={"good": "1", "true": "1"}, drop={"-": "no_majority"})
    lines = [
        {"s": "好", "y": "good", "n": 5},
        {"s": "", "y": "-", "n": 6},
        {"s": "坏", "y": 0, "n": 7},
        {"s": "", "y": -100, "n": 8},
        {"s": "x", "y": True, "n": 9},
    ]
    subset = read(layout, "\n".join(json.dumps(row) for row in lines), tmp_path)
    assert [(e.labels, e.id) for e in subset.examples] == [((1,), "5"), ((0,), "7"), ((1,), "9")]
    assert subset.dropped == {"no_majority": 1, "ignored": 1}


def test_a_few_malformed_rows_are_left_out_where_declared_and_never_more(tmp_path: Path) -> None:
    layout = replace(BARE, max_malformed=2)
    good, bad = "好\t坏\t1\n", "好\t坏 1\n"
    subset = read(layout, bad + good + "好\t坏\t10\n" + good, tmp_path, LCQMC)
    assert [e.id for e in subset.examples] == ["1", "3"]
    assert subset.dropped == {"malformed": 2}
    with pytest.raises(InputError, match="2 wrong rows were left out before it, and no more may be") as error:
        read(layout, bad + bad + good + bad, tmp_path, LCQMC)
    assert error.value.where.endswith(":4")


def test_the_layout_is_chosen_by_the_header_that_fits(tmp_path: Path) -> None:
    both = Either((ERNIE_PAIR, BARE))
    assert read(both, "label\ttext_b\ttext_a\n1\t坏\t好\n", tmp_path, LCQMC) == read(both, "好\t坏\t1\n", tmp_path, LCQMC)
    with pytest.raises(InputError, match="label 'lable'"):
        read(both, "text_a\ttext_b\tlable\n好\t坏\t1\n", tmp_path, LCQMC)


def test_rows_of_other_languages_belong_to_another_benchmark(tmp_path: Path) -> None:
    layout = Table({"text_a": "s", "label": "y"}, where={"language": "zh"})
    subset = read(layout, "language\ty\ts\nen\tunknown\t\nzh\t1\t好\nzh\t0\t坏\n", tmp_path)
    assert subset == Subset((Example(("好",), (1,), id="0"), Example(("坏",), (0,), id="1")))
    with pytest.raises(InputError, match="E-BENCH-HEADER"):
        read(layout, "y\ts\n1\t好\n", tmp_path)
    with pytest.raises(InputError, match="3 columns"):
        read(layout, "language\ty\ts\nen\tunknown\n", tmp_path)


def test_columns_are_declared_whole_and_fit_what_the_benchmark_predicts(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"unknown fields \['txt'\]"):
        Table({"text_a": "a", "label": "b", "txt": "c"})
    for columns, labelled in (({"text_a": "a"}, True), ({"label": "a"}, True), ({"text_b": "a"}, False)):
        with pytest.raises(ValueError, match="columns must give text_a"):
            Table(columns, labelled=labelled)
    with pytest.raises(InputError, match=r"E-BENCH-TARGET no column .*; expected a column for value"):
        read(ERNIE_PAIR, "label\ttext_a\ttext_b\n1\t好\t坏\n", tmp_path, STSB)
    with pytest.raises(InputError, match="expected a column for label"):
        read(SCORES, "score\ta\tb\n1\t好\t坏\n", tmp_path, LCQMC)


def test_layouts_travel_to_other_processes() -> None:
    for layout in (ERNIE, CSV, LINES, OBJECT, Either((ERNIE, BARE))):
        assert pickle.loads(pickle.dumps(layout)) == layout


def test_microsofts_paraphrases_lose_the_rows_that_glue_holds_back(tmp_path: Path) -> None:
    header = "\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String\r\n"
    whole = write(tmp_path, header + '1\t10\t11\ta "b\tc\r\n0\t10\t12\td\te\r\n1\t12\t10\tf\tg\r\n', "msr_paraphrase_train.txt")
    write(tmp_path, header + "0\t10\t12\td .\te .\n", "dev.tsv")
    assert Mrpc("dev.tsv").read(whole, MRPC).examples == (Example(('a "b', "c"), (1,), id="0"), Example(("f", "g"), (1,), id="1"))
    write(tmp_path, header + "0\t10\t13\td .\te .\n", "dev.tsv")
    with pytest.raises(InputError, match="only pairs of msr_paraphrase_train"):
        Mrpc("dev.tsv").read(whole, MRPC)
    (tmp_path / "dev.tsv").unlink()
    with pytest.raises(InputError, match="E-BENCH-MISSING"):
        Mrpc("dev.tsv").read(whole, MRPC)


FIELD = st.text(st.characters(exclude_characters="\n\r\t\ufeff", exclude_categories=["Cs"]), min_size=1).filter(lambda t: bool(t.strip()))


@given(st.lists(st.tuples(FIELD, FIELD, st.sampled_from("01")), min_size=1, max_size=4))
def test_whatever_text_is_written_is_read_back(tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str, str]]) -> None:
    folder = tmp_path_factory.mktemp("rows")
    wanted = tuple(Example((a, b), (int(label),), id=str(i)) for i, (a, b, label) in enumerate(rows))
    table = "label\ttext_a\ttext_b\n" + "".join(f"{label}\t{a}\t{b}\n" for a, b, label in rows)
    csv = "y,a,b\n" + "".join(f'{label},"{a.replace(chr(34), chr(34) * 2)}","{b.replace(chr(34), chr(34) * 2)}"\n' for a, b, label in rows)
    lines = "".join(json.dumps({"a": a, "b": b, "y": int(label)}) + "\n" for a, b, label in rows)
    columns = {"text_a": "a", "text_b": "b", "label": "y"}
    assert read(ERNIE_PAIR, table, folder, LCQMC).examples == wanted
    assert read(Table(columns, delimiter=",", quoted=True), csv, folder, LCQMC).examples == wanted
    assert read(JsonLines(columns), lines, folder, LCQMC).examples == wanted


@pytest.mark.parametrize(
    ("name", "file", "text", "texts", "label"),
    [
        ("afqmc", "train.json", '{"sentence1": "借呗", "sentence2": "花呗", "label": "0"}\n', ("借呗", "花呗"), 0),
        ("nlpcc_dbqa", "nlpcc-iccpol-2016.dbqa.training-data", "谁写的？\t鲁迅写的。\t1\n谁写的？\t天气好。\t0\n", ("谁写的？", "鲁迅写的。"), 1),
    ],
)
def test_forms_of_which_no_real_file_is_at_hand_are_read(name: str, file: str, text: str, texts: tuple[str, str], label: int, tmp_path: Path) -> None:
    benchmark = all_benchmarks()[name]
    (source,) = [s for s in benchmark.sources["train"] if s.file == file]
    (tmp_path / file).write_text(text, encoding="utf-8")
    found = source.layout.read(tmp_path / file, benchmark).examples
    assert len(found) == text.count("\n")
    assert (found[0].texts, found[0].labels) == (texts, (label,))
    assert {e.group for e in found} == ({texts[0]} if name == "nlpcc_dbqa" else {""})
