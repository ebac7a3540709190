"""Where input files lie: a local folder, or an object store through pyarrow.fs (`s3://`, `gs://`)."""

from __future__ import annotations

import functools
import glob
import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, BinaryIO

from pyarrow import fs

from ernie_core.errors import InputError, RecipeError
from ernie_core.manifest import read_manifest, verified_path
from ernie_core.object_store import home

MAX_FILES = 100_000
_URI = re.compile(r"([a-z][a-z0-9+]*)://([^/?]*)(/[^?]*)?(\?.*)?")
_WILD = re.compile(r"[*\[]")


@dataclass(frozen=True)
class InputFile:
    """A file with what shows cheaply whether it changed."""

    path: str
    size: int
    mtime_ns: int

    @staticmethod
    def at(path: Path) -> InputFile:
        state = path.stat()
        return InputFile(str(path.absolute()), state.st_size, state.st_mtime_ns)


@functools.lru_cache(maxsize=8)
def remote(scheme: str, host: str, query: str) -> Any:
    """Return the file system of an object store; its credentials come from the environment, as its own tools read them."""
    return fs.FileSystem.from_uri(f"{scheme}://{host}/{query}")[0]


def _located(uri: str) -> tuple[Any, str, str, str]:
    """Return (file system, path in it, what stands before the path in a URI, what stands behind)."""
    match = _URI.fullmatch(uri)
    if match is None:
        raise RecipeError("E-URI", "not a file nor the address of one", where=uri, expected="s3://BUCKET/PATH, gs://BUCKET/PATH or a path")
    scheme, host, path, query = match[1], match[2], match[3] or "", match[4] or ""
    if "@" in host:
        raise RecipeError(
            "E-CREDENTIALS",
            "a recipe holds no keys",
            where=f"{scheme}://***@{host.rpartition('@')[2]}",
            fix="give them by the store's environment variables",
        )
    with _store_errors(uri):
        return remote(scheme, host, query), host + path, f"{scheme}://", query


@contextmanager
def _store_errors(uri: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as e:
        if isinstance(e, InputError):
            raise
        raise InputError("E-STORE", "this store or file cannot be read", where=uri, found=str(e), fix="check address, network and credentials") from e


class _Remote(io.RawIOBase):
    """A file in a store; what goes wrong while it is read is told as such, not as damage of the file."""

    def __init__(self, opened: Any, path: str) -> None:
        self._opened, self._path = opened, path

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        with _store_errors(self._path):
            data = self._opened.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return int(self._opened.seek(offset, whence))

    def tell(self) -> int:
        return int(self._opened.tell())


def is_remote(path: str) -> bool:
    return "://" in path


def bare(path: str) -> str:
    """Return a path without the settings of its store.

    Example: ``bare("s3://b/x.gz?region=eu-west-1")`` -> ``"s3://b/x.gz"``.
    """
    return path.partition("?")[0] if is_remote(path) else path


@contextmanager
def open_input(path: str) -> Iterator[BinaryIO]:
    """Open a file for reading at any place.

    Raises:
        InputError: E-STORE, a remote file that cannot be read.
    """
    if is_remote(path):
        system, inner, _, _ = _located(path)
        with _store_errors(path):
            opened = system.open_input_file(inner)
        with opened:
            yield io.BufferedReader(_Remote(opened, path), 1 << 20)
    else:
        with _here(Path(path)).open("rb") as f:
            yield f


def _here(path: Path) -> Path:
    """Return an input file; of an import step whose run lies in an object store as that step's manifest has it, fetched where it is not here."""
    if home(path) is None:
        return path
    return next(verified_path(path.parent, entry) for entry in read_manifest(path.parent).files if entry.path == path.name)


def find(pattern: str) -> list[InputFile]:
    """Return all files that match a glob, sorted by path; hidden ones do not. `**` stands for any folders.

    Raises:
        InputError: E-STORE.
        RecipeError: E-URI, E-CREDENTIALS.
    """
    if not is_remote(pattern):
        return sorted((InputFile.at(p) for p in map(Path, glob.glob(pattern, recursive=True)) if p.is_file()), key=lambda f: f.path)
    system, inner, before, query = _located(pattern)
    wanted = inner.split("/")
    fixed = next((i for i, name in enumerate(wanted) if _WILD.search(name)), len(wanted))
    base = "/".join(wanted[:fixed])
    with _store_errors(pattern):
        if fixed == len(wanted):
            found = system.get_file_info([inner])
        else:
            chosen = fs.FileSelector(base, allow_not_found=True, recursive="**" in wanted or len(wanted) - fixed > 1)
            found = [f for f in system.get_file_info(chosen) if matches(f.path[len(base) :].lstrip("/").split("/"), wanted[fixed:])]
        files = [f for f in found if f.type == fs.FileType.File]
        if not files and wanted[0] and system.get_file_info([wanted[0]])[0].type == fs.FileType.NotFound:
            raise OSError(f"no bucket {wanted[0]}")
    return sorted((InputFile(f"{before}{f.path}{query}", f.size, f.mtime_ns or 0) for f in files), key=lambda f: f.path)


def matches(names: Sequence[str], wanted: Sequence[str]) -> bool:
    """Return whether a path matches a glob, both split at slashes: `**` any folders, no wildcard a name that begins with a dot.

    Example: ``matches(["a", "b.txt"], ["**", "*.txt"])`` -> True.
    """
    if not wanted:
        return not names
    if wanted[0] == "**":
        if matches(names, wanted[1:]) or (len(wanted) == 1 and len(names) == 1 and not names[0].startswith(".")):
            return True
        return bool(names) and not names[0].startswith(".") and matches(names[1:], wanted)
    if not names or (names[0].startswith(".") and not wanted[0].startswith(".")):
        return False
    return fnmatchcase(names[0], wanted[0]) and matches(names[1:], wanted[1:])


def input_files(corpus: str, pattern: str, max_files: int = MAX_FILES) -> list[InputFile]:
    """Return the non-empty files that match, absolute and sorted; hidden ones do not.

    Raises:
        InputError: E-CORPUS-MISSING, E-CORPUS-EMPTY, E-CORPUS-FILES (more than `max_files`), E-STORE.
    """
    files = find(pattern)
    if not files:
        raise InputError("E-CORPUS-MISSING", f"no file of corpus {corpus!r}", where=pattern, found="0 files", fix="correct the path in the recipe")
    if len(files) > max_files:
        raise InputError(
            "E-CORPUS-FILES", f"corpus {corpus!r} has too many files", where=pattern, expected=f"at most {max_files}", found=str(len(files)),
            fix="narrow the path, or raise max_files of the corpus",
        )  # fmt: skip
    if not (full := [f for f in files if f.size]):
        raise InputError(
            "E-CORPUS-EMPTY", f"corpus {corpus!r} is empty", where=pattern, found=f"{len(files)} files of 0 bytes", fix="give files with text"
        )
    return full
