"""A run that an argument names, on disk or in an object store."""

from __future__ import annotations

import argparse
from pathlib import Path

from ernie_core.errors import RecipeError
from ernie_core.object_store import is_remote, scratch


def run_place(text: str) -> Path:
    """Return the folder of a run; of ``s3://BUCKET/PATH`` and ``gs://…`` this machine's scratch folder, to which files come as they are read.

    Example: ``run_place("runs/demo")`` -> ``Path("runs/demo")``.

    Raises:
        ArgumentTypeError: no such address (E-URI), or one with keys in it (E-CREDENTIALS).
    """
    try:
        return scratch(text) if is_remote(text) else Path(text)
    except RecipeError as e:
        raise argparse.ArgumentTypeError(str(e)) from e
