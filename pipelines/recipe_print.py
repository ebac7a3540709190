"""Prints a recipe whole: every setting with its value, its meaning and its mark."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

from pipelines.recipe_base import Settings, changes_results
from pipelines.recipe_schema import Recipe


def print_config(recipe: Recipe) -> str:
    """Return the whole recipe as YAML that loads to the same recipe, each line with its meaning; ~ marks what does not change results."""
    head = "# Every setting of this recipe. A ~ before the meaning: may differ between two runs of one recipe; all others change results.\n"
    return head + "".join(f"{line}\n" for line in _lines(recipe, "", marked=False))


def _lines(section: Settings, indent: str, *, marked: bool) -> Iterator[str]:
    for name, info in type(section).model_fields.items():
        value = getattr(section, name)
        free = marked or not changes_results(info)
        comment = f"# {'~ ' if free else ''}{info.description}"
        if isinstance(value, Settings):
            yield f"{indent}{name}:  {comment}"
            yield from _lines(value, indent + "  ", marked=free)
        elif isinstance(value, dict) and any(isinstance(v, Settings) for v in value.values()):
            yield f"{indent}{name}:  {comment}"
            for key, item in value.items():
                yield f"{indent}  {key}:"
                yield from _lines(item, indent + "    ", marked=free)
        else:
            yield f"{indent}{name}: {_flow(value)}  {comment}"
    yield from (f"{indent}# {note}" for note in section.notes())


def _flow(value: Any) -> str:
    """Return a value on one line of JSON, which is YAML too; user and password of a URI hidden."""
    if isinstance(value, list):
        return "[" + ", ".join(_flow(v) for v in value) + "]"
    if isinstance(value, BaseModel):
        value = value.model_dump()
    if isinstance(value, dict):
        return "{" + ", ".join(f"{k}: {_flow(v)}" for k, v in value.items()) + "}"
    if isinstance(value, str):
        value = re.sub(r"://[^/@]+@", "://***@", value)
        return value if re.fullmatch(r"[a-z][a-z0-9_]*", value) and value not in {"true", "false", "null"} else json.dumps(value, ensure_ascii=False)
    return json.dumps(value)
