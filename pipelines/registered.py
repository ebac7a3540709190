"""A pretrained model as MLflow registers it: loadable by `mlflow.pyfunc` (text in, the token in place of [MASK] out) and `mlflow.transformers`."""

from __future__ import annotations

import shutil
import tempfile
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from ernie_core.errors import RecipeError
from pipelines import tracking
from pipelines.export import export
from pipelines.outbox import Wanted, model_sha256, read_state, write_state

FOLDER = "registered"
EXAMPLE = "[MASK]"


def check_register(name: str | None) -> None:
    """Refuse to register a model where what makes it is not installed.

    Raises:
        RecipeError: E-EXTRA.
    """
    if name is not None and find_spec("transformers") is None:
        raise RecipeError(
            "E-EXTRA", "a model is registered through Hugging Face's transformers, which is not installed", where="tracking.register_as",
            expected="transformers", fix="pip install 'ernie-continual[hf]', or take the line out of the recipe",
        )  # fmt: skip


def register(step: Path, name: str) -> None:
    """Have the model of a finished pretrain step registered as the newest version of `name`; `tracked_run.ship_rest` sends it."""
    wanted = read_state(step, Wanted)
    asked = {"name": name, "folder": FOLDER, "sha256": model_sha256(step / "model")}
    if wanted is None or wanted.registered == asked:
        return
    _write(step / "model", step / FOLDER)
    wanted.registered = asked
    write_state(step, wanted)


def _write(model: Path, target: Path) -> None:
    """Write the model in `model` to `target` as MLflow's own files: weights, tokenizer, signature, input example and exact requirements.

    Whole or not at all; what was there before is replaced.
    """
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".tmp-") as scratch:
        export(model, Path(scratch) / "theirs")
        saved = Path(scratch) / "saved"
        requirements = [f"{package}=={version(package).partition('+')[0]}" for package in ("mlflow", "torch", "transformers")]
        tracking.save_fill_model(Path(scratch) / "theirs", saved, EXAMPLE, requirements)
        shutil.rmtree(target, ignore_errors=True)
        saved.rename(target)
