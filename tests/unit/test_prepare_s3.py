"""Input over s3://, against a real S3 server on loopback."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest
from prepare_helper import SETTINGS, bytes_of, document
from reader_helper import good, read_corpus
from s3_helper import S3, put

from corpus_prep.flow import prepare
from corpus_prep.stores import find, input_files
from ernie_core.errors import InputError
from pipelines.steps import _input_states

PLAIN = "\n\n".join(document(i) for i in range(14)).encode()
PACKED = "\n\n".join(document(i) for i in range(14, 20)).encode()


def prepared(place: str, out: Path) -> dict[str, bytes]:
    corpora: dict[str, dict[str, Any]] = {
        "plain": {"reader": "text", "path": f"{place}/*.txt"}, "packed": {"reader": "text", "path": f"{place}/packed/*.txt.gz"}
    }  # fmt: skip
    prepare(corpora=corpora, settings=SETTINGS, benchmarks_texts=[], folder=out, workers=0, seed=7, say=lambda _: None)
    return bytes_of(out)


def test_a_corpus_in_a_bucket_gives_the_bytes_of_the_same_files_on_disk(s3: S3, tmp_path: Path) -> None:
    files = {"a.txt": PLAIN, "packed/b.txt.gz": gzip.compress(PACKED, mtime=0)}
    put(s3.bucket("corpora"), {f"mine/{name}": data for name, data in files.items()})
    for name, data in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data)
    found = prepared("s3://corpora/mine", tmp_path / "remote")
    assert found == prepared(str(tmp_path), tmp_path / "local")
    assert len(found) > 10


def test_a_split_of_a_big_object_is_read_alone(s3: S3) -> None:
    size = 8_000_000
    record = ("今" * 100 + "。\n\n").encode()
    put(s3.bucket("corpora"), {"big.txt": record * (size // len(record))})
    from corpus_prep.splits import plan_splits, read_split

    splits = plan_splits({"c": {"reader": "text", "path": "s3://corpora/big.txt"}}, size // 4)
    assert len(splits) == 4
    s3.asked.clear()
    pieces, _ = read_split(splits[2])
    part = splits[2].parts[0]
    assert (pieces[0].offset, len(pieces[0].data)) == (part.start, part.end - part.start)
    ranges = [asked for method, path, asked in s3.asked if (method, path) == ("GET", "/corpora/big.txt")]
    bounds = [tuple(map(int, asked.removeprefix("bytes=").split("-"))) for asked in ranges]
    assert bounds[0][0] == part.start
    assert sum(end - start + 1 for start, end in bounds) <= part.size_bytes + (1 << 20)  # and what the buffer reads ahead


def test_what_changed_in_a_bucket_is_noticed(s3: S3) -> None:
    bucket = s3.bucket("corpora")
    put(bucket, {"a.txt": "一。".encode(), "b.txt": "二。".encode()})
    before = _input_states(["s3://corpora/*.txt"])
    put(bucket, {"a.txt": "一一。".encode()})
    after = _input_states(["s3://corpora/*.txt"])
    assert [path for path in before if before[path] != after[path]] == ["s3://corpora/a.txt"]
    assert [d.paragraphs for d in good(read_corpus("s3://corpora/*.txt", "text"))] == [("一一。",), ("二。",)]


def test_what_is_not_there_or_not_allowed_is_said(s3: S3) -> None:
    put(s3.bucket("corpora"), {"a.txt": "一。".encode()})
    for path in ("s3://corpora/none.txt", "s3://corpora/none/*.txt"):
        with pytest.raises(InputError, match="E-CORPUS-MISSING") as e:
            input_files("c", path)
        assert e.value.where == path
    for path in ("s3://no-such-bucket/a.txt", "s3://no-such-bucket/x/*.txt"):
        with pytest.raises(InputError, match="E-STORE") as e:
            input_files("c", path)
        assert e.value.where == path
        assert "no-such-bucket" in e.value.found
    assert [file.path for file in find("s3://corpora/a.txt")] == ["s3://corpora/a.txt"]
    with s3.denying(), pytest.raises(InputError, match="E-STORE") as e:
        find("s3://corpora/a.txt")
    assert "credentials" in e.value.fix
    assert "secret" not in str(e.value)
