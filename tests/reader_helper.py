"""Reads a corpus as preparation does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from corpus_prep.readers.base import RawDocument, Reject
from corpus_prep.splits import documents, plan_splits, read_split


def read_corpus(path: Path | str, reader: str, split_bytes: int = 1 << 20, **corpus: Any) -> list[RawDocument | Reject]:
    """Return all documents and rejections of a corpus; keywords are keys of the corpus in a recipe."""
    splits = plan_splits({"c": {"reader": reader, "path": str(path), **corpus}}, split_bytes)
    assert [s.number for s in splits] == list(range(len(splits)))
    return [d for split in splits for d in documents(split, read_split(split)[0])]


def read_bytes(folder: Path, data: bytes, reader: str, name: str = "x", split_bytes: int = 1 << 20, **options: Any) -> list[RawDocument | Reject]:
    """Return what one file of these bytes gives; keywords are the reader's options."""
    (folder / name).write_bytes(data)
    return read_corpus(folder / name, reader, split_bytes, options=options)


def good(found: list[RawDocument | Reject]) -> list[RawDocument]:
    return [d for d in found if isinstance(d, RawDocument)]


def reasons(found: list[RawDocument | Reject]) -> list[str]:
    return [d.reason for d in found if isinstance(d, Reject)]
