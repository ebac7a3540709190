"""Corpora: cut into splits at record boundaries, and read as documents or rejections. Only `\\n` ends a line (reliability F43-F48).

A *split* is the unit of work and retry: a byte range of one file, or several small files of one corpus.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from corpus_prep.inputs import Part, cut, input_files, read_part
from corpus_prep.readers.base import RawDocument, Reject
from ernie_core.errors import RecipeError, closest

READERS = ("text", "jsonl")
_BOUNDARY = {"jsonl": re.compile(rb"\n"), "text": re.compile(rb"\n[ \t\r]*\n")}
ENCODINGS = ("utf-8", "gb18030", "big5")
"""Those in which no byte of a longer character is a line break."""


@dataclass(frozen=True)
class Split:
    """Unit of preparation: whole records of one corpus.

    `title` and `text` are the keys of the jsonl reader (`title` "" for none); `share` is the part of the documents to keep.
    """

    number: int
    corpus: str
    reader: str
    title: str
    text: str
    share: float
    encoding: str
    parts: tuple[Part, ...]

    @property
    def size_bytes(self) -> int:
        return sum(p.end - p.start for p in self.parts)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_json(row: Mapping[str, Any]) -> Split:
        return Split(**{**row, "parts": tuple(Part(**p) for p in row["parts"])})


def plan_splits(corpora: Mapping[str, Mapping[str, Any]], split_bytes: int) -> list[Split]:
    """Cut all corpora into splits of about `split_bytes`, numbered in order of corpus name, file name and offset.

    Args:
        corpora: name -> {"reader": "text" | "jsonl", "path": glob, "title": key or None, "text": key, "share": 0 to 1, "encoding": one of ENCODINGS}.
        split_bytes: a file is cut at the first record boundary past a multiple of this; smaller files are put together.

    Raises:
        InputError: E-CORPUS-MISSING (no file matches), E-CORPUS-EMPTY (only empty files), both naming corpus and pattern; see `inputs.cut`.
        RecipeError: E-NAME, unknown reader.
    """
    splits: list[Split] = []
    for name, corpus in sorted(corpora.items()):
        reader = str(corpus["reader"])
        if reader not in READERS:
            raise RecipeError("E-NAME", f"unknown reader {reader!r}", where=f"corpus {name}", expected=f"one of {closest(reader, READERS)}")
        filling: list[Part] = []
        groups: list[tuple[Part, ...]] = []
        for part in (p for path in input_files(name, str(corpus["path"])) for p in cut(path, _BOUNDARY[reader], split_bytes)):
            if filling and sum(p.end - p.start for p in filling) + part.end - part.start > split_bytes:
                groups.append(tuple(filling))
                filling = []
            filling.append(part)
        groups.append(tuple(filling))
        splits += [
            Split(
                len(splits) + i,
                name,
                reader,
                str(corpus.get("title") or ""),
                str(corpus.get("text") or "text"),
                float(corpus.get("share", 1.0)),
                str(corpus.get("encoding", "utf-8")),
                g,
            )
            for i, g in enumerate(groups)
        ]
    return splits


def read_split(split: Split) -> tuple[list[bytes], str]:
    """Return the bytes of each part, and the SHA-256 over names, offsets and bytes of all: the identity of the split's input."""
    h = hashlib.sha256()
    pieces = []
    for part in split.parts:
        data = read_part(part)
        pieces.append(data)
        h.update(f"{Path(part.path).name}\0{part.start}\0{len(data)}\0".encode() + data)
    return pieces, h.hexdigest()


def documents(split: Split, pieces: Sequence[bytes]) -> Iterator[RawDocument | Reject]:
    """Yield each record of a split as a document, or as a rejection; a bad record never costs its neighbours.

    Example (jsonl): ``{"title": "T", "text": "a\\nb"}`` -> ``RawDocument("x.jsonl", 0, "T", ("a", "b"))``.
    """
    for part, data in zip(split.parts, pieces, strict=True):
        for offset, record in _lines(data) if split.reader == "jsonl" else _blocks(data):
            try:
                text = record.decode(split.encoding)
                title, paragraphs = _json_record(text, split) if split.reader == "jsonl" else ("", text.split("\n"))
            except (ValueError, RecursionError) as e:
                yield Reject(
                    part.path,
                    part.start + offset,
                    _reason(e, split.encoding),
                    record[:80].hex(),
                    guess_encoding(record) if isinstance(e, UnicodeDecodeError) else "",
                )
                continue
            yield RawDocument(Path(part.path).name, part.start + offset, title, tuple(p.removesuffix("\r") for p in paragraphs))


def _reason(error: Exception, encoding: str) -> str:
    if isinstance(error, UnicodeDecodeError):
        return f"not {encoding.upper()}"
    return "nested too deeply" if isinstance(error, RecursionError) else str(error).split(":")[0][:80]


def _lines(data: bytes) -> Iterator[tuple[int, bytes]]:
    offset = 0
    for line in data.split(b"\n"):
        if line.strip():
            yield offset, line.removesuffix(b"\r")
        offset += len(line) + 1


def _blocks(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield (offset, lines) between blank lines."""
    held: list[bytes] = []
    first = offset = 0
    for line in data.split(b"\n"):
        if line.strip(b" \t\r"):
            first = first if held else offset
            held.append(line)
        elif held:
            yield first, b"\n".join(held)
            held = []
        offset += len(line) + 1
    if held:
        yield first, b"\n".join(held)


def _json_record(text: str, split: Split) -> tuple[str, list[str]]:
    row = json.loads(text.removeprefix("\ufeff"))
    fields = [split.title, split.text] if split.title else [split.text]
    values = [row.get(f, "" if f == split.title else None) if isinstance(row, dict) else None for f in fields]
    for name, value in zip(fields, values, strict=True):
        if not isinstance(value, str):
            raise ValueError(f"no text under the key {name!r}")  # noqa: TRY004 - every rejection is a ValueError
        if any("\ud800" <= c <= "\udfff" for c in value):
            raise ValueError("lone surrogate")
    title = values[0] if split.title else ""
    return str(title), str(values[-1]).split("\n")


def guess_encoding(record: bytes) -> str:
    """Return the encoding in which bytes that are not UTF-8 make sense as Chinese text, or "".

    Example: ``guess_encoding("今天天气很好".encode("gbk"))`` -> ``"gb18030"``.
    """
    for encoding in ("gb18030", "big5", "utf-16"):
        try:
            text = record.decode(encoding)
        except UnicodeError:
            continue
        if text and sum("\u4e00" <= c <= "\u9fff" or c.isascii() for c in text) >= 0.8 * len(text):
            return encoding
    return ""
