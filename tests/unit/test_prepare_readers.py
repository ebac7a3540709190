from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpus_prep.readers.base import RawDocument, Reject
from corpus_prep.splits import documents, guess_encoding, plan_splits, read_split
from ernie_core.errors import InputError, RecipeError


def read(path: Path | str, reader: str, split_bytes: int = 1 << 20, title: str = "title") -> list[RawDocument | Reject]:
    splits = plan_splits({"c": {"reader": reader, "path": str(path), "options": {"title": title} if reader == "jsonl" else {}}}, split_bytes)
    assert [s.number for s in splits] == list(range(len(splits)))
    return [d for split in splits for d in documents(split, read_split(split)[0])]


def texts(found: list[RawDocument | Reject]) -> list[tuple[str, ...]]:
    return [d.paragraphs for d in found if isinstance(d, RawDocument)]


def test_a_blank_line_ends_a_text_document_and_a_line_is_a_paragraph(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("一。\n二。\n \t\r\n\n三。\r\n四。".encode())
    assert texts(read(tmp_path / "a.txt", "text")) == [("一。", "二。"), ("三。", "四。")]


def test_only_line_feeds_end_a_record(tmp_path: Path) -> None:
    odd = "a\u2028b\u2029c\u0085d\x0be\x0cf\rg"
    (tmp_path / "a.jsonl").write_bytes("".join(json.dumps({"text": odd}, ensure_ascii=False).replace("\\r", "\\r") + "\n" for _ in range(9)).encode())
    (tmp_path / "a.txt").write_bytes("\n\n".join([odd] * 9).encode())
    assert texts(read(tmp_path / "a.jsonl", "jsonl")) == [(odd,)] * 9
    assert texts(read(tmp_path / "a.txt", "text")) == [(odd,)] * 9


BAD_BYTES = {"0xff": b"\xff", "overlong": b"\xc0\xaf", "cut": "好".encode()[:2], "surrogate": b"\xed\xa0\x80"}


@pytest.mark.parametrize("reader", ["text", "jsonl"])
@pytest.mark.parametrize("bad", BAD_BYTES.values(), ids=BAD_BYTES)
def test_invalid_utf8_costs_one_document_and_is_named(tmp_path: Path, bad: bytes, reader: str) -> None:
    good = ['{"text": "好"}'.encode() if reader == "jsonl" else "好".encode()] * 3
    records = [good[0], b'{"text": "' + bad + b'"}' if reader == "jsonl" else bad, *good[1:]]
    separator = b"\n" if reader == "jsonl" else b"\n\n"
    (tmp_path / "a").write_bytes(separator.join(records))
    found = read(tmp_path / "a", reader)
    assert texts(found) == [("好",)] * 3
    rejects = [d for d in found if isinstance(d, Reject)]
    assert [(r.path, r.offset, r.reason) for r in rejects] == [(str(tmp_path / "a"), len(good[0]) + len(separator), "not UTF-8")]
    assert bytes.fromhex(rejects[0].head_hex) == records[1]


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ("{", "Expecting property name enclosed in double quotes"), ("[1]", "no JSON object"), ('{"title": "T"}', "no field 'text'"),
        ('{"text": 3}', "no text or list of texts under the key 'text'"), ('{"text": "\\ud800"}', "lone surrogate"), ('{"title": 1, "text": "a"}', "no text under the key 'title'"),
        ("[" * 100_000, "nested too deeply"),
    ],
)  # fmt: skip
def test_a_bad_json_line_is_rejected_with_its_reason(tmp_path: Path, record: str, reason: str) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "before"}\n' + record + '\n{"text": "after"}\n')
    found = read(tmp_path / "a.jsonl", "jsonl")
    assert texts(found) == [("before",), ("after",)]
    assert [d.reason for d in found if isinstance(d, Reject)] == [reason]


def test_title_and_paragraphs_of_a_json_line(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('\ufeff{"title": "题", "text": "一\\n二"}\n', encoding="utf-8")
    assert read(tmp_path / "a.jsonl", "jsonl") == [RawDocument("a.jsonl", 0, "题", ("一", "二"))]


@given(
    st.lists(st.sampled_from([b"a", b"\xe5\xa5\xbd", b"\n", b"\n\n", b" ", b"\r\n", b"\xff", b"\t"]), max_size=60),
    st.integers(1, 80),
    st.sampled_from(["text", "jsonl"]),
)
def test_documents_do_not_depend_on_how_the_file_is_split(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[bytes], size: int, reader: str
) -> None:
    path = tmp_path_factory.mktemp("f") / "x"
    data = b"".join(pieces) + b"."
    path.write_bytes(data)
    splits = plan_splits({"c": {"reader": reader, "path": str(path)}}, size)
    assert b"".join(read_split(s)[0][0].data for s in splits) == data
    assert read(path, reader, size) == read(path, reader, 1 << 20)


def test_small_files_share_a_split_and_large_ones_are_cut(tmp_path: Path) -> None:
    for i in range(10):
        (tmp_path / f"{i}.txt").write_text("短文。\n")
    (tmp_path / "large.txt").write_text("段落。\n\n" * 100)
    splits = plan_splits({"c": {"reader": "text", "path": str(tmp_path / "*.txt")}}, 300)
    assert [len(s.parts) for s in splits] == [10, 1, 1, 1, 1]
    assert all(s.size_bytes <= 311 for s in splits)


def test_the_same_bytes_in_another_folder_are_the_same_split(tmp_path: Path) -> None:
    hashes = []
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x.txt").write_text("文。")
        (split,) = plan_splits({"c": {"reader": "text", "path": str(tmp_path / folder / "*.txt")}}, 100)
        hashes.append(read_split(split)[1])
    assert hashes[0] == hashes[1]


def test_a_corpus_without_files_names_its_pattern(tmp_path: Path) -> None:
    (tmp_path / ".hidden.txt").write_text("x")
    with pytest.raises(InputError) as e:
        read(f"{tmp_path}/*.txt", "text")
    assert (e.value.code, e.value.where, e.value.found, e.value.exit_code) == ("E-CORPUS-MISSING", f"{tmp_path}/*.txt", "0 files", 3)


def test_a_corpus_of_empty_files_names_how_many(tmp_path: Path) -> None:
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).touch()
    with pytest.raises(InputError) as e:
        read(f"{tmp_path}/*.txt", "text")
    assert (e.value.code, e.value.found) == ("E-CORPUS-EMPTY", "2 files of 0 bytes")


def test_unknown_reader_lists_the_valid_ones(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="unknown reader of corpus 'c': 'json'; expected one of jsonl, "):
        read(tmp_path, "json")


@pytest.mark.parametrize("encoding", ["gb18030", "utf-16", "big5"])
def test_the_encoding_of_foreign_bytes_is_guessed(encoding: str) -> None:
    text = "今天天氣很好我們去公園" if encoding == "big5" else "今天天气很好，我们去公园散步。"
    assert guess_encoding(text.encode(encoding)) in {encoding, "gb18030" if encoding == "big5" else encoding}
