"""A benchmark of the user's own files: five lines of a recipe instead of a declaration."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from ernie_core.benchmarks import classification, ranking, reading_comprehension, regression, sequence_labelling
from ernie_core.benchmarks.base import OWN_FILES, Benchmark, Layout, all_benchmarks
from ernie_core.benchmarks.custom_form import UNSAID
from ernie_core.benchmarks.json_layouts import JsonLines
from ernie_core.benchmarks.layouts import Table
from ernie_core.benchmarks.metrics.base import Metric
from ernie_core.benchmarks.metrics.chunks import CHUNK_F1
from ernie_core.benchmarks.metrics.classification import ACCURACY, F1, MCC
from ernie_core.benchmarks.metrics.correlation import PEARSON, SPEARMAN
from ernie_core.benchmarks.metrics.ranking import MAP, MRR, RANKING_F1
from ernie_core.benchmarks.metrics.reading import EM, EM_F1
from ernie_core.benchmarks.metrics.reading import F1 as READING_F1
from ernie_core.benchmarks.squad_layout import Squad
from ernie_core.benchmarks.tagged_layouts import Conll, TaggedTable
from ernie_core.errors import RecipeError
from ernie_core.registry import pick

KINDS: dict[str, tuple[str, tuple[Metric, ...], Callable[..., Any]]] = {
    "classification": ("classification", (ACCURACY, F1, MCC), classification.encode),
    "regression": ("regression", (PEARSON, SPEARMAN), regression.encode),
    "ranking": ("classification", (MRR, RANKING_F1, MAP), ranking.encode),
    "tagging": ("tagging", (CHUNK_F1,), sequence_labelling.encode),
    "span": ("span", (EM, READING_F1, EM_F1), reading_comprehension.encode),
}
"""What a user's benchmark may be: (kind of head, metrics, encoding). F1 and Matthews are of two classes and stand only there."""
FORMATS = {
    "classification": ("tsv", "csv", "jsonl"), "regression": ("tsv", "csv", "jsonl"), "ranking": ("tsv", "csv", "jsonl"),
    "tagging": ("tsv", "conll"), "span": ("squad",),
}  # fmt: skip
_TABLE = {"columns", "header", "delimiter", "encoding", "test_labelled"}
_READ = {"tsv": _TABLE, "csv": _TABLE, "jsonl": {"columns", "test_labelled"}, "conll": {"scheme", "delimiter"}, "squad": {"language"}}
_FIELDS = ("text_a", "text_b", "label", "value", "group", "id")


def benchmark_of(name: str, custom: Mapping[str, Any] | None) -> Benchmark:
    """Return a declared benchmark, or the one that a recipe describes.

    Args:
        name: the recipe's entry.
        custom: {"kind", "format", "labels", "columns", "header", "scheme", "encoding", "language"}; None for a declared one.

    Raises:
        RecipeError: E-NAME, nothing of this name is declared; E-BENCH-CUSTOM, the description does not hold together.
    """
    if custom is None:
        return pick(all_benchmarks(), name, "benchmark")
    check_custom(name, custom)
    kind, metrics, encode = KINDS[custom["kind"]]
    if custom["kind"] == "classification" and len(custom["labels"]) != 2:
        metrics = (ACCURACY,)
    labels = ("0", "1") if custom["kind"] == "ranking" and not custom["labels"] else tuple(custom["labels"])
    return Benchmark(name, kind, labels, metrics, encode, OWN_FILES, language=custom["language"])


def check_custom(name: str, custom: Mapping[str, Any]) -> None:
    """Check a description.

    Raises:
        RecipeError: E-BENCH-CUSTOM.
    """
    kind, form, labels = custom["kind"], custom["format"], custom["labels"]
    if form not in FORMATS[kind]:
        raise _wrong(name, "format", f"for {kind} one of {', '.join(FORMATS[kind])}", form)
    read = {"labels", "scheme"} if (kind, form) == ("tagging", "tsv") else _READ[form] | (set() if kind in {"regression", "span"} else {"labels"})
    if idle := sorted(field for field, default in asdict(UNSAID).items() if field not in read and custom[field] != default):
        raise _wrong(name, idle[0], f"nothing: {kind} in {form} does not read it", str(custom[idle[0]]))
    if strange := sorted(set(custom["columns"]) - set(_FIELDS)):
        raise _wrong(name, "columns", f"names out of {', '.join(_FIELDS)}", ", ".join(strange))
    needed = {"text_a", "value" if kind == "regression" else "label", *({"text_b", "group"} if kind == "ranking" else ())}
    if custom["columns"] and (missing := sorted(needed - set(custom["columns"]))):
        raise _wrong(name, "columns", f"a column for {', '.join(sorted(needed))}", f"none for {', '.join(missing)}")
    if form == "csv" and len(custom["delimiter"]) > 1:
        raise _wrong(name, "delimiter", "one character", repr(custom["delimiter"]))
    _check_labels(name, kind, labels)


def _check_labels(name: str, kind: str, labels: list[str]) -> None:
    shown = ", ".join(labels) or "none"
    if len(set(labels)) < len(labels):
        raise _wrong(name, "labels", "each label once", shown)
    if kind == "classification" and len(labels) < 2:
        raise _wrong(name, "labels", "the names of two classes or more, such as [bad, good]", shown)
    if kind == "ranking" and len(labels) not in {0, 2}:
        raise _wrong(name, "labels", "two names, of a wrong and of a right answer, or none for 0 and 1", shown)
    chunks = {tag[2:] for tag in labels if tag != "O"}
    if kind == "tagging" and set(labels) != {"O", *(f"{mark}-{chunk}" for mark in "BI" for chunk in chunks)}:
        raise _wrong(name, "labels", "O and, of each kind of chunk, tags such as B-PER, I-PER", shown)


def _columns_of(kind: str) -> tuple[str, ...]:
    """Return the fields that rows of a kind may have."""
    return ("text_a", "text_b", "value" if kind == "regression" else "label", *(("group",) if kind == "ranking" else ()), "id")


def _wrong(name: str, field: str, expected: str, found: str) -> RecipeError:
    where = f"finetune.benchmarks.{name}.custom.{field}"
    return RecipeError("E-BENCH-CUSTOM", "a benchmark of your own is not described as it must be", where=where, expected=expected, found=found,
                       fix="correct it in the recipe")  # fmt: skip


def layout_of(custom: Mapping[str, Any], subset: str) -> Layout:
    """Return how a user's file is read; `subset`: rows of "test" may lack the label.

    Example: format csv, columns {"text_a": "review", "label": "stars"} -> ``Table({"text_a": "review", "label": "stars"}, delimiter=",", quoted=True)``.
    """
    kind, form = custom["kind"], custom["format"]
    if form == "squad":
        return Squad(train=subset == "train")
    if form == "conll":
        return Conll(custom["delimiter"] or "\t", scheme=custom["scheme"])
    if kind == "tagging":
        return TaggedTable(scheme=custom["scheme"])
    columns, optional = dict(custom["columns"]), tuple[str, ...]()
    if not columns:
        columns = {field: field for field in _columns_of(kind)}
        optional = tuple(field for field in columns if field in {"text_b", "group", "id"} and (kind != "ranking" or field == "id"))
    labelled = subset != "test" or bool(custom["test_labelled"])
    if form == "jsonl":
        return JsonLines(columns, labelled=labelled, optional=optional)
    delimiter = custom["delimiter"] or {"tsv": "\t", "csv": ","}[form]
    return Table(
        columns, header=custom["header"], delimiter=delimiter, quoted=form == "csv", encoding=custom["encoding"], labelled=labelled, optional=optional
    )
