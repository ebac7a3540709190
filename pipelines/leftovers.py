"""What killed runs leave behind: files that no manifest and no split's entry names. Readers never see them; they only take space (reliability F28)."""

from __future__ import annotations

from pathlib import Path

from ernie_core.manifest import MANIFEST_NAME, TEMPORARY, read_manifest
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
