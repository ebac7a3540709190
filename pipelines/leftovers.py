"""What killed runs leave behind, and checkpoints that the recipe does not keep. Readers never see them; they only take space (reliability F28)."""

from __future__ import annotations

import json
from pathlib import Path

from ernie_core.manifest import MANIFEST_NAME, TEMPORARY, read_manifest
from ernie_core.training.retention import STATE_NAME, complete, superfluous
from pipelines.run_folder import STEP_NAME


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


def spare_checkpoints(run_folder: Path, keep: int, *, keep_best: bool) -> list[Path]:
    """Return the checkpoints that were cut off, and those beyond the newest `keep` and the best; folders, newest first.

    Args:
        run_folder: held by the caller.
        keep, keep_best: the recipe's `pretrain.keep_checkpoints`, and whether it names a `pretrain.keep_best`.
    """
    root = run_folder / "pretrain" / "checkpoints"
    whole = complete(root)
    state = json.loads((whole[0] / STATE_NAME).read_bytes()) if whole and keep_best else {}
    return superfluous(root, keep, {int(step): score for step, score in state.get("scores", {}).items()})
