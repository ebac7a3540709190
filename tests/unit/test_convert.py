"""The convert job: what it writes and what it says."""

from __future__ import annotations

import argparse
import gzip
from pathlib import Path

import pytest
from rows_helper import toy_rows

from ernie_core.data.parquet_format import encode_parquet
from ernie_core.data.text_format import encode_text
from jobs.convert import add_convert_arguments, convert


def run(*argv: str) -> int:
    parser = argparse.ArgumentParser()
    add_convert_arguments(parser)
    return convert(parser.parse_args(argv))


def test_convert_says_what_text_cannot_hold(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = toy_rows(10, names=("one",))
    (tmp_path / "a.parquet").write_bytes(encode_parquet(rows, 4, {}))
    assert run(str(tmp_path / "a.parquet"), str(tmp_path / "b.gz")) == 0
    assert gzip.decompress((tmp_path / "b.gz").read_bytes()) == encode_text(rows)
    assert "unit_labels, unit_kind" in capsys.readouterr().err


def test_convert_reads_token_labels_named_on_the_command_line(tmp_path: Path) -> None:
    (tmp_path / "a.gz").write_bytes(gzip.compress(encode_text(toy_rows(10, names=("one",)))))
    assert run(str(tmp_path / "a.gz"), str(tmp_path / "b.parquet"), "--token-label", "one") == 0
    assert run(str(tmp_path / "b.parquet"), str(tmp_path / "c.gz")) == 0
    assert gzip.decompress((tmp_path / "c.gz").read_bytes()) == gzip.decompress((tmp_path / "a.gz").read_bytes())
