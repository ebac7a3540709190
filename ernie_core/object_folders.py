"""Folders of a run in an object store: listed, renamed, deleted; see `object_store`. A folder without a home has nothing in a store."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ernie_core.object_store import forget, home, place_of, refresh, told


def sizes(folder: Path) -> dict[str, int] | None:
    """Return path in `folder` -> bytes of all that the store holds there; None for a folder without a home."""
    found = _listed(folder)
    return None if found is None else {name: meta["size"] for name, meta in found.items()}


def _listed(folder: Path) -> dict[str, Any] | None:
    if (place := place_of(folder)) is None:
        return None
    import obstore

    store, prefix = place
    with told(folder):
        found = [meta for page in obstore.list(store, prefix) for meta in page]
    return {meta["path"][len(prefix) + 1 :]: meta for meta in found}


def entries(folder: Path) -> tuple[list[str], list[str]]:
    """Return names of the files and of the folders that the store holds in `folder`, without what lies deeper."""
    if (place := place_of(folder)) is None:
        return [], []
    import obstore

    store, prefix = place
    with told(folder):
        found = obstore.list_with_delimiter(store, prefix)
    return [meta["path"].rpartition("/")[2] for meta in found["objects"]], [name.rpartition("/")[2] for name in found["common_prefixes"]]


def pull(root: Path, record: str) -> None:
    """Make the record of that name in each folder in `root` what the store holds, or take it away."""
    if home(root) is None:
        return
    here = [path.name for path in root.iterdir() if path.is_dir()] if root.exists() else []
    for name in {*here, *entries(root)[1]}:
        refresh(root / name / record)


def discard(folder: Path, names: Sequence[str] | None = None) -> None:
    """Delete what the store holds in `folder`, or those of its files."""
    if (place := place_of(folder)) is None:
        return
    import obstore

    store, prefix = place
    chosen = list(_listed(folder) or ()) if names is None else list(names)
    with told(folder):
        if chosen:
            obstore.delete(store, [f"{prefix}/{name}" for name in chosen])
    if names is None:
        forget(folder)


def rename(folder: Path, target: Path) -> None:
    """Copy what the store holds in `folder` to `target`, then delete it."""
    here, there = place_of(folder), place_of(target)
    if here is None or there is None:
        return
    import obstore

    with told(folder):
        for name in _listed(folder) or ():
            obstore.copy(here[0], f"{here[1]}/{name}", f"{there[1]}/{name}")
    discard(folder)
