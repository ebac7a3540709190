"""Where a model lies: in a run, in its own folder, or in one of Hugging Face's transformers."""

from __future__ import annotations

from pathlib import Path

from ernie_core.errors import InputError
from ernie_core.manifest import MANIFEST_NAME, whole
from ernie_core.object_store import home, kept_at, local, refresh

WEIGHTS = "model.safetensors"


def is_ours(folder: Path) -> bool:
    """Return whether a model's folder was written by us: it has a manifest."""
    return refresh(folder / MANIFEST_NAME)


def model_folder(path: Path, *, foreign: bool) -> Path:
    """Return the folder with the weights: `path`, or the model in the run that it is.

    Args:
        path: a run's folder, its pretrain step's, a model's.
        foreign: whether one of transformers will do too.

    Raises:
        InputError: E-MODEL-MISSING; E-MODEL-PICKLE, the weights are a pickle.
        IntegrityError: a file of a model in an object store is damaged there.
        ResourceError: E-STORE, the object store does not answer, or has no such bucket.
    """
    for folder in (path / "pretrain" / "model", path / "model", path):
        if (is_ours(folder) and local(folder / WEIGHTS).exists()) or (foreign and (folder / WEIGHTS).exists()):
            if home(folder) is not None:
                whole(folder)
            return folder
    if foreign and (path / "pytorch_model.bin").exists():
        raise InputError(
            "E-MODEL-PICKLE", "these weights are a pickle, which may run code when it is read", where=str(path / "pytorch_model.bin"),
            expected=WEIGHTS, fix="save them as safetensors: transformers' save_pretrained does, from a source you trust",
        )  # fmt: skip
    theirs = f", or a folder of transformers with {WEIGHTS} and config.json" if foreign else ""
    raise InputError(
        "E-MODEL-MISSING", "no pretrained model there", where=kept_at(path), expected=f"a run's folder (runs/NAME) or its pretrain/model{theirs}",
        fix="correct the path, or finish the pretraining first: ernie pretrain RECIPE",
    )  # fmt: skip
