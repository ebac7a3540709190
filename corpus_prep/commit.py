"""Commit of one split's work: its files first, then an entry that names them and all they were made from (reliability 4.2).

An entry `entries/<pass>-NNNNN.json` whose inputs are equal to the wanted ones and whose files are whole means: nothing to do.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ernie_core.errors import IntegrityError, ResourceError
from ernie_core.failpoints import failpoint
from ernie_core.manifest import FileEntry, canonical_json, disk_errors, verified_path, write_record
from ernie_core.object_store import refresh

MAX_ATTEMPTS = 3


@dataclass(frozen=True)
class Entry:
    """What a split's pass produced, from which inputs (name -> hash)."""

    inputs: dict[str, str]
    files: tuple[FileEntry, ...]
    facts: dict[str, Any]

    def file(self, place: str) -> FileEntry:
        """Return the entry's file in a folder: of pass 1 there is one in each.

        Example: ``file("documents")`` -> that of documents/00003.json.zst.
        """
        return next(file for file in self.files if file.path.startswith(f"{place}/"))


def entry_path(folder: Path, name: str) -> Path:
    """Return where the entry of e.g. "1-00003" lies."""
    return folder / "entries" / f"{name}.json"


def read_entry(folder: Path, name: str) -> Entry:
    """Read a committed entry.

    Raises:
        IntegrityError: E-ENTRY, missing or damaged.
    """
    path = entry_path(folder, name)
    refresh(path)
    try:
        row = json.loads(path.read_bytes())
        return Entry(row["inputs"], tuple(FileEntry(**f) for f in row["files"]), row["facts"])
    except (OSError, ValueError, KeyError, TypeError) as e:
        raise IntegrityError(
            "E-ENTRY", "a split's entry is missing or damaged", where=str(path), found=str(e), fix="run `ernie prepare` again"
        ) from e


def unnamed(folder: Path, num_splits: int) -> list[Path]:
    """Return files beside those of a finished preparation's splits that no entry names, such as those of splits that are gone.

    Raises:
        IntegrityError: E-ENTRY.
    """
    names = [f"{number}-{split:05d}" for number in (1, 2) for split in range(num_splits)]
    named = {entry_path(folder, name) for name in names} | {folder / file.path for name in names for file in read_entry(folder, name).files}
    places = {folder / path.relative_to(folder).parts[0] for path in named}
    return [path for place in sorted(places) for path in place.rglob("*") if path.is_file() and path not in named]


def reasons_to_work(folder: Path, name: str, inputs: Mapping[str, str]) -> list[str]:
    """Return why the work must be done: nothing if a whole entry of the same inputs is there.

    Example: ``["vocab.txt changed"]``, ``["new"]``, ``["documents/00003.json.zst missing or damaged"]``.
    """
    if not refresh(entry_path(folder, name)):
        return ["new"]
    try:
        entry = read_entry(folder, name)
    except IntegrityError:
        return ["its entry was damaged"]
    changed = [f"{key} changed" for key in sorted({*entry.inputs, *inputs}) if entry.inputs.get(key) != inputs.get(key)]
    if changed:
        return changed
    for file in entry.files:
        try:
            verified_path(folder, file)
        except IntegrityError:
            return [f"{file.path} missing or damaged"]
    return []


@dataclass(frozen=True)
class Attempt:
    """One attempt at a split's work. `last`: the work ended its worker before, and after this attempt no other is made."""

    note_path: Path
    last: bool

    def note(self, what: str) -> None:
        """Leave word of what is done next, for the case that the process does not live to tell."""
        with disk_errors(self.note_path):
            self.note_path.write_text(what, encoding="utf-8")


def begin(folder: Path, name: str, what: str) -> Attempt:
    """Count an attempt at a split's work, so that a split which kills its worker does not do so for ever.

    Raises:
        ResourceError: E-SPLIT-DIES, three attempts of this run ended without a result; names the document that the last one noted.
    """
    attempts = folder / "attempts"
    note = attempts / f"{name}.note"
    with disk_errors(attempts):
        attempts.mkdir(parents=True, exist_ok=True)
        for number in range(1, MAX_ATTEMPTS + 1):
            try:
                os.close(os.open(attempts / f"{name}.{number}", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
            except FileExistsError:
                continue
            return Attempt(note, number == MAX_ATTEMPTS)
    found = note.read_text(encoding="utf-8") if note.exists() else ""
    raise ResourceError(
        "E-SPLIT-DIES", f"a split ended its worker {MAX_ATTEMPTS} times", where=what, found=found or "no result and no error",
        fix="take that document out, give more memory, or make prepare.split_bytes smaller; the system log may name the signal",
    )  # fmt: skip


def commit(folder: Path, name: str, inputs: Mapping[str, str], files: Sequence[FileEntry], facts: Mapping[str, Any]) -> None:
    """Write the entry of finished work, whose files are in place; both into the object store first, where the run lies in one."""
    failpoint("data.before_entry")
    data = canonical_json(asdict(Entry(dict(inputs), tuple(files), dict(facts))))
    write_record(entry_path(folder, name), data, [folder / file.path for file in files])
    for ending in (*range(1, MAX_ATTEMPTS + 1), "note"):
        (folder / "attempts" / f"{name}.{ending}").unlink(missing_ok=True)
