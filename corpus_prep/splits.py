"""Corpora cut into splits at record boundaries, and splits read as documents or rejections.

A *split* is the unit of work and retry: a part of one file, or parts of several small files of one corpus.
"""

from __future__ import annotations

import codecs
import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import PurePosixPath
from typing import Any

from corpus_prep.archives import archive_parts, is_archive, read_members
from corpus_prep.framing import MAX_QUOTED_BYTES
from corpus_prep.inputs import MAX_EXPANDED_BYTES, Limits, Part, cut, head, read_part
from corpus_prep.parquet_input import parquet_parts, parquet_rows
from corpus_prep.readers.base import RawDocument, Reader, Record, Reject, all_readers
from corpus_prep.rows import TABLES, cells
from corpus_prep.stores import MAX_FILES, InputFile, bare, input_files
from ernie_core.errors import InputError, printable
from ernie_core.manifest import sha256_of
from ernie_core.registry import pick

ENCODINGS = ("utf-8", "gb18030", "big5", "latin-1", "cp1252")
"""Those in which no byte of a longer character is a line break."""
DEFAULTS: dict[str, Any] = {
    "options": {}, "share": 1.0, "encoding": "utf-8", "fallback_encoding": None, "work": "file", "archives": False, "members": "**",
    "max_document_bytes": 32_000_000, "max_files": MAX_FILES, "max_expanded_bytes": MAX_EXPANDED_BYTES,
}  # fmt: skip
_READS = ("options", "share", "encoding", "fallback_encoding", "work", "members", "max_document_bytes")
_HEADER_BYTES = MAX_QUOTED_BYTES


@dataclass(frozen=True)
class Split:
    """Unit of preparation: whole records of one corpus. `settings`: what its recipe says that reading depends on, complete."""

    number: int
    corpus: str
    reader: str
    settings: Mapping[str, Any]
    parts: tuple[Part, ...]

    @property
    def size_bytes(self) -> int:
        return sum(p.size_bytes for p in self.parts)

    @property
    def share(self) -> float:
        return float(self.settings["share"])

    @property
    def reading_sha256(self) -> str:
        """Hash of everything but the bytes that its documents depend on."""
        return sha256_of([self.corpus, self.reader, dict(self.settings)])

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_json(row: Mapping[str, Any]) -> Split:
        return Split(**{**row, "parts": tuple(Part(**p) for p in row["parts"])})


@dataclass(frozen=True)
class Piece:
    """Bytes of one file or archive member: records from `offset` on. `header`: the bytes of its table's first line, b"" without one.

    `path` is the file's, `name` that of the file or member.
    """

    path: str
    name: str
    offset: int
    data: bytes
    header: bytes = b""


def plan_splits(corpora: Mapping[str, Mapping[str, Any]], split_bytes: int) -> list[Split]:
    """Cut all corpora into splits of about `split_bytes`, numbered in order of corpus name, file name and offset.

    Args:
        corpora: name -> {"reader", "path" (a glob, local or of a store), and what differs from `DEFAULTS`}.
        split_bytes: a file is cut at the first record boundary past a multiple of this; smaller files are put together.

    Raises:
        InputError: E-CORPUS-MISSING, E-CORPUS-EMPTY, E-CORPUS-FILES; E-SCHEMA, a table lacks a column; E-ARCHIVE, one that is not asked for
            or not safe; see `inputs.cut`.
        RecipeError: E-NAME, unknown reader; E-READER-OPTION.
    """
    splits: list[Split] = []
    for name, corpus in sorted(corpora.items()):
        assert set(corpus) <= {"reader", "path", "weight", *DEFAULTS}, f"corpus {name}: {sorted(corpus)}"
        settings = {**DEFAULTS, **corpus}
        reader = pick(all_readers(), str(settings["reader"]), f"reader of corpus {name!r}:")
        settings["options"] = reader.complete(settings["options"])
        files = input_files(name, str(settings["path"]), settings["max_files"])
        groups = _filled((p for file in files for p in _parts(file, reader, settings, name, split_bytes)), split_bytes)
        if not groups:
            raise InputError(
                "E-CORPUS-EMPTY",
                f"corpus {name!r} is empty",
                where=str(settings["path"]),
                found=f"{len(files)} files without a byte of text",
                fix="give files with text",
            )
        reads = {key: settings[key] for key in _READS}
        splits += [Split(len(splits) + i, name, reader.name, reads, group) for i, group in enumerate(groups)]
    return splits


