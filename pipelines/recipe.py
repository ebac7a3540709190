"""Reads recipes: strict YAML (the only yaml import), `base:` and `--set`, settings checked with line numbers."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from ernie_core.errors import RecipeError, closest, printable
from pipelines.recipe_base import REMOVED
from pipelines.recipe_schema import Recipe

MAX_BYTES, MAX_DEPTH, MAX_ALIASES, MAX_NODES = 1_000_000, 50, 100, 100_000
_INT = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_FLOAT = re.compile(r"[-+]?((0|[1-9][0-9]*)\.[0-9]*([eE][-+]?[0-9]+)?|\.[0-9]+([eE][-+]?[0-9]+)?|(0|[1-9][0-9]*)[eE][-+]?[0-9]+)")
_NONFINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_WORDS: dict[str, bool | None] = {"true": True, "false": False, "null": None, "~": None, "": None}
_ENV = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
Key = tuple[str | int, ...]


@dataclass
class Source:
    """A parsed YAML text: plain values, where each stands ("file:line"), and what is wrong with it."""

    value: Any = None
    places: dict[Key, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


class _Builder:
    """Builds plain values from YAML events, so that depth, aliases and tags are bounded before anything is made of them."""

    def __init__(self, text: str, where: str) -> None:
        self.events: Iterator[yaml.Event] = iter(yaml.parse(text, Loader=yaml.SafeLoader))
        self.where, self.source = where, Source()
        self.anchors: dict[str, tuple[Any, int]] = {}
        self.aliases = self.nodes = 0

    def place(self, event: yaml.Event) -> str:
        assert event.start_mark is not None
        return f"{self.where}:{event.start_mark.line + 1}"

    def refuse(self, event: yaml.Event, what: str) -> RecipeError:
        return RecipeError("E-RECIPE-YAML", what, where=self.place(event), fix="write plain YAML")

    def document(self) -> Source:
        events = [next(self.events), next(self.events)]
        if isinstance(events[1], yaml.StreamEndEvent):
            return self.source
        self.source.value = self.node(next(self.events), (), 0)
        end = [next(self.events), next(self.events)]
        if not isinstance(end[1], yaml.StreamEndEvent):
            raise self.refuse(end[1], "more than one document")
        return self.source

    def node(self, event: yaml.Event, path: Key, depth: int) -> Any:
        """Return the value that begins with an event, and remember its place; RecipeError where it is too deep or has a tag."""
        before = self.nodes
        self.nodes += 1
        if depth > MAX_DEPTH:
            raise self.refuse(event, f"nested deeper than {MAX_DEPTH}")
        self.source.places[path] = self.place(event)
        if isinstance(event, yaml.AliasEvent):
            return self.alias(event)
        if getattr(event, "tag", None) is not None:
            raise self.refuse(event, f"tag {printable(str(event.tag))} is refused")  # type: ignore[attr-defined]
        value: Any
        if isinstance(event, yaml.ScalarEvent):
            value = self.scalar(event)
        elif isinstance(event, yaml.SequenceStartEvent):
            value = []
            while not isinstance(item := next(self.events), yaml.SequenceEndEvent):
                value.append(self.node(item, (*path, len(value)), depth + 1))
        else:
            value = self.mapping(path, depth)
        if anchor := getattr(event, "anchor", None):
            self.anchors[anchor] = (value, self.nodes - before)
        return value

    def mapping(self, path: Key, depth: int) -> dict[str, Any]:
        """Return the mapping whose start was read; a key given twice is a problem, one that is no plain text a RecipeError."""
        value: dict[str, Any] = {}
        while not isinstance(item := next(self.events), yaml.MappingEndEvent):
            if not isinstance(item, yaml.ScalarEvent) or item.tag is not None:
                raise self.refuse(item, "a key must be plain text")
            key = item.value
            if key in value:
                self.source.problems.append(
                    f"{self.place(item)} {_dotted((*path, key))}: key given twice, first at {self.source.places[(*path, key)]}"
                )
            value[key] = self.node(next(self.events), (*path, key), depth + 1)
            self.source.places[(*path, key)] = self.place(item)
        return value

    def alias(self, event: yaml.AliasEvent) -> Any:
        self.aliases += 1
        if event.anchor not in self.anchors:
            raise self.refuse(event, f"alias *{event.anchor} stands before its anchor")
        value, nodes = self.anchors[event.anchor]
        self.nodes += nodes
        if self.aliases > MAX_ALIASES or self.nodes > MAX_NODES:
            raise self.refuse(event, f"more than {MAX_ALIASES} aliases, or {MAX_NODES} values when they are written out")
        return value

    def scalar(self, event: yaml.ScalarEvent) -> Any:
        """Return a scalar's value by this recipe's rules, ${VARIABLES} put in: ``1e-4`` -> 0.0001, ``no`` -> "no", ``'1'`` -> "1"."""

        def variable(match: re.Match[str]) -> str:
            if match[1] not in os.environ:
                self.source.problems.append(f"{self.place(event)} environment variable {match[1]} is not set")
            return os.environ.get(match[1], "")

        text = _ENV.sub(variable, event.value)
        if event.style is not None:
            return text
        if text in _WORDS:
            return _WORDS[text]
        if _INT.fullmatch(text) and len(text) <= 20:
            return int(text)
        if _FLOAT.fullmatch(text) or _NONFINITE.fullmatch(text):
            return float(
                text.replace(".inf", "inf")
                .replace(".Inf", "inf")
                .replace(".INF", "inf")
                .replace(".nan", "nan")
                .replace(".NaN", "nan")
                .replace(".NAN", "nan")
            )
        return text


def parse_yaml(text: str, where: str) -> Source:
    """Parse one YAML document by the strict rules: no tags, bounded depth, aliases and size, every duplicate key reported.

    Only `true`, `false` and `null` (or `~`, or nothing) are words; `1e-4` is a number; `no`, `012` and `12:30` stay text.

    Raises:
        RecipeError: E-RECIPE-YAML.

    Example: ``parse_yaml("a: 1e-4", "x").value`` -> ``{"a": 0.0001}``.
    """
    if len(text.encode()) > MAX_BYTES:
        raise RecipeError("E-RECIPE-YAML", "recipe is too large", where=where, expected=f"at most {MAX_BYTES} bytes", found=f"{len(text.encode())}")
    try:
        return _Builder(text, where).document()
    except (yaml.YAMLError, RecursionError) as e:
        mark = getattr(e, "problem_mark", None)
        place = f"{where}:{mark.line + 1}" if mark is not None else where
        raise RecipeError("E-RECIPE-YAML", "not readable as YAML", where=place, found=str(getattr(e, "problem", None) or e)) from e


def _dotted(path: Sequence[str | int]) -> str:
    return ".".join(str(p) for p in path)


def _read(path: Path, seen: tuple[Path, ...] = ()) -> Source:
    """Return the recipe file merged over its `base:`."""
    if path.resolve() in seen:
        raise RecipeError("E-RECIPE-BASE", "base recipes go round in a circle", where=str(path))
    try:
        text = path.read_bytes().decode("utf-8")
    except OSError as e:
        raise RecipeError(
            "E-RECIPE-MISSING", "cannot read the recipe", where=str(path), found=e.strerror or str(e), fix="give the path of a recipe file"
        ) from e
    except UnicodeDecodeError as e:
        raise RecipeError("E-RECIPE-YAML", "recipe is not UTF-8", where=f"{path}, byte {e.start}") from e
    own = parse_yaml(text, str(path))
    own.value = {} if own.value is None else own.value
    if not isinstance(own.value, dict):
        raise RecipeError("E-RECIPE-YAML", "a recipe is a mapping of keys", where=str(path), found=type(own.value).__name__)
    base = own.value.pop("base", None)
    if base is None:
        return own
    if not isinstance(base, str):
        raise RecipeError("E-RECIPE-BASE", "base must be a path", where=own.places[("base",)], found=repr(base))
    below = _read(path.parent / base, (*seen, path.resolve()))
    return Source(_merge(below.value, own.value), below.places | own.places, below.problems + own.problems)


def _merge(below: Any, above: Any) -> Any:
    if not (isinstance(below, dict) and isinstance(above, dict)):
        return above
    return {**below, **{key: REMOVED if value is None and key in below else _merge(below.get(key), value) for key, value in above.items()}}


def _override(source: Source, setting: str) -> Source:
    key, equals, text = setting.partition("=")
    path = key.strip().split(".")
    if not equals or not all(path):
        raise RecipeError("E-SET", "--set needs KEY=VALUE", found=setting, fix="for example --set pretrain.learning_rate=5e-4")
    part = parse_yaml(text, f"--set {key}")
    value: Any = part.value
    for name in reversed(path):
        value = {name: value}
    places = {(*path[: i + 1],): f"--set {key}" for i in range(len(path))} | {(*path, *p): f"--set {key}" for p in part.places}
    return Source(_merge(source.value, value), places | source.places | {tuple(path): f"--set {key}"}, source.problems + part.problems)


def load_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read, merge and check a recipe.

    Args:
        path: YAML file; `base: other.yaml` in it is read relative to it.
        overrides: `a.b=c` texts, the value in the same YAML.

    Raises:
        RecipeError: with every problem found, each with file, line and key.
    """
    source = _read(path)
    for setting in overrides:
        source = _override(source, setting)
    problems = list(source.problems)
    recipe = None
    try:
        recipe = Recipe.model_validate(source.value)
    except ValidationError as e:
        problems += [_problem(error, source.places) for error in e.errors(include_url=False)]
    if problems or recipe is None:
        lines = "".join(f"\n  {line}" for line in problems)
        raise RecipeError(
            "E-RECIPE",
            f"{len(problems)} problem{'s' if len(problems) > 1 else ''} in the recipe",
            where=str(path),
            found=lines,
            fix="`ernie run RECIPE --print-config` shows every key of a right recipe",
        )
    return recipe


