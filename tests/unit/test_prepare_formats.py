"""Every reader on what it is for and on nasty input."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reader_helper import good, read_bytes, read_corpus, reasons

from corpus_prep import framing
from corpus_prep.clean import clean
from corpus_prep.paragraphs import paragraphs
from corpus_prep.readers.base import RawDocument, Reject, all_readers
from ernie_core.errors import InputError, RecipeError
from ernie_core.normalise import Normaliser
from ernie_core.schemas import KINDS


def shape(document: RawDocument) -> tuple[Any, ...]:
    return document.title, document.paragraphs, document.roles


@pytest.mark.parametrize(
    ("rule", "text", "expected"),
    [
        ("lines", "一。\r\n\r\n二。 ", ("一。", "", "二。 ")),
        ("spaces", "一。  二。 三。\u3000\u3000四。", ("一。", "二。 三。", "四。")),
        ("joined", "他说\n你好。\nGood\nday", ("他说你好。Good day",)),
        ("wrapped", "It was the best of times, it was the\nworst of times.\nIt was the age of wisdom, it was the\nage of foolishness, it was\n\nCHAPTER II\nThe end of all the things that we know", ("It was the best of times, it was the worst of times.", "It was the age of wisdom, it was the age of foolishness, it was", "CHAPTER II", "The end of all the things that we know")),
        ("wrapped", "x" * 400 + ".\n" + "y" * 300 + ".\nshort", ("x" * 400 + ".", "y" * 300 + ".", "short")),
    ],
)  # fmt: skip
def test_paragraph_rules(rule: str, text: str, expected: tuple[str, ...]) -> None:
    assert paragraphs(text, rule) == expected


def test_text_by_file_by_line_and_by_heading(tmp_path: Path) -> None:
    data = "\ufeff题目\n\n一。\n二。\n".encode()
    assert [shape(d) for d in good(read_bytes(tmp_path, data, "text", documents="file", title="first_line"))] == [
        ("题目", ("", "一。", "二。", ""), ())
    ]
    assert [d.paragraphs for d in good(read_bytes(tmp_path, data, "text", documents="line"))] == [("题目",), ("一。",), ("二。",)]
    wiki = b" \n = First = \n \n one .\n = = Part = = \n two .\n \n = Second = \n three .\n"
    found = [d for size in (1, 25, 1 << 20) for d in good(read_bytes(tmp_path, wiki, "text", split_bytes=size, documents="heading"))]
    assert [d.title for d in found] == ["First", "Second"] * 3


def test_csv_with_quotes_line_breaks_and_a_mark_that_is_never_closed(tmp_path: Path) -> None:
    data = '\ufeffid,text\r\n1,"a, ""b""\n第二行"\r\n2,"open\n3,c\n4,d\n5,e,f\n'.encode()
    for size in (1, 8, 1 << 20):
        found = read_bytes(tmp_path, data, "csv", split_bytes=size)
        assert [d.paragraphs for d in good(found)] == [('a, "b"', "第二行"), ("c",), ("d",)]
        assert reasons(found) == ["no row of a CSV file (unexpected end of data)", "3 columns where the header has 2"]


@given(
    st.lists(st.sampled_from([b"a", b'"', b"\n", b",", b'""', b"\r\n", b"bb", b'"\n"', b"\xe5\xa5\xbd"]), max_size=50),
    st.integers(1, 40),
    st.integers(4, 40),
)
def test_csv_does_not_depend_on_splits_nor_lose_a_byte(tmp_path: Path, pieces: list[bytes], size: int, limit: int) -> None:
    data = b"".join(pieces) + b"."
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(framing, "MAX_QUOTED_BYTES", limit)
        whole = read_bytes(tmp_path, data, "csv", header=False, text=1)
        assert read_bytes(tmp_path, data, "csv", split_bytes=size, header=False, text=1) == whole
        assert b"".join(framing.quoted_records(framing.line_stream([data]))) == data


def test_tsv_keeps_quotation_marks_and_takes_columns_by_number(tmp_path: Path) -> None:
    found = read_bytes(tmp_path, 't1\t"他说\n\nt2\t好\nt3\n'.encode(), "tsv", header=False, text=2, title=1)
    assert [shape(d) for d in good(found)] == [("t1", ('"他说',), ()), ("t2", ("好",), ())]
    assert reasons(found) == ["no text under the key 2"]


def test_a_table_without_the_column_is_refused_at_once_with_its_columns(tmp_path: Path) -> None:
    with pytest.raises(InputError) as e:
        read_bytes(tmp_path, b"id,body\n1,a\n", "csv")
    assert (e.value.code, e.value.found) == ("E-SCHEMA", "text missing; the file has id, body")
    with pytest.raises(InputError) as e:
        read_bytes(tmp_path, "编号,正文内容文章\n1,a\n".encode("gb18030"), "csv")
    assert (e.value.code, e.value.fix) == ("E-SCHEMA", "encoding: gb18030")


def test_every_split_of_a_table_knows_its_header(tmp_path: Path) -> None:
    rows = [f"{i}\t句子{i}" for i in range(50)]
    found = good(read_bytes(tmp_path, "\n".join(["id\ttext", *rows]).encode(), "tsv", split_bytes=40))
    assert [d.paragraphs for d in found] == [(f"句子{i}",) for i in range(50)]


def parquet(folder: Path, table: pa.Table, **options: Any) -> Path:
    pq.write_table(table, folder / "x.parquet", **options)
    return folder / "x.parquet"


@pytest.mark.parametrize("size", [1, 300, 1 << 20])
def test_parquet_rows_by_splits_and_row_groups(tmp_path: Path, size: int) -> None:
    table = pa.table(
        {
            "n": range(100),
            "t": [None if i == 7 else f"题{i}" for i in range(100)],
            "text": pa.array([f"文{i}\n二" for i in range(100)]).dictionary_encode(),
        }
    )
    found = good(read_corpus(parquet(tmp_path, table, row_group_size=30), "parquet", size, options={"title": "t"}))
    assert [(d.offset, d.title, d.paragraphs) for d in found] == [(i, "" if i == 7 else f"题{i}", (f"文{i}", "二")) for i in range(100)]


def test_parquet_bytes_that_are_not_utf8_and_nulls_cost_their_row(tmp_path: Path) -> None:
    raw = pa.Array.from_buffers(pa.string(), 4, pa.array([b"good", b"\xff\xfe", b"fine", None], pa.binary()).buffers())
    found = read_corpus(parquet(tmp_path, pa.table({"text": raw})), "parquet")
    assert [d.paragraphs for d in good(found)] == [("good",), ("fine",)]
    assert [(d.offset, d.reason) for d in found if isinstance(d, Reject)] == [(1, "not UTF-8"), (3, "no text or list of texts under the key 'text'")]


def test_parquet_of_another_schema_is_refused_with_each_difference(tmp_path: Path) -> None:
    path = parquet(tmp_path, pa.table({"text": pa.array([1], pa.int32()), "titel": ["a"]}))
    with pytest.raises(InputError) as e:
        read_corpus(path, "parquet", options={"title": "title"})
    assert (e.value.code, e.value.found) == ("E-SCHEMA", "title is missing; text is int32; the file has text (int32), titel (string)")
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(InputError, match="E-PARQUET"):
        read_corpus(path, "parquet")


def test_segmented_words_are_kept_and_their_tags_left_out(tmp_path: Path) -> None:
    (found,) = good(read_bytes(tmp_path, "迈向/v  １２月/t  //w\n\n".encode(), "segmented", tags="/"))
    assert (found.paragraphs, found.words) == (("迈向１２月/",), (("迈向", "１２月", "/"),))


def test_dialogues_of_every_format(tmp_path: Path) -> None:
    row = {"turns": [{"speaker": "A", "text": "你好"}, {"speaker": 2, "text": "好"}, "嗯"]}
    assert [shape(d) for d in good(read_bytes(tmp_path, json.dumps(row).encode(), "dialogue"))] == [("", ("你好", "好", "嗯"), ("A", "2", ""))]
    marks = "E\r\nM 你好\r\nM E\nM \nE\nE\nM 再见\nx\nE".encode()
    for size in (1, 9, 1 << 20):
        found = read_bytes(tmp_path, marks, "dialogue", split_bytes=size, format="marks")
        assert [d.paragraphs for d in good(found)] == [("你好", "E"), (), ("再见",), ()]
    assert good(read_bytes(tmp_path, "甲\t乙\n".encode(), "dialogue", format="tsv"))[0].paragraphs == ("甲", "乙")
    nested = {"train": [["我 有 1 0 个 iPhone case", "好 。"], []], "n": 3, "b": {"c": [["x", "y"]]}}
    found = read_bytes(tmp_path, json.dumps(nested).encode(), "dialogue", format="json", spaced=True)
    assert [d.paragraphs for d in good(found)] == [("我有10个iPhone case", "好。"), ("x", "y")]
    assert {d.kind for d in good(found)} == {"dialogue"}


@pytest.mark.parametrize(
    "row", ['{"turns": []}', '{"turns": "a"}', '{"turns": [{"txt": "a"}]}', '{"turns": [3]}', '{"turns": ["\\ud800"]}', "[]", '{"t": 1}']
)
def test_a_bad_dialogue_is_rejected(tmp_path: Path, row: str) -> None:
    found = read_bytes(tmp_path, (row + '\n{"turns": ["a", "b"]}').encode(), "dialogue")
    assert (len(good(found)), len(reasons(found))) == (1, 1)


def test_questions_with_graded_answers(tmp_path: Path) -> None:
    row = {"question": "问", "answers": [{"text": "甲\n乙", "accepted": True}, {"text": "丙"}, "丁"]}
    (found,) = good(read_bytes(tmp_path, json.dumps(row).encode(), "qa"))
    assert shape(found) == ("", ("问", "甲 乙", "丙", "丁"), ("question", "accepted", "answer", "accepted"))
    (found,) = good(
        read_bytes(tmp_path, 'title,ask,answer\n题,"",答\n'.encode(), "qa", format="csv", title="title", question="ask", answers="answer")
    )
    assert shape(found) == ("题", ("题", "答"), ("question", "accepted"))
    blocks = good(read_bytes(tmp_path, "题,问，有,号\n答。\n\n只问\n答".encode(), "qa", format="blocks"))
    assert [shape(d)[:2] for d in blocks] == [("题", ("问，有,号", "答。")), ("", ("只问", "答"))]
    for answers in ([3], [{"text": None}], None, [{"text": "a", "accepted": "yes"}]):
        assert len(reasons(read_bytes(tmp_path, json.dumps({"question": "q", "answers": answers}).encode(), "qa"))) == 1


def test_dureader_marks_selected_documents(tmp_path: Path) -> None:
    row = {"question": "问", "documents": [{"is_selected": True, "paragraphs": ["甲", "乙"]}, {"segmented_paragraphs": [["丙", "丁"]]}]}
    (found,) = good(read_bytes(tmp_path, json.dumps(row).encode(), "qa", format="dureader"))
    assert shape(found) == ("", ("问", "甲", "乙", "丙丁"), ("question", "accepted", "accepted", "answer"))
    for bad in (
        {"question": "q"},
        {"question": "q", "documents": [1]},
        {"question": "q", "documents": 3},
        {"question": "q", "documents": [{"paragraphs": [1]}]},
    ):
        assert len(reasons(read_bytes(tmp_path, json.dumps(bad).encode(), "qa", format="dureader"))) == 1, bad


def test_queries_with_and_without_clicks(tmp_path: Path) -> None:
    (found,) = good(read_bytes(tmp_path, "天气\t北京天气\t1\n".encode(), "query_title", format="tsv", header=False, query=1, title=2, clicked=3))
    assert shape(found) == ("", ("天气", "北京天气"), ("query", "clicked"))
    row = {"query": "q", "title": ["a", "b"], "clicked": [False, 1]}
    (found,) = good(read_bytes(tmp_path, json.dumps(row).encode(), "query_title", clicked="clicked"))
    assert found.roles == ("query", "shown", "clicked")
    (found,) = good(read_bytes(tmp_path, json.dumps(row).encode(), "query_title"))
    assert found.roles == ("query", "title", "title")
    for bad in ({**row, "clicked": [1]}, {**row, "clicked": 2}, {**row, "title": 1}):
        assert len(reasons(read_bytes(tmp_path, json.dumps(bad).encode(), "query_title", clicked="clicked"))) == 1


def test_pairs_carry_their_label_as_text(tmp_path: Path) -> None:
    rows = [{"sentence1": "甲", "sentence2": "乙", "label": label} for label in (1, "entailment", None)]
    found = read_bytes(tmp_path, "\n".join(map(json.dumps, rows)).encode(), "pairs", format="jsonl", label="label")
    assert [(d.kind, d.roles, d.label) for d in good(found)] == [("pair", ("sentence1", "sentence2"), label) for label in ("1", "entailment")]
    assert reasons(found) == ["no text or number under the key 'label'"]


def test_markdown_without_code_tables_images_and_link_lists(tmp_path: Path) -> None:
    text = """题目