def _filled(parts: Iterable[Part], split_bytes: int) -> list[tuple[Part, ...]]:
    """Return neighbours together, up to `split_bytes`."""
    groups: list[list[Part]] = []
    size = 0
    for part in parts:
        if groups and size + part.size_bytes <= split_bytes:
            groups[-1].append(part)
            size += part.size_bytes
        else:
            groups.append([part])
            size = part.size_bytes
    return [tuple(group) for group in groups]


def _parts(file: InputFile, reader: Reader, settings: Mapping[str, Any], corpus: str, split_bytes: int) -> list[Part]:
    options = settings["options"]
    framing, limits = reader.framing(options), Limits(settings["max_expanded_bytes"], settings["max_files"])
    if is_archive(file.path):
        if not settings["archives"] or framing.rows:
            found = "Parquet files in an archive" if framing.rows else "archives: false"
            raise InputError(
                "E-ARCHIVE", "archives are read only where the recipe says so", where=file.path, found=found, fix="add archives: true to the corpus"
            )
        return archive_parts(file, settings["members"], split_bytes, limits)
    if framing.rows:
        return parquet_parts(file, reader.columns(options), corpus, split_bytes)
    if _has_header(reader, options):
        _check_columns(file, reader, settings, corpus)
    return cut(file, framing, split_bytes, limits)


def _has_header(reader: Reader, options: Mapping[str, Any]) -> bool:
    return reader.row_format(options) in TABLES and bool(options["header"])


def _check_columns(file: InputFile, reader: Reader, settings: Mapping[str, Any], corpus: str) -> None:
    record = _first_record(reader, settings, head(file.path, _HEADER_BYTES))
    wanted = reader.columns(settings["options"])
    try:
        held = _columns(reader, settings, record)
    except ValueError as e:
        guess = guess_encoding(record) if isinstance(e, UnicodeDecodeError) else ""
        raise InputError(
            "E-SCHEMA", f"the first line of a file of corpus {corpus!r} is no header", where=file.path, expected=", ".join(wanted), found=_reason(e, settings["encoding"]),
            fix=f"encoding: {guess}" if guess else "correct the corpus's options",
        ) from e  # fmt: skip
    if missing := [name for name in wanted if name not in held]:
        raise InputError(
            "E-SCHEMA", f"corpus {corpus!r} asks for other columns than a file has", where=file.path, expected=", ".join(wanted),
            found=f"{', '.join(missing)} missing; the file has {printable(', '.join(held), 400)}", fix="correct the corpus's options, or header: false and columns by number",
        )  # fmt: skip


def _first_record(reader: Reader, settings: Mapping[str, Any], data: bytes) -> bytes:
    return next((record for _, record in reader.framing(settings["options"]).records(data)), b"")


def _columns(reader: Reader, settings: Mapping[str, Any], header: bytes) -> tuple[str, ...]:
    options = settings["options"]
    return tuple(cells(_decoded(header, settings).removeprefix("\ufeff"), reader.row_format(options), options)) if header else ()


def read_split(split: Split) -> tuple[list[Piece], str]:
    """Return the bytes of each part, and the SHA-256 over works, offsets and bytes of all: the identity of the split's input."""
    h = hashlib.sha256()
    pieces = [piece for part in split.parts for piece in _pieces(part, split)]
    for piece in pieces:
        h.update(
            f"{_work(piece.name, split.settings['work'])}\0{piece.offset}\0{len(piece.data)}\0{len(piece.header)}\0".encode()
            + piece.data
            + piece.header
        )
    return pieces, h.hexdigest()


