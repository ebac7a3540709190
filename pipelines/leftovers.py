"""What killed runs leave behind, and checkpoints that the recipe does not keep. Readers never see them; they only take space (reliability F28)."""

from __future__ import annotations

import json
from pathlib import Path

from ernie_core.manifest import MANIFEST_NAME, read_manifest
from ernie_core.object_folders import sizes
from ernie_core.object_store import TEMPORARY, local
from ernie_core.training.retention import STATE_NAME, complete, superfluous
from pipelines.journal import JOURNAL_NAME
from pipelines.lease import LEASE_NAME
from pipelines.run_folder import INPUTS_NAME, RUN_NAME, STEP_NAME, WANTED_NAME


def leftovers(run_folder: Path) -> list[Path]:
    """Return temporary files of writers that died, and what a finished preparation's splits do not name, sorted.

    Args:
        run_folder: held by the caller (`run_folder.locked`), so that nobody writes.

    Raises:
        IntegrityError: E-MANIFEST, E-ENTRY.
    """
    found = set(run_folder.glob(f"{TEMPORARY}*"))
    for step in run_folder.iterdir():
        if (step / STEP_NAME).exists():
            found.update(step.rglob(f"{TEMPORARY}*"))
            if step.name == "prepare" and (step / MANIFEST_NAME).exists():
                from corpus_prep.commit import unnamed  # here, so that nothing else of preparation is loaded

                found.update(unnamed(step, read_manifest(step, "prepare").facts["splits"]))
    return sorted(path for path in found if path.is_file())


def left_in_store(run_folder: Path) -> dict[str, int]:
    """Return path -> bytes of what a run in an object store holds and no record names, such as uploads of runs that were killed before they committed.

    Args:
        run_folder: held by the caller, its records as the store has them.

    Raises:
        IntegrityError: E-MANIFEST, E-ENTRY.
    """
    from corpus_prep.commit import read_entry  # here, so that nothing else of preparation is loaded
    from pipelines.pretrain_rank import RESULT_NAME
    from pipelines.rank_state import LOG_NAME

    kept = {STEP_NAME, INPUTS_NAME, WANTED_NAME, MANIFEST_NAME, JOURNAL_NAME, LOG_NAME, RESULT_NAME}  # of a step, named by no manifest
    held = sizes(run_folder) or {}
    named = {RUN_NAME, WANTED_NAME, LEASE_NAME}
    for path in held:
        folder, _, name = path.rpartition("/")
        if (name in kept and "/" not in folder) or name == WANTED_NAME:
            named.add(path)
        elif name == MANIFEST_NAME:
            named |= {path, *(f"{folder}/{entry.path}" for entry in read_manifest(run_folder / folder).files)}
    for step in {path.partition("/entries/")[0] for path in held if "/entries/" in path}:
        splits = read_manifest(run_folder / step).facts["splits"] if f"{step}/{MANIFEST_NAME}" in held else None
        for path in [path for path in held if path.startswith(f"{step}/entries/")]:
            entry = path.rpartition("/")[2].removesuffix(".json")
            if splits is None or int(entry.partition("-")[2]) < splits:
                named |= {path, *(f"{step}/{file.path}" for file in read_entry(run_folder / step, entry).files)}
    return {path: size for path, size in sorted(held.items()) if path not in named}


def spare_checkpoints(run_folder: Path, keep: int, *, keep_best: bool) -> list[Path]:
    """Return the checkpoints that were cut off, and those beyond the newest `keep` and the best; folders, newest first.

    Args:
        run_folder: held by the caller.
        keep, keep_best: the recipe's `pretrain.keep_checkpoints`, and whether it names a `pretrain.keep_best`.
    """
    root = run_folder / "pretrain" / "checkpoints"
    whole = complete(root)
    state = json.loads(local(whole[0] / STATE_NAME).read_bytes()) if whole and keep_best else {}
    return superfluous(root, keep, {int(step): score for step, score in state.get("scores", {}).items()})