def _problem(error: Mapping[str, Any], places: Mapping[Key, str]) -> str:
    loc = tuple(p for p in error["loc"] if p != "[key]")
    place = next((places[loc[:n]] for n in range(len(loc), -1, -1) if loc[:n] in places), "recipe")
    if error["type"] == "extra_forbidden":
        fields = _fields_at(Recipe, loc[:-1])
        message = f"unknown key, expected one of {closest(str(loc[-1]), fields)}" if fields else "unknown key"
    elif error["type"] == "missing":
        message = "is missing"
    else:
        message = f"{error['msg'].removeprefix('Value error, ')}"
        if not isinstance(error["input"], dict | list | BaseModel) and error["type"] != "value_error":
            message += f", found {printable(repr(error['input']))}"
    return f"{place} {_dotted(loc) or 'recipe'}: {message}"


def _fields_at(model: type[BaseModel], loc: Sequence[str | int]) -> list[str]:
    """Return the field names of the section at `loc`, walking annotations."""
    kind: Any = model
    for part in loc:
        kind = (
            kind.model_fields[part].annotation
            if isinstance(kind, type) and issubclass(kind, BaseModel) and part in kind.model_fields
            else _item(kind)
        )
        while get_origin(kind) in {Annotated, Union, UnionType}:
            kind = get_args(kind)[0]
    return list(kind.model_fields) if isinstance(kind, type) and issubclass(kind, BaseModel) else []


def _item(kind: Any) -> Any:
    args = get_args(kind)
    return args[-1] if args else None