def _pieces(part: Part, split: Split) -> Iterator[Piece]:
    reader, settings = all_readers()[split.reader], split.settings
    options = settings["options"]
    table = _has_header(reader, options)
    if is_archive(part.path):
        for name, data in read_members(part, settings["members"]):
            yield Piece(f"{part.path}!{name}", name, 0, data, _first_record(reader, settings, data[:_HEADER_BYTES]) if table else b"")
    elif reader.framing(options).rows:
        yield Piece(part.path, bare(part.path), part.start, parquet_rows(part, reader.columns(options)))
    else:
        data = read_part(part)
        beginning = b"" if not table else data[:_HEADER_BYTES] if part.start == 0 else head(part.path, _HEADER_BYTES)
        yield Piece(part.path, bare(part.path), part.start, data, _first_record(reader, settings, beginning) if table else b"")


def documents(split: Split, pieces: Sequence[Piece]) -> Iterator[RawDocument | Reject]:
    """Yield each record of a split as its documents, or as a rejection; a bad record never costs its neighbours.

    Example (jsonl): ``{"title": "T", "text": "a\\nb"}`` -> ``RawDocument("x.jsonl", 0, "T", ("a", "b"))``.
    """
    for piece in pieces:
        yield from _documents(split, piece)


def _documents(split: Split, piece: Piece) -> Iterator[RawDocument | Reject]:
    reader, settings = all_readers()[split.reader], split.settings
    options, work, path = settings["options"], _work(piece.name, settings["work"]), printable(piece.path, 400)
    try:
        columns = _columns(reader, settings, piece.header)
    except ValueError:
        columns = ()  # of an archive's member; the rows are rejected for want of them, one by one
    header_ahead = bool(piece.header) and piece.offset == 0
    for offset, record in reader.framing(options).records(piece.data):
        if header_ahead:
            header_ahead = False
            continue
        at = piece.offset + offset
        if len(record) > settings["max_document_bytes"]:
            yield Reject(path, at, f"E-DOCUMENT-LONG: more than max_document_bytes, {settings['max_document_bytes']}", record[:80].hex(), "")
            continue
        try:
            for document in reader.parse(Record(_decoded(record, settings), columns), options):
                yield replace(document, work=work, offset=at)
        except (ValueError, RecursionError) as e:
            guess = guess_encoding(record) if isinstance(e, UnicodeDecodeError) else ""
            yield Reject(path, at, _reason(e, settings["encoding"]), record[:80].hex(), guess)


def _work(name: str, rule: str) -> str:
    """Return the name of a file, or of its folder: `resources/西游记/3.html` -> "3.html" or "西游记"."""
    place = PurePosixPath(name)
    return place.name if rule == "file" else place.parent.name


def _decoded(record: bytes, settings: Mapping[str, Any]) -> str:
    try:
        return record.decode(settings["encoding"])
    except UnicodeDecodeError:
        if settings["fallback_encoding"] is None:
            raise
        return record.decode(settings["fallback_encoding"])


def _reason(error: Exception, encoding: str) -> str:
    if isinstance(error, UnicodeDecodeError):
        return f"not {encoding.upper()}"
    return "nested too deeply" if isinstance(error, RecursionError) else str(error).split(":")[0][:80]


def guess_encoding(record: bytes) -> str:
    """Return the encoding in which bytes that are not UTF-8 make sense as Chinese text, or "".

    Example: ``guess_encoding("今天天气很好".encode("gbk"))`` -> ``"gb18030"``.
    """
    for encoding in ("gb18030", "big5", "utf-16"):
        try:
            text = codecs.getincrementaldecoder(encoding)().decode(record[:4096])
        except UnicodeError:
            continue
        if text and sum("\u4e00" <= c <= "\u9fff" or c.isascii() for c in text) >= 0.8 * len(text):
            return encoding
    return ""
