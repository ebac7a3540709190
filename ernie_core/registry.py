"""Finds what lives one-per-file in a folder: no list, dict or `__init__` is edited to add a task or a benchmark (DESIGN, Inside)."""

from __future__ import annotations

import importlib
import pkgutil
import re
from types import ModuleType
from typing import TypeVar

from ernie_core.errors import RecipeError, closest

T = TypeVar("T")
_NAME = re.compile(r"[a-z][a-z0-9_]*")


def scan(package: ModuleType, kind: type[T]) -> dict[str, T]:
    """Return every module-level instance of `kind` in the modules of `package`, by its `name`, sorted.

    Raises:
        ValueError: two instances share a name, or a name is not lower_snake_case.
    """
    found: dict[str, tuple[T, str]] = {}
    for info in sorted(pkgutil.iter_modules(package.__path__), key=lambda m: m.name):
        module = importlib.import_module(f"{package.__name__}.{info.name}")
        for value in vars(module).values():
            if not isinstance(value, kind):
                continue
            name = str(getattr(value, "name", ""))
            if not _NAME.fullmatch(name):
                raise ValueError(f"{module.__name__}: name {name!r} is not lower_snake_case")
            if name in found and found[name][0] is not value:
                raise ValueError(f"{name!r} is defined in {found[name][1]} and in {module.__name__}")
            found.setdefault(name, (value, module.__name__))
    return {name: value for name, (value, _) in sorted(found.items())}


def pick(entries: dict[str, T], name: str, what: str) -> T:
    """Return `entries[name]`, or raise RecipeError listing the valid names, closest first."""
    if name not in entries:
        raise RecipeError("E-NAME", f"unknown {what} {name!r}", expected=f"one of {closest(name, entries)}", fix="correct the name in the recipe")
    return entries[name]
