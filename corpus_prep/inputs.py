"""Input files opened whatever their compression, and cut into parts at record boundaries.

A compressed file is cut by offsets in its expanded bytes: a part is read by expanding the file from its start and leaving out what lies
before. At most 64 parts a file keep that cheap (expanding runs at hundreds of MB/s, pass 1 at one), and memory at a part's size.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from re import Pattern
from typing import Any, BinaryIO

import pyarrow as pa

from corpus_prep.framing import Framing, line_stream, quoted_records
from corpus_prep.stores import InputFile, bare, open_input
from ernie_core.errors import InputError

CHUNK_BYTES = 1 << 20
MAX_PARTS = 64
FREE_BYTES, MAX_RATIO = 64_000_000, 200
"""A file that grows beyond the first and by more than the second is a bomb (reliability F58, S12)."""
MAX_EXPANDED_BYTES = 1 << 40
MAX_RECORD_BYTES = 1 << 28
"""Beyond it nothing holds a record in memory: the file is refused. Smaller ones meet the corpus's own max_document_bytes."""
TAIL_BYTES = 1 << 16
_DAMAGED = (EOFError, OSError, zlib.error, lzma.LZMAError)


_EXPANDERS: dict[str, Callable[[BinaryIO], Any]] = {
    ".gz": lambda f: gzip.GzipFile(fileobj=f), ".tgz": lambda f: gzip.GzipFile(fileobj=f), ".bz2": bz2.BZ2File, ".xz": lzma.LZMAFile,
    ".zst": lambda f: pa.CompressedInputStream(f, "zstd"),
}  # fmt: skip


@dataclass(frozen=True)
class Part:
    """Bytes start:end of a file, of its expanded bytes if it is compressed; of a Parquet file rows, of a zip file members.

    `size_bytes`: how much text to expect of it.
    """

    path: str
    start: int
    end: int
    size_bytes: int


@dataclass(frozen=True)
class Limits:
    """What a corpus's files may cost. `max_expanded_bytes`: of one compressed file or archive; `max_files`: of one archive, too."""

    max_expanded_bytes: int = MAX_EXPANDED_BYTES
    max_files: int = 100_000


def is_compressed(path: str) -> bool:
    return PurePosixPath(bare(path)).suffix in _EXPANDERS


def byte_part(path: str, start: int, end: int) -> Part:
    return Part(path, start, end, end - start)


def cut(file: InputFile, framing: Framing, part_bytes: int, limits: Limits) -> list[Part]:
    """Return the parts of a file, in order, without gaps.

    Args:
        file: plain, or compressed if it ends in .gz, .bz2, .xz or .zst.
        framing: where records begin.
        part_bytes: a part ends at the first boundary at or after this many bytes; a compressed file has at most 64 parts, longer ones if need be.
        limits: see there.

    Raises:
        InputError: E-COMPRESSED (cut off, damaged or not what its name says), E-BOMB, E-RECORD-LONG.
    """
    path = file.path
    packed = is_compressed(path)
    if framing.boundary is not None and not packed:
        return list(_plain_parts(file, framing.boundary, part_bytes))
    chunks = expanded(file, limits) if packed else plain_chunks(path)
    if framing.whole:
        size = sum(map(len, chunks)) if packed else file.size
        _check_record(path, 0, size)
        return [byte_part(path, 0, size)] if size else []
    ends = _quoted_ends(path, chunks, part_bytes) if framing.boundary is None else _pattern_ends(path, chunks, framing.boundary, part_bytes)
    return grouped(path, list(ends), packed=packed)


