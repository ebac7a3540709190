"""Manifests and atomic files: every step's folder has one `manifest.json`, written last; nothing is parsed before its hash is checked.

Layout of a manifest: {"format", "step", "settings", "parents", "files": [{"path", "size_bytes", "sha256", "facts"}], "facts", "sha256"},
the last being the hash of the canonical JSON of all the others. Source: DESIGN (Manifest), reliability.md 4.2.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from ernie_core import object_store
from ernie_core.errors import IntegrityError, ResourceError
from ernie_core.failpoints import failpoint
from ernie_core.object_store import TEMPORARY

FORMAT_VERSION = 1
MANIFEST_NAME = "manifest.json"
_verified: dict[Path, tuple[int, int, str]] = {}


@dataclass(frozen=True)
class FileEntry:
    """One file of a step: path relative to the step's folder, exact size and hash, and facts (rows, tokens, …)."""

    path: str
    size_bytes: int
    sha256: str
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Manifest:
    """What a finished step produced, from which settings (those that change results) and which parents (name -> manifest sha256)."""

    step: str
    settings: dict[str, Any]
    parents: dict[str, str]
    files: tuple[FileEntry, ...]
    facts: dict[str, Any] = field(default_factory=dict)
    sha256: str = ""


def canonical_json(value: Any) -> bytes:
    """Return JSON bytes that depend on the value only: sorted keys, no spaces, UTF-8, no NaN."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def sha256_of(value: Any) -> str:
    """Return the SHA-256 hex digest of bytes, or of the canonical JSON of anything else."""
    return hashlib.sha256(value if isinstance(value, bytes) else canonical_json(value)).hexdigest()


def file_sha256(path: Path) -> str:
    """Return the SHA-256 hex digest of a file, streamed."""
    with path.open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


@contextlib.contextmanager
def disk_errors(path: Path, needed_bytes: int = 0) -> Iterator[None]:
    """Turn operating-system errors about space and permission into ResourceError that names path and remedy (reliability F21, F24).

    Args:
        path: what is written.
        needed_bytes: its size where that is known, for the message.
    """
    try:
        yield
    except OSError as e:
        if e.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            free = shutil.disk_usage(_existing(path)).free
            raise ResourceError(
                "E-DISK-FULL",
                "no space left to write",
                where=str(path),
                expected=f"room for {needed_bytes} bytes" if needed_bytes else "",
                found=f"{free} bytes free" + (", and a limit on the size of files" if e.errno == errno.EFBIG else ""),
                fix="free space and run the same command again; finished work is kept",
            ) from e
        if e.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise ResourceError(
                "E-PERMISSION",
                "cannot write here",
                where=str(path),
                found=f"{os.strerror(e.errno)} as uid {os.getuid()}",
                fix="choose a folder you may write to, or change its permissions",
            ) from e
        raise


def _existing(path: Path) -> Path:
    while not path.exists():
        path = path.parent
    return path


def atomic_write(path: Path, data: bytes) -> FileEntry:
    """Write `data` to `path` so that a reader sees all of it or the old file: temp file, fsync, rename, fsync of the folder.

    Returns:
        The entry for a manifest, its path being only the file's name.
    """
    with disk_errors(path, len(data)):
        path.parent.mkdir(parents=True, exist_ok=True)
        failpoint("data.before_tmp")
        temp = path.parent / f"{TEMPORARY}{path.name}-{os.getpid()}-{secrets.token_hex(4)}"
        try:
            with temp.open("wb") as f:
                f.write(memoryview(data)[: len(data) // 2])
                failpoint("data.mid_write")
                f.write(memoryview(data)[len(data) // 2 :])
                f.flush()
                failpoint("data.before_fsync")
                os.fsync(f.fileno())
            temp.rename(path)
        except BaseException:
            temp.unlink(missing_ok=True)
            raise
        failpoint("data.after_rename")
        fsync_folder(path.parent)
    return FileEntry(path.name, len(data), hashlib.sha256(data).hexdigest())


def fsync_folder(folder: Path) -> None:
    """Make renames inside `folder` durable."""
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def write_record(path: Path, data: bytes, content: Iterable[Path] = ()) -> None:
    """Write a record of a run atomically; one that has a home is committed there first, after its content.

    Raises:
        OutputError: E-COMMIT-LOST, see `object_store.commit`.
    """
    object_store.commit(path, data, content)
    atomic_write(path, data)


def write_manifest(folder: Path, manifest: Manifest, content: Iterable[FileEntry] | None = None) -> Manifest:
    """Write `folder/manifest.json` atomically, and return the manifest with its own hash filled in.

    Args:
        folder: of a step, a checkpoint, a trial.
        manifest: names files that are in place.
        content: those of its files which are not in the folder's object store yet, where it has one; None = all.
    """
    body = asdict(manifest)
    del body["sha256"]
    body["format"] = FORMAT_VERSION
    body["files"] = sorted(body["files"], key=lambda f: str(f["path"]))
    digest = sha256_of(body)
    failpoint("data.before_manifest")
    data = json.dumps({**body, "sha256": digest}, sort_keys=True, ensure_ascii=False, indent=1).encode() + b"\n"
    write_record(folder / MANIFEST_NAME, data, [folder / entry.path for entry in (manifest.files if content is None else content)])
    return _from_body(body, digest)


def _from_body(body: Mapping[str, Any], digest: str) -> Manifest:
    files = tuple(FileEntry(**f) for f in body["files"])
    return Manifest(body["step"], body["settings"], body["parents"], files, body["facts"], digest)


def read_manifest(folder: Path, step: str | None = None) -> Manifest:
    """Read and check `folder/manifest.json`.

    Args:
        folder: a step's folder.
        step: the step name that must stand in it, if given.

    Raises:
        IntegrityError: E-MANIFEST-MISSING (the step is not finished), E-MANIFEST (damaged, or of another step or format).
    """
    path = folder / MANIFEST_NAME
    object_store.refresh(path)
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raise IntegrityError(
            "E-MANIFEST-MISSING", "this folder is not a finished step", where=object_store.kept_at(path), fix="run the step that makes it first"
        ) from None
    try:
        body = json.loads(raw)
        digest = body.pop("sha256")
        if raw != json.dumps({**body, "sha256": digest}, sort_keys=True, ensure_ascii=False, indent=1).encode() + b"\n":
            raise ValueError("not written by this project, or changed since")
        if sha256_of(body) != digest:
            raise ValueError("its hash does not match its content")
        if body["format"] != FORMAT_VERSION:
            raise ValueError(f"format {body['format']}, this version reads {FORMAT_VERSION}")
        manifest = _from_body(body, digest)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as e:
        raise IntegrityError(
            "E-MANIFEST",
            "manifest is damaged",
            where=str(path),
            found=str(e),
            fix="delete this file and run the same command again: what is whole is kept",
        ) from e
    if step is not None and manifest.step != step:
        raise IntegrityError(
            "E-MANIFEST", "manifest of another step", where=str(path), expected=step, found=manifest.step, fix="give the folder of the right step"
        )
    return manifest


def inside(folder: Path, relative: str) -> Path:
    """Return `folder/relative`, refusing anything that could leave the folder (reliability S9, F41)."""
    pure = PurePosixPath(relative)
    path = folder / relative
    if pure.is_absolute() or ".." in pure.parts or "\0" in relative or not path.resolve().is_relative_to(folder.resolve()):
        raise IntegrityError("E-PATH", "path leaves its folder", where=str(folder), found=repr(relative), fix="do not use this manifest")
    return path


def verified_path(folder: Path, entry: FileEntry, code: str = "E-SHARD-HASH", siblings: Sequence[FileEntry] = ()) -> Path:
    """Return the path of a manifest's file after checking size and SHA-256, once per process and version of the file.

    Where it is missing or another and the folder has a home in an object store, it is fetched from there.

    Args:
        folder: the step's folder.
        entry: the manifest's entry of the file.
        code: of the error.
        siblings: other entries; where the file is one of these under a wrong name, the error says so.

    Raises:
        IntegrityError: E-SHARD-MISSING, or `code` when size or hash differ.
    """
    path = inside(folder, entry.path)
    try:
        _check(path, entry, folder, code, siblings)
    except IntegrityError:
        if not object_store.fetch(path):
            raise
        _check(path, entry, folder, code, siblings)
    return path


def whole(folder: Path) -> Manifest:
    """Return a finished folder's manifest once all files it names are there, checked; see `verified_path` for what is raised."""
    manifest = read_manifest(folder)
    for entry in manifest.files:
        verified_path(folder, entry)
    return manifest