======

用 `ls` 看[目录][1]，<ruby>别名<rt>alias</rt></ruby>好
用。

![图][2]

```
code
```

    more code

* [一](http://a) [二](http://b)
* 一个条目。

| a | b |
|---|---|
| 1 | 2 |

via: https://example.org/some/long/path

<div>html</div>

[1]: http://x
[2]: http://y "t"
"""
    (found,) = good(read_bytes(tmp_path, text.encode(), "markdown"))
    assert shape(found)[:2] == ("题目", ("用 ls 看目录，别名好用。", "一个条目。"))
    wrapped = ["　　" + "一" * 38, "二" * 40, "三" * 40, "四" * 40, "五" * 11 + "。"]
    fenced = "```\n" + "\n".join(["《小彼得》序", "", *wrapped, "", "　　一。〔2〕", "", "# 不是标题"]) + "\n```\n"
    (found,) = good(read_bytes(tmp_path, fenced.encode(), "markdown", code="text"))
    assert [p for p in found.paragraphs if p] == ["《小彼得》序", "".join(wrapped).strip(), "一。〔2〕", "# 不是标题"]


def test_html_paragraphs_without_scripts_and_tables(tmp_path: Path) -> None:
    text = """<!doctype html><html><head><title>题
 目</title><style>p{}</style></head><body><nav>menu</nav>　　一。<br><br>　　二，<br>续。<p>三&amp;四&nbsp;<b>粗</b>体<script>x()</script></p>
<table><tr><td>1</td></tr></table><ul><li>甲<li>乙</ul>尾\ufdd0巴</body>"""
    (found,) = good(read_bytes(tmp_path, text.encode(), "html"))
    assert shape(found)[:2] == ("题目", ("一。", "二，续。", "三&四\xa0粗体", "甲", "乙", "尾巴"))
    (deep,) = good(read_bytes(tmp_path, (b"<div><b>" * 2_000) + b"text", "html"))
    assert deep.paragraphs == ("text",)


NASTY = st.one_of(
    st.binary(max_size=120),
    st.text(max_size=60).map(lambda t: t.encode("utf-8", "surrogatepass")),
    st.lists(st.sampled_from([b"E\n", b"M a\n", b"\n", b'"', b"{", b"}", b"[", b'"turns":', b'"text"', b":", b",", b"\t", b"1", b"<br>", b"<p>", b"&#0;", b"```", b"#", b"|", b"\\ud800", b"= a =\n"]), max_size=40).map(b"".join),
    st.recursive(st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=4), lambda c: st.lists(c, max_size=3) | st.dictionaries(st.sampled_from(["text", "title", "turns", "question", "answers", "query", "documents", "sentence1", "paragraphs", "accepted"]), c, max_size=4), max_leaves=8).map(lambda v: json.dumps(v).encode()),
)  # fmt: skip
DECLARED: list[tuple[str, dict[str, Any]]] = [
    ("text", {"documents": "heading", "title": "first_line"}), ("text", {"documents": "file", "paragraphs": "wrapped"}), ("text", {"documents": "line", "paragraphs": "spaces"}),
    ("jsonl", {"title": "title"}), ("csv", {"header": False, "text": 1}), ("tsv", {"header": False, "text": 2}), ("segmented", {"tags": "/"}),
    ("dialogue", {}), ("dialogue", {"format": "marks"}), ("dialogue", {"format": "tsv", "spaced": True}), ("dialogue", {"format": "json"}),
    ("qa", {}), ("qa", {"format": "blocks"}), ("qa", {"format": "dureader"}), ("query_title", {"clicked": "accepted"}), ("pairs", {"format": "jsonl", "sentence2": "title"}),
    ("markdown", {}), ("markdown", {"code": "text"}), ("html", {}),
]  # fmt: skip


@pytest.mark.parametrize(("reader", "options"), DECLARED, ids=lambda v: v if isinstance(v, str) else "-".join(map(str, v.values())))
@given(data=NASTY)
def test_no_bytes_crash_a_reader_and_its_documents_are_sound(tmp_path: Path, reader: str, options: dict[str, Any], data: bytes) -> None:
    for found in read_bytes(tmp_path, data + b" ", reader, split_bytes=16, **options):
        if isinstance(found, Reject):
            assert found.reason
            assert data[found.offset :].startswith(bytes.fromhex(found.head_hex).rstrip()[:1])
            continue
        assert found.kind in KINDS
        assert len(found.roles) == (0 if found.kind == "text" else len(found.paragraphs))
        assert not found.words or len(found.words) == len(found.paragraphs)
        assert "\ud800" not in "".join(found.paragraphs)
        clean(found, Normaliser(to_simplified=False), html_entities=True)


def test_every_reader_is_declared_above_or_for_parquet() -> None:
    assert set(all_readers()) - {name for name, _ in DECLARED} == {"parquet"}


def test_options_are_checked_and_explained() -> None:
    with pytest.raises(RecipeError, match="reader csv has no option 'colunm'; expected "):
        all_readers()["csv"].complete({"colunm": 1})
    with pytest.raises(RecipeError, match="option header of reader csv; expected true or false; found 'no'"):
        all_readers()["csv"].complete({"header": "no"})
    lines = [line for reader in all_readers().values() for line in reader.explain()]
    assert '  quotes: csv: a field may stand in "", with line breaks in it; default true' in lines


@pytest.mark.parametrize(
    ("reader", "options", "says"),
    [
        ("jsonl", {"text": 2}, "option text of reader jsonl; expected a name: only csv and tsv have columns by number; found 2"),
        ("csv", {"header": False}, "option text of reader csv; expected a column's number, since header is false; found 'text'"),
        ("pairs", {"sentence1": 1, "format": "parquet"}, "option sentence1 of reader pairs; expected a name"),
    ],
)
def test_columns_by_number_and_by_name_are_not_mixed_up(reader: str, options: dict[str, Any], says: str) -> None:
    with pytest.raises(RecipeError, match=says):
        all_readers()[reader].complete(options)
    assert all_readers()["csv"].complete({"text": 2})["text"] == 2


def test_what_would_keep_a_parser_busy_for_hours_is_rejected(tmp_path: Path) -> None:
    assert reasons(read_bytes(tmp_path, b"<div>" * 1_000_000, "html")) == ["tags nested too deeply"]
    assert reasons(read_bytes(tmp_path, b"[" * 1_000_000, "markdown")) == ["too many brackets in a paragraph"]


def test_a_document_at_its_limit_is_read_and_one_byte_more_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"12345\n\n123456\n")
    found = read_corpus(tmp_path / "x", "text", max_document_bytes=5)
    assert [d.paragraphs for d in good(found)] == [("12345",)]
    assert [(d.offset, d.reason) for d in found if isinstance(d, Reject)] == [(7, "E-DOCUMENT-LONG: more than max_document_bytes, 5")]


def test_a_fallback_encoding_is_used_only_where_the_first_fails(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes("café £\n\n".encode() + "café £".encode("latin-1"))
    assert [d.paragraphs for d in good(read_corpus(tmp_path / "x", "text", fallback_encoding="latin-1"))] == [("café £",)] * 2
    assert reasons(read_corpus(tmp_path / "x", "text")) == ["not UTF-8"]


@pytest.mark.parametrize("reader", ["text", "jsonl", "tsv"])
def test_a_million_empty_lines_are_no_documents(tmp_path: Path, reader: str) -> None:
    options = {"header": False, "text": 1} if reader == "tsv" else {}
    assert read_bytes(tmp_path, b"\n" * 500_000 + b" \r\n" * 500_000, reader, **options) == []


def test_a_file_compressed_twice_is_rejected_not_read_as_text(tmp_path: Path) -> None:
    found = read_bytes(tmp_path, gzip.compress(gzip.compress("好。".encode())), "text", name="x.gz")
    assert (len(found), reasons(found)) == (1, ["not UTF-8"])


def test_files_that_expand_to_nothing_are_an_empty_corpus(tmp_path: Path) -> None:
    (tmp_path / "x.txt.gz").write_bytes(gzip.compress(b""))
    pq.write_table(pa.table({"text": pa.array([], pa.string())}), tmp_path / "x.parquet")
    for name, reader in (("x.txt.gz", "text"), ("x.txt.gz", "html"), ("x.parquet", "parquet")):
        with pytest.raises(InputError, match="E-CORPUS-EMPTY"):
            read_corpus(tmp_path / name, reader)
