"""A recipe's file lists as its prepare step, and what must be there before anything is started."""

from __future__ import annotations

import glob
from pathlib import Path
from typing import Any

from ernie_core.data.reference import read_filelist
from ernie_core.manifest import Manifest
from ernie_core.vocab import Vocab
from pipelines.prepared import NORMALISER_PATH, VOCAB_PATH
from pipelines.recipe_base import results_settings
from pipelines.recipe_filelists import ACTING
from pipelines.recipe_schema import Recipe
from pipelines.steps import Step, StepContext


def listed_files(recipe: Recipe) -> list[Path]:
    """Return every file that the lists name.

    Raises:
        InputError: E-FILELIST.
    """
    return [listed.path for lists in recipe.filelists.values() for path in (lists.train, lists.valid) for listed in read_filelist(Path(path))]


def filelist_step(recipe: Recipe) -> Step:
    """Return the step that makes shards of the listed files; lists and files are its inputs, so that another content does it again.

    Raises:
        InputError: E-FILELIST.
    """
    lists = {name: results_settings(one) for name, one in recipe.filelists.items()}
    settings: dict[str, Any] = {name: getattr(recipe.prepare, name) for name in ACTING}
    settings |= {"filelists": lists, "tasks": {name: one["options"] for name, one in lists.items()}}
    inputs = [str(one[subset]) for one in lists.values() for subset in ("train", "valid")] + [
        str(recipe.prepare.vocab),
        *map(str, listed_files(recipe)),
    ]

    def run(context: StepContext) -> Manifest:
        """Write the shards; see `corpus_prep.filelists.prepare_filelists` for what is raised."""
        from corpus_prep.filelists import prepare_filelists

        return prepare_filelists(
            lists, vocab=Vocab.load(Path(str(recipe.prepare.vocab))), vocab_path=VOCAB_PATH, normaliser_path=NORMALISER_PATH, folder=context.folder,
            settings=settings, parents=context.parent_hashes, say=context.say,
        )  # fmt: skip

    return Step("prepare", settings, (), run, tuple(map(glob.escape, dict.fromkeys(inputs))), keeps_work=False)
