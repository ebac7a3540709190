"""Text in tar and zip archives, read member by member: nothing is ever written to disk (reliability F59, S11).

A tar archive is cut by offsets in its expanded bytes, like a compressed file, each part a run of whole members; a zip archive by members.
"""

from __future__ import annotations

import io
import posixpath
import re
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import IO, cast

from corpus_prep.inputs import MAX_RECORD_BYTES, Limits, Part, check_growth, expanded, grouped, is_compressed, plain_chunks, read_part
from corpus_prep.stores import InputFile, bare, matches, open_input
from ernie_core.errors import InputError, printable

_TAR = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")
NESTED = (*_TAR, ".zip", ".gz", ".bz2", ".xz", ".zst", ".7z", ".rar")


def is_archive(path: str) -> bool:
    return bare(path).endswith((*_TAR, ".zip"))


def _is_zip(path: str) -> bool:
    return bare(path).endswith(".zip")


def archive_parts(file: InputFile, members: str, part_bytes: int, limits: Limits) -> list[Part]:
    """Return the parts of an archive, each some whole members; every member's name and kind is checked, wanted or not.

    Args:
        file: .tar (compressed or not) or .zip.
        members: glob of the members to read.
        part_bytes: a part ends at the first member that ends at or after this many bytes.
        limits: of its expanded size and its members.

    Raises:
        InputError: E-ARCHIVE (names that lead out, links, devices, duplicates, archives inside, encrypted, damaged, no member that matches),
            E-BOMB, E-CORPUS-FILES.
    """
    parts = _zip_parts(file, members, part_bytes, limits) if _is_zip(file.path) else _tar_parts(file, members, part_bytes, limits)
    if not parts:
        raise _refuse(file.path, "", "no member matches", f"members: {members}")
    return parts


def read_members(part: Part, members: str) -> Iterator[tuple[str, bytes]]:
    """Yield (name, bytes) of the wanted members of a part, in their order."""
    if _is_zip(part.path):
        with open_input(part.path) as f, zipfile.ZipFile(f) as archive:
            for info in archive.infolist()[part.start : part.end]:
                if _wanted(info.filename, members) and info.file_size and not info.is_dir():
                    yield info.filename, _unzipped(archive, info, part.path)
        return
    with tarfile.open(fileobj=io.BytesIO(read_part(part)), mode="r:") as tar:
        for member in tar:
            if member.isreg() and member.size and _wanted(member.name, members):
                yield member.name, cast("IO[bytes]", tar.extractfile(member)).read()


def _unzipped(archive: zipfile.ZipFile, info: zipfile.ZipInfo, path: str) -> bytes:
    try:
        with archive.open(info) as f:
            data = f.read(info.file_size + 1)
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError) as e:
        raise _refuse(path, info.filename, "a damaged member", str(e)) from e
    if len(data) != info.file_size:
        raise _refuse(path, info.filename, "a damaged member", f"{len(data)} bytes where its directory says {info.file_size}")
    return data


def _wanted(name: str, members: str) -> bool:
    return matches(name.removeprefix("./").split("/"), members.split("/"))


def _refuse(path: str, member: str, what: str, found: str = "") -> InputError:
    where = f"{path}, member {printable(member)}" if member else path
    return InputError("E-ARCHIVE", f"this archive is refused: {what}", where=where, found=found, fix="unpack it yourself where you trust it")


