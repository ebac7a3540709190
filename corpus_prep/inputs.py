"""Input files: found by a pattern, opened whatever their compression, and cut into parts at record boundaries.

A compressed file is cut by offsets in its expanded bytes: a part is read by expanding the file from its start and leaving out what lies
before. At most 64 parts a file keep that cheap (expanding runs at hundreds of MB/s, pass 1 at one), and memory at a part's size.
"""

from __future__ import annotations

import bz2
import glob
import gzip
import lzma
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from re import Pattern
from typing import Any, BinaryIO

import pyarrow as pa

from ernie_core.errors import InputError

CHUNK_BYTES = 1 << 20
MAX_PARTS = 64
FREE_BYTES, MAX_RATIO = 64_000_000, 200
"""A file that grows beyond the first and by more than the second is a bomb (reliability F58, S12)."""
_DAMAGED = (EOFError, OSError, zlib.error, lzma.LZMAError)


def _open_zst(path: Path) -> pa.CompressedInputStream:
    return pa.CompressedInputStream(pa.OSFile(str(path)), "zstd")


_EXPANDERS: dict[str, Callable[[Path], Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open, ".zst": _open_zst}


@dataclass(frozen=True)
class Part:
    """Bytes start:end of a file, of its expanded bytes if it is compressed."""

    path: str
    start: int
    end: int


def input_files(corpus: str, pattern: str) -> list[Path]:
    """Return the non-empty files that match, absolute and sorted; hidden ones do not.

    Raises:
        InputError: E-CORPUS-MISSING, E-CORPUS-EMPTY.
    """
    files = sorted(Path(p).absolute() for p in glob.glob(pattern, recursive=True) if Path(p).is_file())
    full = [p for p in files if p.stat().st_size]
    if not files:
        raise InputError("E-CORPUS-MISSING", f"no file of corpus {corpus!r}", where=pattern, found="0 files", fix="correct the path in the recipe")
    if not full:
        raise InputError(
            "E-CORPUS-EMPTY", f"corpus {corpus!r} is empty", where=pattern, found=f"{len(files)} files of 0 bytes", fix="give files with text"
        )
    return full


def cut(path: Path, boundary: Pattern[bytes], part_bytes: int) -> list[Part]:
    """Return the parts of a file, in order, without gaps.

    Args:
        path: plain, or compressed if it ends in .gz, .bz2, .xz or .zst.
        boundary: matches up to the byte where a record may begin.
        part_bytes: a part ends at the first boundary at or after this many bytes; a compressed file has at most 64 parts, longer ones if need be.

    Raises:
        InputError: E-COMPRESSED (cut off, damaged or not what its name says), E-BOMB.
    """
    if path.suffix not in _EXPANDERS:
        return list(_plain_parts(path, boundary, part_bytes))
    parts = list(_expanded_parts(path, boundary, part_bytes))
    together = -(-len(parts) // MAX_PARTS)
    groups = [parts[i : i + together] for i in range(0, len(parts), together)]
    return [Part(str(path), group[0].start, group[-1].end) for group in groups]


def read_part(part: Part) -> bytes:
    """Return a part's bytes, expanded."""
    path = Path(part.path)
    if path.suffix not in _EXPANDERS:
        with path.open("rb") as f:
            f.seek(part.start)
            return f.read(part.end - part.start)
    wanted: list[bytes] = []
    start = 0
    for chunk in _expanded(path):
        wanted.append(chunk[max(0, part.start - start) : max(0, part.end - start)])
        start += len(chunk)
        if start >= part.end:
            break
    return b"".join(wanted)


def _plain_parts(path: Path, boundary: Pattern[bytes], part_bytes: int) -> Iterator[Part]:
    size = path.stat().st_size
    start = 0
    with path.open("rb") as f:
        while start < size:
            end = _next_boundary(f, start + part_bytes, size, boundary)
            yield Part(str(path), start, end)
            start = end


def _next_boundary(f: BinaryIO, position: int, size: int, boundary: Pattern[bytes]) -> int:
    """Return the first offset at or after `position` where a record begins; the file's size if there is none."""
    if position >= size:
        return size
    f.seek(position - 1)
    window = b""
    step = 1 << 16
    while chunk := f.read(step):
        window += chunk
        match = boundary.search(window)
        if match:
            return min(size, position - 1 + match.end())
        step = len(window)
    return size


def _expanded_parts(path: Path, boundary: Pattern[bytes], part_bytes: int) -> Iterator[Part]:
    start = place = 0  # place: offset of the window's first byte
    window = b""
    for chunk in _expanded(path):
        window += chunk
        while (begin := max(0, start + part_bytes - 1 - place)) < len(window) and (match := boundary.search(window, begin)):
            end = place + match.end()
            yield Part(str(path), start, end)
            start = end
        keep = min(len(window), max(0, start + part_bytes - 1 - place))
        window, place = window[keep:], place + keep
    if start < place + len(window):
        yield Part(str(path), start, place + len(window))


def _expanded(path: Path) -> Iterator[bytes]:
    """Yield a compressed file's expanded bytes in chunks.

    Raises:
        InputError: E-COMPRESSED, E-BOMB.
    """
    packed, total = path.stat().st_size, 0
    try:
        with _EXPANDERS[path.suffix](path) as f:
            while chunk := f.read(CHUNK_BYTES):
                total += len(chunk)
                if total > max(FREE_BYTES, MAX_RATIO * packed):
                    raise InputError(
                        "E-BOMB", "this file expands beyond measure", where=str(path), expected=f"at most {MAX_RATIO} times its {packed} bytes",
                        found=f"more than {total} bytes", fix="expand it yourself if it is meant",
                    )  # fmt: skip
                yield chunk
    except _DAMAGED as e:
        raise InputError(
            "E-COMPRESSED",
            "a compressed file is damaged, cut off, or not what its name says",
            where=str(path),
            found=str(e),
            fix="fetch it again; nothing of it was used",
        ) from e


def expanded_size(files: Sequence[Path]) -> int:
    """Return the bytes of text to expect: the sizes of plain files, four times those of compressed ones."""
    return sum(path.stat().st_size * (4 if path.suffix in _EXPANDERS else 1) for path in files)
