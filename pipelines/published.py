"""The published result tables (published.json, from ERNIE 2.0's README), and what a report shows beside them of a run's own results.

A score of the run stands beside published ones only where all subsets of its benchmark are the official ones; other benchmarks are listed apart.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ernie_core.registry import pick

OURS = "pretrained"  # the arm that is compared with published models
Score = Mapping[str, float | None]


@dataclass(frozen=True)
class Column:
    """What a column measures; names are those of our benchmarks and metrics ("glue", "average": the leaderboard's mean over data sets)."""

    benchmark: str
    subset: str
    metric: str


@dataclass(frozen=True)
class PublishedRow:
    """A published model: one value a column in per cent, and by the row it was compared with the differences as printed (None: none printed)."""

    model: str
    size: str
    values: tuple[float, ...]
    deltas: Mapping[str, tuple[float | None, ...]]

    @property
    def name(self) -> str:
        return f"{self.model} {self.size}"


@dataclass(frozen=True)
class Table:
    """A published table; `language` is "zh" or "en"."""

    name: str
    title: str
    language: str
    columns: tuple[Column, ...]
    rows: tuple[PublishedRow, ...]
    footnotes: tuple[str, ...]

    @property
    def benchmarks(self) -> frozenset[str]:
        return frozenset(c.benchmark for c in self.columns)


@dataclass(frozen=True)
class Published:
    """All tables, where they are from, and what holds for all of them."""

    source: str
    notes: tuple[str, ...]
    tables: tuple[Table, ...]


@dataclass(frozen=True)
class Cell:
    """Texts: a value in per cent ("79.7"), lowest and highest ("79.1 to 80.0"), points above or below each compared row ("+2.5")."""

    value: str
    spread: str = ""
    deltas: tuple[str, ...] = ()


@dataclass(frozen=True)
class RowView:
    """A row as shown; `against` names the rows that its cells' deltas are to."""

    name: str
    against: tuple[str, ...]
    cells: tuple[Cell, ...]
    ours: bool = False


@dataclass(frozen=True)
class TableView:
    """A table as shown: `heads` are (benchmark, its columns), `starred` the run's benchmarks in it that ran on other rows ("lcqmc*");
    `folded` where the run has none of its benchmarks."""

    table: Table
    heads: tuple[tuple[str, int], ...]
    rows: tuple[RowView, ...]
    starred: tuple[str, ...]
    folded: bool


@dataclass(frozen=True)
class StandIn:
    """A benchmark that ran on other rows: its name with a `*`, (subset, rows, what stands in or ""), and (subset, metric, score)."""

    name: str
    subsets: tuple[tuple[str, int, str], ...]
    scores: tuple[tuple[str, str, Cell], ...]


def load_published() -> Published:
    """Read the tables that come with the package.

    Example: the first row of the first table is ``PublishedRow("BERT", "base", (78.1, 77.2), {})``, of XNLI dev and test accuracy.
    """
    content = json.loads(Path(__file__).with_name("published.json").read_bytes())
    return Published(content["source"], tuple(content["notes"]), tuple(_table(t) for t in content["tables"]))


def _table(table: Mapping[str, Any]) -> Table:
    rows = [PublishedRow(r["model"], r["size"], tuple(r["values"]), {k: tuple(v) for k, v in r["deltas"].items()}) for r in table["rows"]]
    columns = tuple(Column(**c) for c in table["columns"])
    return Table(table["name"], table["title"], table["language"], columns, tuple(rows), tuple(table["footnotes"]))


def published_views(
    benchmarks: Mapping[str, Any], tables: Sequence[Table], *, run: str, reference: str = ""
) -> tuple[list[TableView], list[StandIn]]:
    """Return the published tables with a row of this run, and apart from them the benchmarks that ran on other rows; both empty where no
    benchmark of the run stands in a table.

    Args:
        benchmarks: "benchmarks" of the fine-tuning step's results. Of an entry whose name stands in a table are read "official" (all its subsets
            have the official rows), "rows" {subset: rows}, "stands_in" {subset: what, such as "AFQMC's train rows"} of one that is not official,
            and arms/pretrained/scores[subset][metric] = {"median", "min", "max"}, shares of 1, None where undefined.
        tables: as published.
        run: its name.
        reference: a published row, such as "BERT large", that all others are compared with, in tables that have it;
            "" compares as published, and this run with each row that others were compared with.

    Raises:
        RecipeError: E-NAME, no table has the reference.
    """
    if reference:
        pick({row.name: row for t in tables for row in t.rows}, reference, "published model")
    known = frozenset().union(*(t.benchmarks for t in tables))
    mine = {name: entry for name, entry in benchmarks.items() if name in known}
    stand_ins = [_stand_in(name, entry) for name, entry in mine.items() if not entry["official"]]
    return [_table_view(t, mine, run, reference) for t in tables if mine], stand_ins


def _table_view(table: Table, mine: Mapping[str, Any], run: str, reference: str) -> TableView:
    values = {row.name: row.values for row in table.rows}
    chosen = tuple(name for name in values if name == reference)
    rows = []
    for row in table.rows:
        against = tuple(name for name in (chosen if reference else row.deltas) if name != row.name)
        cells = [_cell(value, [values[name][i] for name in against]) for i, value in enumerate(row.values)]
        rows.append(RowView(row.name, against, tuple(cells)))
    scores = [_score(mine, column) for column in table.columns]
    if any(scores):
        compared = chosen if reference else tuple(dict.fromkeys(name for row in table.rows for name in row.deltas))
        cells = [_our_cell(score, [values[name][i] for name in compared]) for i, score in enumerate(scores)]
        rows.append(RowView(run, compared, tuple(cells), ours=True))
    heads = tuple((name, len(list(group))) for name, group in itertools.groupby(c.benchmark for c in table.columns))
    starred = tuple(f"{name}*" for name, entry in mine.items() if name in table.benchmarks and not entry["official"])
    return TableView(table, heads, tuple(rows), starred, folded=not table.benchmarks & mine.keys())


def _scores(entry: Mapping[str, Any]) -> Mapping[str, Mapping[str, Score]]:
    """Return the scores of the arm that is compared, by subset and metric; {} where it was not run."""
    return dict(entry["arms"][OURS]["scores"]) if OURS in entry["arms"] else {}


def _score(mine: Mapping[str, Any], column: Column) -> Score | None:
    entry = mine.get(column.benchmark)
    return _scores(entry).get(column.subset, {}).get(column.metric) if entry is not None and entry["official"] else None


def _our_cell(score: Score | None, references: Sequence[float]) -> Cell:
    if score is None:
        return Cell("–")
    median, low, high = score["median"], score["min"], score["max"]
    if median is None or low is None or high is None:
        return Cell("n/a")
    return replace(_cell(100 * median, references), spread=f"{100 * low:.1f} to {100 * high:.1f}")


def _cell(value: float, references: Sequence[float]) -> Cell:
    return Cell(f"{value:.1f}", deltas=tuple(_points(value - r) for r in references))


def _points(value: float) -> str:
    """Return points with their sign: ``-0.7000001`` -> ``−0.7``; ``+0.0`` for none."""
    return f"{round(value, 1) + 0.0:+.1f}".replace("-", "−")


def _stand_in(name: str, entry: Mapping[str, Any]) -> StandIn:
    subsets = tuple((subset, rows, entry["stands_in"].get(subset, "")) for subset, rows in entry["rows"].items())
    scores = [(subset, metric, _our_cell(score, ())) for subset, metrics in _scores(entry).items() for metric, score in metrics.items()]
    return StandIn(f"{name}*", subsets, tuple(scores))