def grouped(path: str, ends: Sequence[int], *, packed: bool) -> list[Part]:
    """Return parts that end at `ends`, neighbours together where a compressed file would have more than 64."""
    together = max(1, -(-len(ends) // MAX_PARTS)) if packed else 1
    chosen = [*ends[together - 1 :: together]]
    if ends and chosen[-1:] != [ends[-1]]:
        chosen.append(ends[-1])
    return [byte_part(path, start, end) for start, end in zip([0, *chosen], chosen, strict=False)]


def read_part(part: Part) -> bytes:
    """Return a part's bytes, expanded."""
    if not is_compressed(part.path):
        with open_input(part.path) as f:
            f.seek(part.start)
            return f.read(part.end - part.start)
    wanted: list[bytes] = []
    start = 0
    for chunk in _expanding(part.path):
        wanted.append(chunk[max(0, part.start - start) : max(0, part.end - start)])
        start += len(chunk)
        if start >= part.end:
            break
    return b"".join(wanted)


def plain_chunks(path: str) -> Iterator[bytes]:
    with open_input(path) as f:
        while chunk := f.read(CHUNK_BYTES):
            yield chunk


def _check_record(path: str, start: int, size: int) -> None:
    if size > MAX_RECORD_BYTES:
        raise InputError(
            "E-RECORD-LONG", "no record ends here: this file is not what the reader expects", where=f"{path} from byte {start}",
            expected=f"a record within {MAX_RECORD_BYTES} bytes", found=f"{size} bytes without an end", fix="correct reader and options of the corpus",
        )  # fmt: skip


def _plain_parts(file: InputFile, boundary: Pattern[bytes], part_bytes: int) -> Iterator[Part]:
    start = 0
    with open_input(file.path) as f:
        while start < file.size:
            end = _next_boundary(f, start + part_bytes, file, boundary)
            yield byte_part(file.path, start, end)
            start = end


def _next_boundary(f: BinaryIO, position: int, file: InputFile, boundary: Pattern[bytes]) -> int:
    """Return the first offset at or after `position` where a record begins; the file's size if there is none."""
    if position >= file.size:
        return file.size
    place = position - 1  # offset of the window's first byte
    f.seek(place)
    window = b""
    while chunk := f.read(1 << 16):
        window += chunk
        if match := boundary.search(window):
            return min(file.size, place + match.end())
        tail = _tail(window)
        window, place = window[tail:], place + tail
        _check_record(file.path, position, place - position)
    return file.size


def _tail(window: bytes) -> int:
    """Return from where on a window without a boundary may hold the beginning of one: its last line, if that is short."""
    last = window.rfind(b"\n")
    return last if last >= 0 and len(window) - last <= TAIL_BYTES else len(window)


def _pattern_ends(path: str, chunks: Iterable[bytes], boundary: Pattern[bytes], part_bytes: int) -> Iterator[int]:
    start = place = 0  # place: offset of the window's first byte
    window = b""
    for chunk in chunks:
        window += chunk
        while (begin := max(0, start + part_bytes - 1 - place)) < len(window) and (match := boundary.search(window, begin)):
            start = place + match.end()
            yield start
        keep = max(min(begin, len(window)), _tail(window))
        window, place = window[keep:], place + keep
        _check_record(path, start, place - start - part_bytes)
    if start < place + len(window):
        yield place + len(window)


def _quoted_ends(path: str, chunks: Iterable[bytes], part_bytes: int) -> Iterator[int]:
    def bounded() -> Iterator[bytes]:
        size = offset = 0  # size: of the line that has not ended yet
        for chunk in chunks:
            offset += len(chunk)
            last = chunk.rfind(b"\n")
            size = size + len(chunk) if last < 0 else len(chunk) - last - 1
            _check_record(path, offset - size, size)
            yield chunk

    start = end = 0
    for record in quoted_records(line_stream(bounded())):
        end += len(record)
        if end - start >= part_bytes:
            yield end
            start = end
    if start < end:
        yield end


def _expanding(path: str) -> Iterator[bytes]:
    try:
        with open_input(path) as f, _EXPANDERS[PurePosixPath(bare(path)).suffix](f) as g:
            while chunk := g.read(CHUNK_BYTES):
                yield chunk
    except InputError:
        raise
    except _DAMAGED as e:
        raise InputError(
            "E-COMPRESSED", "a compressed file is damaged, cut off, or not what its name says", where=path, found=str(e),
            fix="fetch it again; nothing of it was used",
        ) from e  # fmt: skip


def expanded(file: InputFile, limits: Limits) -> Iterator[bytes]:
    """Yield a compressed file's expanded bytes in chunks.

    Raises:
        InputError: E-COMPRESSED, E-BOMB.
    """
    total = 0
    for chunk in _expanding(file.path):
        total += len(chunk)
        check_growth(file, total, limits)
        yield chunk


def check_growth(file: InputFile, total: int, limits: Limits) -> None:
    """Stop at a file that expands to `total` bytes beyond measure.

    Raises:
        InputError: E-BOMB.
    """
    ratio = max(FREE_BYTES, MAX_RATIO * file.size)
    if total > min(ratio, limits.max_expanded_bytes):
        raise InputError(
            "E-BOMB", "this file expands beyond measure", where=file.path,
            expected=f"at most {MAX_RATIO} times its {file.size} bytes" if ratio < limits.max_expanded_bytes else f"at most {limits.max_expanded_bytes} bytes",
            found=f"more than {min(ratio, limits.max_expanded_bytes)} bytes", fix="expand it yourself if it is meant, or raise max_expanded_bytes of the corpus",
        )  # fmt: skip


def head(path: str, size: int) -> bytes:
    """Return the first bytes of a file, expanded."""
    found = b""
    for chunk in _expanding(path) if is_compressed(path) else plain_chunks(path):
        found += chunk
        if len(found) >= size:
            break
    return found[:size]


def expanded_size(files: Sequence[InputFile]) -> int:
    """Return the bytes of text to expect: the sizes of plain files, four times those of compressed ones."""
    return sum(f.size * (4 if is_compressed(f.path) or f.path.endswith((".zip", ".parquet")) else 1) for f in files)
