"""Which checkpoints stay: the newest few and the best one. Folders are ``step-00000200-<attempt>/``; one without a manifest is an attempt that was cut off."""

from __future__ import annotations

import re
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path

from ernie_core.failpoints import failpoint
from ernie_core.manifest import MANIFEST_NAME
from ernie_core.object_folders import discard, pull
from ernie_core.object_store import remove as remove_record

STATE_NAME = "state.json"
"""In each: what resume needs beside weights and moments."""
_FOLDER = re.compile(r"step-(\d{8,})-([0-9a-f]{8})")


def new_folder(root: Path, step: int) -> Path:
    """Return a name for an attempt at the checkpoint of `step`."""
    return root / f"step-{step:08d}-{secrets.token_hex(4)}"


def step_of(folder: Path) -> int:
    """Return the step that a checkpoint's folder names.

    Example: ``step_of(Path("checkpoints/step-00000011-0a1b2c3d"))`` -> ``11``.
    """
    found = _FOLDER.fullmatch(folder.name)
    assert found is not None, folder
    return int(found[1])


def attempts(root: Path) -> list[Path]:
    """Return every attempt, newest step first, of those in an object store the complete ones; nothing else in `root` is ever looked at."""
    pull(root, MANIFEST_NAME)
    if not root.exists():
        return []
    found = [path for path in root.iterdir() if _FOLDER.fullmatch(path.name) and path.is_dir()]
    return sorted(found, key=lambda path: (-step_of(path), path.name))


def complete(root: Path) -> list[Path]:
    """Return the attempts that were completed, newest step first."""
    return [path for path in attempts(root) if (path / MANIFEST_NAME).exists()]


def superfluous(root: Path, keep: int, scores: Mapping[int, float], newest: Path | None = None) -> list[Path]:
    """Return the attempts that need not stay: those cut off, and all but the newest `keep` and the best.

    Args:
        root: the run's checkpoint folder.
        keep: at least 1.
        scores: step -> how good the model was at it, more is better; of the steps where that is known.
        newest: the attempt just completed; others of its step or a later one were passed over as damaged. None = as their steps say.
    """
    assert keep >= 1, keep
    whole = complete(root)
    if newest is not None:
        whole = [newest, *(path for path in whole if step_of(path) < step_of(newest))]
    best = max((path for path in whole if step_of(path) in scores), key=lambda path: (scores[step_of(path)], step_of(path)), default=None)
    return [path for path in attempts(root) if path not in whole[:keep] and path != best]


def remove(folder: Path) -> None:
    """Delete an attempt; killed half way, it does not look complete."""
    remove_record(folder / MANIFEST_NAME)
    failpoint("ckpt.mid_purge")
    discard(folder)
    shutil.rmtree(folder)
