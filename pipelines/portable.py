"""What makes a recipe fit to run on another machine than the one it was written on: whole, in one file, its paths absolute."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import PurePosixPath

from ernie_core.errors import RecipeError
from pipelines.recipe_schema import Recipe

_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*://")


def relative_paths(recipe: Recipe) -> list[str]:
    """Return the recipe's relative paths, as "key: value".

    Example: a recipe with ``root: runs`` and a corpus ``news: {reader: text, path: /data/*.txt}`` -> ``["root: runs"]``.
    """
    return [f"{key}: {path}" for key, path in _paths(recipe) if not PurePosixPath(path).is_absolute() and not _SCHEME.match(path)]


def _paths(recipe: Recipe) -> Iterator[tuple[str, str]]:
    """Yield every path of the recipe with its key; a benchmark's files that lie in its folder are named within it."""
    found: list[tuple[str, str | None]] = [("root", recipe.root)]
    found += [(f"corpora.{name}.path", corpus.path) for name, corpus in recipe.corpora.items()]
    found += [(f"filelists.{name}.{key}", getattr(lists, key)) for name, lists in recipe.filelists.items() for key in ("train", "valid")]
    found += [(f"prepare.{key}", getattr(recipe.prepare, key)) for key in ("vocab", "user_dictionary", "gazetteer")]
    found.append(("pretrain.init", recipe.pretrain.init if recipe.pretrain else None))
    if recipe.finetune is not None:
        found.append(("finetune.model", recipe.finetune.model))
        for name, benchmark in recipe.finetune.benchmarks.items():
            found += [(f"finetune.benchmarks.{name}.{key}", getattr(benchmark, key)) for key in ("path", "train", "dev", "test")]
    yield from ((key, path) for key, path in found if path is not None)


def check_portable(recipe: Recipe) -> None:
    """Refuse a recipe with relative paths: in a job of a cluster they would lie in a folder that goes with the job, and on one node only.

    Raises:
        RecipeError: E-RELATIVE-PATH.
    """
    if found := relative_paths(recipe):
        raise RecipeError(
            "E-RELATIVE-PATH", "on a cluster every path must be one that all nodes see", where=recipe.name, expected="absolute paths on shared storage",
            found="; ".join(found), fix="for example --set root=/mnt/ernie/runs",
        )  # fmt: skip


def whole_recipe(recipe: Recipe) -> str:
    """Return the recipe in one text, bases and overrides worked in, environment variables put in; JSON, which is YAML too.

    Unlike `recipe_print.print_config`, which is for people, it keeps the password of a URI: the job needs it.

    Example: a file ``{base: demo.yaml, name: mine}`` -> all that demo.yaml sets, with ``"name": "mine"``.
    """
    return json.dumps(recipe.model_dump(mode="json", exclude_unset=True), ensure_ascii=False, indent=1) + "\n"
