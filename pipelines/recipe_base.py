"""What every section of a recipe is made of: strict settings, checked names, and the mark "changes results" (DESIGN, Checkpoint)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator
from pydantic.fields import FieldInfo

from ernie_core.errors import closest
from ernie_core.object_store import is_remote, scratch

_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")


def _checked_name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} is not a name: lower-case letters, digits and _, a letter first, at most 64")
    return name


def _checked_package(name: str) -> str:
    from corpus_prep.packages import PACKAGES

    if name not in PACKAGES:
        raise ValueError(f"unknown package {name!r}; one of {closest(name, PACKAGES)}")
    return name


def _checked_reader(name: str) -> str:
    from corpus_prep.readers.base import all_readers

    if name not in (readers := all_readers()):
        raise ValueError(f"unknown reader {name!r}; one of {closest(name, readers)}")
    return name


def _checked_task(name: str) -> str:
    from ernie_core.tasks.base import all_tasks

    if name not in (tasks := all_tasks()):
        raise ValueError(f"unknown task {name!r}; one of {closest(name, tasks)}")
    return name


def _checked_filter(name: str) -> str:
    from corpus_prep.filters import FILTERS

    if name not in FILTERS:
        raise ValueError(f"unknown filter {name!r}; one of {closest(name, FILTERS)}")
    return name


def _checked_model(name: str) -> str:
    from ernie_core.model.named import NAMED

    if name not in NAMED:
        raise ValueError(f"unknown model {name!r}; one of {closest(name, NAMED)}")
    return name


MAX_NAME_BYTES = 255
"""Bytes of one name in a path that file systems take."""


def _checked_root(root: str) -> str:
    if not root.isprintable():
        raise ValueError(f"a folder's name may hold no line feeds or control characters: {root!r}")
    if longest := [part for part in root.split("/") if len(part.encode()) > MAX_NAME_BYTES]:
        raise ValueError(f"a folder's name has at most {MAX_NAME_BYTES} bytes: {len(longest[0].encode())}")
    if is_remote(root):
        scratch(root)
    return root


def _on_disk(path: str) -> str:
    if is_remote(path):
        raise ValueError("this is read from disk: an object store holds corpora (path) and runs (root) only; copy it to a file or folder")
    return path


VALIDATION_METRICS = ("lm_loss", "lm_ppl", "lm_global_ppl", "lm_acc", "loss", "acc", "acc_masked", "average_precision", "auc")
"""What validation can give of a task, see `meter.validation_metrics`."""


def check_metric(name: str, tasks: Iterable[str]) -> None:
    """Raise ValueError unless `name` is a validation metric of one of `tasks`: valid/knowledge_masking/lm_loss."""
    valid = [f"valid/{task}/{metric}" for task in tasks for metric in VALIDATION_METRICS]
    if name not in valid:
        raise ValueError(f"keep_best: unknown metric {name!r}; one of {closest(name, valid)}")


Name = Annotated[str, AfterValidator(_checked_name)]
ModelName = Annotated[str, AfterValidator(_checked_model)]
Package = Annotated[str, AfterValidator(_checked_package)]
ReaderName = Annotated[str, AfterValidator(_checked_reader)]
TaskName = Annotated[str, AfterValidator(_checked_task)]
FilterName = Annotated[str, AfterValidator(_checked_filter)]
Root = Annotated[str, AfterValidator(_checked_root)]
OnDisk = Annotated[str, AfterValidator(_on_disk)]
Positive = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Rate = Annotated[float, Field(gt=0, le=1)]


Precision = Literal["auto", "bf16", "fp16", "fp32"]
PRECISION_WORDS = (
    "arithmetic of forward and backward: bf16, fp16 (with loss scaling), fp32; auto: bf16 if the machine that runs the command is faster in it"
)


def free(default: Any, description: str) -> Any:
    """A field that does not change results: it may differ between two runs of one recipe."""
    return Field(default, description=description, json_schema_extra={"changes_results": False})


MemoryGb = Annotated[float, Field(ge=0, le=1_000_000)]


def memory_field(process: str) -> Any:
    """The field for memory that each process of a step asks the cluster for; see `pipelines.resources.bundles_of`."""
    return free(0.0, f"GB (10^9 bytes) of memory to ask the cluster for, for each {process}; a node's limit is not set by it; 0: not asked for")


def _without_removed(table: dict[str, Any], *, deep: bool) -> dict[str, Any]:
    return {k: _without_removed(v, deep=True) if deep and isinstance(v, dict) else v for k, v in table.items() if v is not REMOVED}


REMOVED = object()
"""Stands for null in a merged recipe where a base, or what `--set` changes, has something else."""


class Settings(BaseModel):
    """Base of every section: exact types, no unknown keys, finite numbers, read-only."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _nulls(cls, values: Any) -> Any:
        """Null is a value where a key has it as one, elsewhere it gives the default; in a table of names it takes out what a base put in."""
        if not isinstance(values, dict):
            return values
        kept: dict[str, Any] = {}
        for name, value in values.items():
            kind = cls.model_fields[name].annotation if name in cls.model_fields else None
            if value is None or value is REMOVED:
                if kind is None or type(None) in get_args(kind):
                    kept[name] = None
            elif get_origin(kind) is dict and isinstance(value, dict):
                kept[name] = _without_removed(value, deep=not any(isinstance(a, type) and issubclass(a, BaseModel) for a in get_args(kind)))
            else:
                kept[name] = value
        return kept

    def notes(self) -> list[str]:
        """Return what a person should know of the section beside its settings, a line each."""
        return []


def results_settings(model: BaseModel) -> dict[str, Any]:
    """Return the settings that change results, as JSON values: fields marked otherwise are left out, at every depth."""
    return {name: _plain(getattr(model, name), results_settings) for name, info in type(model).model_fields.items() if changes_results(info)}


def given_settings(model: BaseModel) -> dict[str, Any]:
    """Return those of `results_settings` that the recipe itself gives, at every depth; what is left to its default is left out."""
    given = model.model_fields_set
    return {
        name: _plain(getattr(model, name), given_settings)
        for name, info in type(model).model_fields.items()
        if changes_results(info) and name in given
    }


def changes_results(info: FieldInfo) -> bool:
    """Return the mark of a field: False if it may differ between two runs of one recipe."""
    extra = info.json_schema_extra
    return not isinstance(extra, dict) or bool(extra.get("changes_results", True))


def _plain(value: Any, of_model: Callable[[BaseModel], dict[str, Any]]) -> Any:
    if isinstance(value, BaseModel):
        return of_model(value)
    if isinstance(value, dict):
        return {k: _plain(v, of_model) for k, v in value.items()}
    return [_plain(v, of_model) for v in value] if isinstance(value, list) else value