class _Names:
    """Checks each member as it comes: name, kind, duplicates, how many."""

    def __init__(self, file: InputFile, members: str, limits: Limits) -> None:
        self.file, self.members, self.limits = file, members, limits
        self._seen: set[str] = set()

    def check(self, name: str, size: int, *, regular: bool, folder: bool) -> bool:
        """Return whether the member is to be read."""
        path = self.file.path
        plain = name.replace("\\", "/")
        if plain.startswith("/") or ".." in plain.split("/") or re.match("[A-Za-z]:/", plain) or "\0" in name:
            raise _refuse(path, name, "a name that leads out of it")
        if folder:
            return False
        if not regular:
            raise _refuse(path, name, "a link, device or sparse file")
        normal = posixpath.normpath(plain)
        if normal in self._seen:
            raise _refuse(path, name, "two members of one name")
        self._seen.add(normal)
        if len(self._seen) > self.limits.max_files:
            raise InputError(
                "E-CORPUS-FILES", "this archive has too many members", where=path, expected=f"at most {self.limits.max_files}",
                found="more", fix="raise max_files of the corpus",
            )  # fmt: skip
        wanted = bool(size) and _wanted(name, self.members)
        if wanted and name.lower().endswith(NESTED):
            raise _refuse(path, name, "a compressed file or archive inside")
        if wanted and size > MAX_RECORD_BYTES:
            raise _refuse(path, name, f"a member of more than {MAX_RECORD_BYTES} bytes", f"{size} bytes")
        return wanted


class _Stream:
    """Chunks as the file that tarfile reads."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks, self._held = iter(chunks), b""

    def read(self, size: int) -> bytes:
        while len(self._held) < size and (chunk := next(self._chunks, b"")):
            self._held += chunk
        found, self._held = self._held[:size], self._held[size:]
        return found


def _tar_parts(file: InputFile, members: str, part_bytes: int, limits: Limits) -> list[Part]:
    names = _Names(file, members, limits)
    chunks = expanded(file, limits) if is_compressed(file.path) else plain_chunks(file.path)
    starts: list[tuple[int, bool]] = []
    end = 0
    try:
        with tarfile.open(fileobj=cast("IO[bytes]", _Stream(chunks)), mode="r|") as tar:
            for member in tar:
                regular = member.isreg() and not member.issparse()
                starts.append((member.offset, names.check(member.name, member.size, regular=regular, folder=member.isdir())))
                end = member.offset_data + -(-member.size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
                tar.members = []  # type: ignore[attr-defined]  # it would keep them all
    except (tarfile.TarError, ValueError) as e:
        if isinstance(e, InputError):
            raise
        raise _refuse(file.path, "", "it is damaged, cut off, or no tar archive", str(e)) from e
    return _runs(file.path, starts, end, part_bytes)


def _runs(path: str, starts: Sequence[tuple[int, bool]], end: int, part_bytes: int) -> list[Part]:
    """Return parts of whole members, without those that hold no wanted one."""
    ends: list[int] = []
    for place, _ in [*starts[1:], (end, False)] if starts else []:
        if place - (ends[-1] if ends else 0) >= part_bytes or place == end:
            ends.append(place)
    parts = grouped(path, ends, packed=is_compressed(path))
    wanted = [place for place, take in starts if take]
    return [p for p in parts if any(p.start <= place < p.end for place in wanted)]


def _zip_parts(file: InputFile, members: str, part_bytes: int, limits: Limits) -> list[Part]:
    names = _Names(file, members, limits)
    parts: list[Part] = []
    start = size = total = 0
    try:
        with open_input(file.path) as f, zipfile.ZipFile(f) as archive:
            infos = archive.infolist()
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, ValueError) as e:
        if isinstance(e, InputError):
            raise
        raise _refuse(file.path, "", "it is damaged, cut off, or no zip archive", str(e)) from e
    for i, info in enumerate(infos):
        kind = stat.S_IFMT(info.external_attr >> 16)
        wanted = names.check(info.filename, info.file_size, regular=kind in {0, stat.S_IFREG}, folder=info.is_dir())
        if info.flag_bits & 1:
            raise _refuse(file.path, info.filename, "an encrypted member")
        total += info.file_size
        check_growth(file, total, limits)
        size += info.file_size if wanted else 0
        if size >= part_bytes or (size and i == len(infos) - 1):
            parts.append(Part(file.path, start, i + 1, size))
            start, size = i + 1, 0
    return parts