def fetch_others(folder: Path, hashes: Mapping[str, str]) -> None:
    """Fetch those of a folder's files, given with their SHA-256, that are missing or others here; nothing for a folder without a home."""
    if object_store.home(folder) is not None:
        for name, sha256 in hashes.items():
            path = folder / name
            if not path.exists() or file_sha256(path) != sha256:
                object_store.fetch(path)


def _check(path: Path, entry: FileEntry, folder: Path, code: str, siblings: Sequence[FileEntry]) -> None:
    fix = f"restore it, or delete {folder / MANIFEST_NAME} and run the same command again: what is whole is kept"
    try:
        stat = path.stat()
    except FileNotFoundError:
        raise IntegrityError("E-SHARD-MISSING", "a file named by the manifest is gone", where=str(path), fix=fix) from None
    mark = (stat.st_size, stat.st_mtime_ns, entry.sha256)
    if _verified.get(path) == mark:
        return
    if stat.st_size != entry.size_bytes:
        expected, found = f"{entry.size_bytes} bytes", f"{stat.st_size} bytes{_whose(path, siblings)}"
        raise IntegrityError(code, "file has another size than its manifest says", where=str(path), expected=expected, found=found, fix=fix)
    found = file_sha256(path)
    if found != entry.sha256:
        expected, found = f"sha256 {entry.sha256[:16]}…", f"{found[:16]}…{_whose(path, siblings)}"
        raise IntegrityError(code, "file was changed or damaged", where=str(path), expected=expected, found=found, fix=fix)
    _verified[path] = mark


def _whose(path: Path, siblings: Sequence[FileEntry]) -> str:
    sha256 = file_sha256(path) if siblings else ""
    return next((f", which is {entry.path} under another name" for entry in siblings if entry.sha256 == sha256), "")
