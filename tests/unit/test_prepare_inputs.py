"""Compressed files: the documents and parts of the plain file, and refusal of what is damaged or grows beyond measure."""

from __future__ import annotations

import bz2
import gzip
import lzma
import re
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpus_prep import inputs
from corpus_prep.framing import BLOCKS
from corpus_prep.inputs import MAX_PARTS, Limits, byte_part, cut, read_part
from corpus_prep.readers.base import RawDocument
from corpus_prep.splits import documents, plan_splits, read_split
from corpus_prep.stores import InputFile
from ernie_core.errors import InputError

LIMITS = Limits()


def zst(data: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(data)
    return bytes(sink.getvalue())


PACK: dict[str, Callable[[bytes], bytes]] = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress, ".zst": zst}
TEXT = "\n\n".join(f"第{i}篇。\n正文{'字' * (i % 7)}。" for i in range(300)).encode()


def write(folder: Path, ending: str, data: bytes) -> Path:
    path = folder / f"a.txt{ending}"
    path.write_bytes(data)
    return path


def documents_of(path: Path, split_bytes: int, **corpus: str) -> list[RawDocument]:
    splits = plan_splits({"c": {"reader": "text", "path": str(path), **corpus}}, split_bytes)
    found = [d for split in splits for d in documents(split, read_split(split)[0])]
    assert all(isinstance(d, RawDocument) for d in found)
    return [d for d in found if isinstance(d, RawDocument)]


@pytest.mark.parametrize("ending", PACK)
def test_a_compressed_file_gives_the_documents_of_the_plain_one(tmp_path: Path, ending: str) -> None:
    plain = documents_of(write(tmp_path, "", TEXT), 500)
    packed = documents_of(write(tmp_path, ending, PACK[ending](TEXT)), 500)
    assert len(plain) == 300
    assert [(d.offset, d.paragraphs) for d in packed] == [(d.offset, d.paragraphs) for d in plain]


@given(st.binary(min_size=1, max_size=400).map(lambda b: re.sub(rb"[^a\n]", b"\n", b)), st.integers(1, 80), st.integers(1, 64))
def test_parts_of_a_compressed_file_are_those_of_the_plain_one(tmp_path: Path, data: bytes, part_bytes: int, chunk: int) -> None:
    plain = cut(InputFile.at(write(tmp_path, "", data)), BLOCKS, part_bytes, LIMITS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inputs, "CHUNK_BYTES", chunk)
        patch.setattr(inputs, "MAX_PARTS", 1 << 30)
        path = write(tmp_path, ".gz", gzip.compress(data))
        packed = cut(InputFile.at(path), BLOCKS, part_bytes, LIMITS)
        assert [(p.start, p.end) for p in packed] == [(p.start, p.end) for p in plain]
        assert b"".join(map(read_part, packed)) == data


def test_a_compressed_file_has_at_most_64_parts_and_nothing_is_lost(tmp_path: Path) -> None:
    parts = cut(InputFile.at(write(tmp_path, ".gz", gzip.compress(TEXT))), BLOCKS, 10, LIMITS)
    assert 32 < len(parts) <= MAX_PARTS
    assert b"".join(map(read_part, parts)) == TEXT


def test_members_of_a_gzip_file_are_read_one_after_the_other(tmp_path: Path) -> None:
    path = write(tmp_path, ".gz", gzip.compress(TEXT[:900]) + gzip.compress(TEXT[900:]))
    assert read_part(byte_part(str(path), 0, len(TEXT))) == TEXT


@pytest.mark.parametrize("ending", PACK)
@pytest.mark.parametrize("damage", ["cut off", "flipped", "not compressed"])
def test_a_damaged_file_is_refused_whole_before_any_work(tmp_path: Path, ending: str, damage: str) -> None:
    good = PACK[ending](TEXT)
    bad = {
        "cut off": good[: len(good) // 2],
        "flipped": good[: len(good) // 2] + bytes([good[len(good) // 2] ^ 1]) + good[len(good) // 2 + 1 :],
        "not compressed": TEXT,
    }
    path = write(tmp_path, ending, bad[damage])
    with pytest.raises(InputError, match="E-COMPRESSED") as e:
        plan_splits({"c": {"reader": "text", "path": str(path)}}, 500)
    assert e.value.where == str(path)


@pytest.mark.parametrize("ending", PACK)
def test_a_bomb_is_stopped(tmp_path: Path, ending: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs, "FREE_BYTES", 1 << 20)
    path = write(tmp_path, ending, PACK[ending](bytes(1 << 26)))
    with pytest.raises(InputError, match="E-BOMB"):
        cut(InputFile.at(path), BLOCKS, 1 << 16, LIMITS)


def test_what_grows_much_but_is_small_is_no_bomb(tmp_path: Path) -> None:
    data = b"\n" * (1 << 20)
    assert len(data) > inputs.MAX_RATIO * len(lzma.compress(data))
    assert cut(InputFile.at(write(tmp_path, ".xz", lzma.compress(data))), BLOCKS, 1 << 22, LIMITS) == [
        byte_part(str(tmp_path / "a.txt.xz"), 0, 1 << 20)
    ]


@pytest.mark.parametrize("encoding", ["gb18030", "big5"])
def test_a_declared_encoding_is_decoded(tmp_path: Path, encoding: str) -> None:
    text = "天下文章一大抄。\n看你會抄不會抄。\n\n第二篇。"
    plain = documents_of(write(tmp_path, "", text.encode()), 500)
    assert [d.paragraphs for d in documents_of(write(tmp_path, "", text.encode(encoding)), 500, encoding=encoding)] == [d.paragraphs for d in plain]


@pytest.mark.parametrize("ending", ["", ".gz"])
@pytest.mark.parametrize("reader", ["text", "jsonl", "csv", "html"])
def test_a_record_without_an_end_is_refused_at_its_limit_plus_one(tmp_path: Path, ending: str, reader: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs, "CHUNK_BYTES", 64)
    monkeypatch.setattr(inputs, "MAX_RECORD_BYTES", 200_000)
    corpus = {"reader": reader, "options": {"header": False, "text": 1} if reader == "csv" else {}}
    data = b"a" * 200_000
    path = write(tmp_path, ending, PACK[ending](data) if ending else data)
    assert len(plan_splits({"c": {**corpus, "path": str(path)}}, 100)) == 1
    data = b"a" * 300_000  # a plain file is looked through in steps of 64 KiB
    path = write(tmp_path, ending, PACK[ending](data) if ending else data)
    with pytest.raises(InputError, match="E-RECORD-LONG") as e:
        plan_splits({"c": {**corpus, "path": str(path)}}, 100)
    assert str(path) in e.value.where


def test_the_most_that_a_file_may_expand_to_is_its_corpus_s_to_say(tmp_path: Path) -> None:
    path = write(tmp_path, ".gz", gzip.compress(TEXT))
    assert plan_splits({"c": {"reader": "text", "path": str(path), "max_expanded_bytes": len(TEXT)}}, 500)
    with pytest.raises(InputError, match="E-BOMB"):
        plan_splits({"c": {"reader": "text", "path": str(path), "max_expanded_bytes": len(TEXT) - 1}}, 500)


def test_a_window_without_a_boundary_is_let_go_of(tmp_path: Path) -> None:
    line = b"a" * 1000 + b"\n"
    path = write(tmp_path, "", line * 30_000 + b"\nlast")
    file = InputFile.at(path)
    tracemalloc.start()
    try:
        assert [p.end for p in cut(file, BLOCKS, 1000, LIMITS)] == [30_000 * 1001 + 1, file.size]
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()
