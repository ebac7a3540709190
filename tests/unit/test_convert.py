"""The convert and import jobs: what they write and what they say."""

from __future__ import annotations

import argparse
import gzip
from collections.abc import Callable
from pathlib import Path

import pytest

from ernie_core.data.parquet_format import encode_parquet
from ernie_core.data.text_format import encode_text
from jobs.convert import add_convert_arguments, add_import_arguments, convert, import_shards
from tests.unit.rows_helper import toy_rows


def run(declare: Callable[[argparse.ArgumentParser], None], job: Callable[[argparse.Namespace], int], *argv: str) -> int:
    parser = argparse.ArgumentParser()
    declare(parser)
    return job(parser.parse_args(argv))


def test_convert_says_what_text_cannot_hold(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = toy_rows(10, names=("one",))
    (tmp_path / "a.parquet").write_bytes(encode_parquet(rows, 4, {}))
    assert run(add_convert_arguments, convert, str(tmp_path / "a.parquet"), str(tmp_path / "b.gz")) == 0
    assert gzip.decompress((tmp_path / "b.gz").read_bytes()) == encode_text(rows)
    assert "unit_labels, unit_kind" in capsys.readouterr().err


def test_convert_reads_token_labels_named_on_the_command_line(tmp_path: Path) -> None:
    (tmp_path / "a.gz").write_bytes(gzip.compress(encode_text(toy_rows(10, names=("one",)))))
    assert run(add_convert_arguments, convert, str(tmp_path / "a.gz"), str(tmp_path / "b.parquet"), "--token-label", "one") == 0
    assert run(add_convert_arguments, convert, str(tmp_path / "b.parquet"), str(tmp_path / "c.gz")) == 0
    assert gzip.decompress((tmp_path / "c.gz").read_bytes()) == gzip.decompress((tmp_path / "a.gz").read_bytes())


def test_import_shards_prints_what_it_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = toy_rows(10)
    (tmp_path / "a.gz").write_bytes(gzip.compress(encode_text(rows)))
    (tmp_path / "list").write_text("a.gz\t1.1\n")
    assert run(add_import_arguments, import_shards, "--train-filelist", str(tmp_path / "list"), "--out", str(tmp_path / "out")) == 0
    assert f"train: 1 files, 10 rows, {rows.num_tokens} tokens, 0 longer rows dropped" in capsys.readouterr().out
    assert (tmp_path / "out" / "manifest.json").exists()
