"""Input in an object store, by stand-ins for one: a folder as the store's root, and file:// addresses."""

from __future__ import annotations

import gzip
import io
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import fs
from reader_helper import good, read_corpus

from corpus_prep import stores
from corpus_prep.stores import find, input_files, matches
from ernie_core.errors import InputError, RecipeError
from pipelines.steps import _input_states


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A bucket's folder, opened for s3://bucket."""
    root = tmp_path / "store"
    (root / "bucket" / "a" / "b").mkdir(parents=True)
    asked: list[tuple[str, str, str]] = []

    def remote(scheme: str, host: str, query: str) -> fs.FileSystem:
        asked.append((scheme, host, query))
        assert scheme == "s3"
        assert query in {"", "?region=x"}
        return fs.SubTreeFileSystem(str(root), fs.LocalFileSystem())

    monkeypatch.setattr(stores, "remote", remote)
    return root / "bucket"


def test_every_kind_of_file_is_read_from_a_store(store: Path) -> None:
    text = "\n\n".join(f"第{i}篇。" for i in range(200))
    (store / "a" / "1.txt").write_text(text)
    (store / "a" / "b" / "2.txt.gz").write_bytes(gzip.compress(text.encode()))
    (store / "a" / ".3.txt").write_text("no")
    found = good(read_corpus("s3://bucket/a/**/*.txt*", "text", 500))
    assert [d.paragraphs for d in found] == [(f"第{i}篇。",) for i in range(200)] * 2
    assert {d.work for d in found} == {"1.txt", "2.txt.gz"}
    (store / "t.tsv").write_text("id\ttext\n1\t好\n")
    assert good(read_corpus("s3://bucket/t.tsv?region=x", "tsv"))[0].paragraphs == ("好",)
    pq.write_table(pa.table({"text": ["好"]}), store / "t.parquet")
    assert good(read_corpus("s3://bucket/*.parquet", "parquet"))[0].paragraphs == ("好",)


@pytest.mark.parametrize("name", ["x.txt", "x.txt.gz", "x.zip", "x.tar", "x.parquet"])
def test_a_store_that_fails_in_the_middle_is_named_and_the_file_not_called_damaged(store: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (store / name).write_bytes(b"x" * 100)

    class Failing:
        def open_input_file(self, _path: str) -> io.BytesIO:
            return Broken(b"x" * 100)

        def get_file_info(self, selector: fs.FileSelector) -> list[fs.FileInfo]:
            return list(fs.SubTreeFileSystem(str(store.parent), fs.LocalFileSystem()).get_file_info(selector))

    class Broken(io.BytesIO):
        def read(self, _size: int | None = -1) -> bytes:
            raise OSError("connection reset")

    monkeypatch.setattr(stores, "remote", lambda *_: Failing())
    reader = "parquet" if name.endswith("parquet") else "text"
    with pytest.raises(InputError) as e:
        read_corpus(f"s3://bucket/{name}", reader, archives=True)
    assert (e.value.code, e.value.where, e.value.found) == ("E-STORE", f"s3://bucket/{name}", "connection reset")


def test_a_changed_object_is_noticed(store: Path) -> None:
    (store / "x.txt").write_text("一。")
    before = _input_states(["s3://bucket/*.txt"])
    assert list(before) == ["s3://bucket/x.txt"]
    (store / "x.txt").write_text("一二。")
    assert _input_states(["s3://bucket/*.txt"]) != before


def test_addresses_of_files(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text("一。")
    assert [f.path for f in find(f"file://{tmp_path}/*.txt")] == [f"file://{tmp_path}/x.txt"]
    assert good(read_corpus(f"file://{tmp_path}/x.txt", "text"))[0].paragraphs == ("一。",)


def test_nothing_there_and_nothing_that_can_be_read(store: Path) -> None:
    with pytest.raises(InputError, match="E-CORPUS-MISSING"):
        input_files("c", "s3://bucket/none/*.txt")
    (store / "a" / "x.txt").touch()
    with pytest.raises(InputError, match="E-CORPUS-EMPTY"):
        input_files("c", "s3://bucket/a/*.txt")


def test_keys_in_an_address_are_refused_and_not_shown() -> None:
    with pytest.raises(RecipeError) as e:
        find("s3://KEY:SECRET@bucket/x")
    assert e.value.code == "E-CREDENTIALS"
    assert "SECRET" not in str(e.value)
    with pytest.raises(InputError, match="E-STORE"):
        find("nosuchstore://bucket/x")


def test_files_are_counted_before_they_are_read(tmp_path: Path) -> None:
    for i in range(3):
        (tmp_path / f"{i}.txt").write_text("x")
    assert len(input_files("c", f"{tmp_path}/*.txt", 3)) == 3
    with pytest.raises(InputError, match="E-CORPUS-FILES"):
        input_files("c", f"{tmp_path}/*.txt", 2)


@pytest.mark.parametrize(
    ("path", "pattern", "expected"),
    [
        ("a.txt", "*.txt", True), ("a/b.txt", "*.txt", False), ("a/b.txt", "**/*.txt", True), ("b.txt", "**/*.txt", True), ("a/b/c", "**", True),
        ("a/.h/c", "**", False), (".h", "*", False), (".h", ".*", True), ("a/b", "a", False), ("a", "a/b", False), ("a1/x", "a[0-9]/x", True),
    ],
)  # fmt: skip
def test_globs(path: str, pattern: str, expected: bool) -> None:
    assert matches(path.split("/"), pattern.split("/")) is expected
