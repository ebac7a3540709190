"""Files as publishers give them out: plain, compressed, or a zip of one file; one way to their bytes and to their text."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

from ernie_core.benchmarks.base import read_bytes
from ernie_core.errors import InputError, printable


def _only_member(data: bytes) -> bytes:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = [info for info in archive.infolist() if not info.is_dir() and not info.filename.startswith("__MACOSX/")]
        if len(members) != 1:
            raise ValueError(f"a zip of {len(members)} files, not of one")
        return archive.read(members[0])


_UNPACK: dict[str, Callable[[bytes], bytes]] = {".gz": gzip.decompress, ".bz2": bz2.decompress, ".xz": lzma.decompress, ".zip": _only_member}
PACKED = tuple(_UNPACK)
"""Ends of the names of compressed files that are read."""


def existing(path: Path) -> Path:
    """Return `path`, or where there is no such file the compressed one beside it.

    Example: ``existing(Path("dev.tsv"))`` -> ``Path("dev.tsv.gz")`` in a folder that holds only that.
    """
    packed = (path.with_name(path.name + suffix) for suffix in PACKED)
    return path if path.exists() else next((p for p in packed if p.exists()), path)


def unpacked(path: Path) -> bytes:
    """Return a file's bytes, or those inside a .gz, .bz2, .xz, or a .zip of one file; `path` may also stand there compressed.

    Raises:
        InputError: E-BENCH-MISSING; E-BENCH-PACKED, damaged, or a zip of several files.
    """
    path = existing(path)
    data = read_bytes(path)
    if path.suffix not in _UNPACK:
        return data
    try:
        return _UNPACK[path.suffix](data)
    except (OSError, EOFError, ValueError, RuntimeError, zlib.error, lzma.LZMAError, zipfile.BadZipFile) as e:
        raise InputError("E-BENCH-PACKED", "cannot unpack a benchmark's file", where=str(path), found=str(e), fix="get the file again") from e


def file_text(path: Path, encoding: str = "utf-8") -> str:
    """Return a file's text without byte order mark, lines ended by "\\n" (from LF or CRLF).

    Args:
        path: see `unpacked`.
        encoding: Python's name of it, such as "gb18030".

    Raises:
        InputError: E-BENCH-MISSING, E-BENCH-PACKED, E-BENCH-ROW (wrong encoding: line, and byte from 0 in it).

    Example: the bytes ``EF BB BF 61 0D 0A`` -> ``"a\\n"``.
    """
    raw = unpacked(path)
    try:
        text = raw.decode(encoding)
    except UnicodeDecodeError as e:
        start, line = raw.rfind(b"\n", 0, e.start) + 1, raw.count(b"\n", 0, e.start) + 1
        raise InputError(
            "E-BENCH-ROW", f"a row is not {encoding.upper()}", where=f"{existing(path)}:{line}, byte {e.start - start}",
            found=printable(raw[start : start + 80].split(b"\n")[0]), fix="convert the file, or declare its encoding",
        ) from e  # fmt: skip
    return text.removeprefix("\ufeff").replace("\r\n", "\n").removesuffix("\r")
