"""The published tables: every figure as the seed prints it, and our own row beside them only where it may stand there."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from run_helper import make_run

from ernie_core.errors import RecipeError
from ernie_core.manifest import atomic_write, read_manifest, write_manifest
from pipelines.published import Table, load_published, published_views
from pipelines.report import render

TABLES = load_published().tables
Key = tuple[str, str, str]
Printed = dict[str, dict[Key, tuple[float, list[float]]]]
BENCHMARKS = {
    "XNLI": "xnli", "DuReader": "dureader", "CMRC2018": "cmrc2018", "DRCD": "drcd", "MSRA-NER(SIGHAN2006)": "msra_ner", "ChnSentiCorp": "chnsenticorp",
    "NLPCC2016-DBQA": "nlpcc_dbqa", "LCQMC": "lcqmc", "BQ Corpus": "bq", "CoLA": "cola", "SST-2": "sst2", "MRPC": "mrpc", "STS-B": "stsb", "QQP": "qqp",
    "MNLI-m": "mnli", "MNLI-mm": "mnli_mm", "QNLI": "qnli", "RTE": "rte", "WNLI": "wnli", "AX": "ax", "-": "glue",
}  # fmt: skip
METRICS = {
    "acc": "accuracy", "em": "em", "f1-score": "f1", "mrr": "mrr", "matthews corr.": "mcc", "pearson corr.": "pearson", "spearman": "spearman",
    "score": "average",
}  # fmt: skip


class Grid(HTMLParser):
    """The cells of an HTML table as (text, columns it spans), row by row; the seed leaves some tags open."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[list[tuple[str, int]]] = []
        self.inside = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "tr":
            self.rows.append([])
        if tag in {"td", "th"}:
            self.rows[-1].append(("", int(dict(attrs).get("colspan") or 1)))
        self.inside = self.inside or tag in {"td", "th"}

    def handle_endtag(self, tag: str) -> None:
        self.inside = self.inside and tag not in {"td", "th"}

    def handle_data(self, data: str) -> None:
        if self.inside:
            text, span = self.rows[-1][-1]
            self.rows[-1][-1] = (text + data.strip(), span)


def metric_name(benchmark: str, printed: str) -> str:
    return "chunk_f1" if benchmark == "msra_ner" else METRICS[printed]


def numbers(text: str) -> list[float]:
    return [float(n) for n in re.findall(r"[+-]?\d+\.\d+", text)]


def cell(text: str) -> tuple[float, list[float]]:
    """'90.2(+0.9)' -> (90.2, [0.9])."""
    value, _, deltas = text.partition("(")
    (number,) = numbers(value)
    return number, numbers(deltas)


def wide(row: list[tuple[str, int]]) -> list[str]:
    return [text for text, span in row for _ in range(span)]


def html_table(section: str) -> Printed:
    grid = Grid()
    grid.feed(section[section.index("<table>") : section.index("</table>")])
    names, metrics, subsets, *rows = [wide(row) for row in grid.rows]
    keys = [(BENCHMARKS[b], s, metric_name(BENCHMARKS[b], m)) for b, m, s in zip(names[1:], metrics[1:], subsets, strict=True)]
    return {row[0].lower(): {k: cell(c) for k, c in zip(keys, row[1:], strict=True)} for row in rows}


def markdown_table(section: str, subset: str) -> Printed:
    lines = [re.sub(r"\*\*|</?strong>|<br/>", "", line).strip().strip("|") for line in section.splitlines() if line.startswith("|")]
    names, _, metrics, *rows = [[c.strip() for c in line.split("|")] for line in lines]
    printed: Printed = {row[0].lower(): {} for row in rows}
    for i, name in enumerate(names[1:], 1):
        kinds = metrics[i].split("/")  # "f1-score/acc" heads cells of two figures, "88.9/84.8(+1.0/+1.3)"
        for row in rows:
            values, deltas = (numbers(part) for part in (*row[i].split("("), "")[:2])
            assert len(values) == len(kinds)
            for j, kind in enumerate(kinds):
                printed[row[0].lower()][BENCHMARKS[name], subset, METRICS[kind]] = (values[j], deltas[j :: len(kinds)] if len(kinds) > 1 else deltas)
    return printed


@pytest.fixture(scope="module")
def sections(test_data: Path) -> list[str]:
    """The seed's text from each heading of a result table to the next heading, in its order."""
    found = sorted((test_data.parent / "seed").glob("*.txt"))
    if not found:
        pytest.skip("no seed document beside ERNIE_TEST_DATA")
    parts = re.split(r"^#{2,3} +", found[0].read_text(encoding="utf-8"), flags=re.MULTILINE)
    return [p for p in parts if "<table>" in p or p.startswith("GLUE - ")]


@pytest.mark.parametrize("number", range(8))
def test_a_table_holds_every_figure_and_difference_of_the_seed_and_no_other(sections: list[str], number: int) -> None:
    section, table = sections[number], TABLES[number]
    printed = html_table(section) if "<table>" in section else markdown_table(section, "dev" if "验证集" in section else "test")
    keys = [(c.benchmark, c.subset, c.metric) for c in table.columns]
    ours = {
        row.name.lower(): {k: (row.values[i], [d[i] for d in row.deltas.values() if d[i] is not None]) for i, k in enumerate(keys)} for row in table.rows
    }  # fmt: skip
    assert list(ours) == list(printed)
    assert ours == printed
    assert len(sections) == len(TABLES)


@pytest.mark.parametrize("number", range(8))
def test_footnotes_keep_the_addresses_and_sizes_that_the_seed_gives(sections: list[str], number: int) -> None:
    notes = "".join(line for line in sections[number].splitlines() if line.startswith("\\*"))
    notes += "".join(re.findall(r"```text(.*?)```", sections[number], flags=re.DOTALL))
    addresses = set(re.findall(r"https?://[\w./#?=-]*\w", notes, flags=re.ASCII))
    sizes = set(re.findall(r"(?<![A-Za-z0-9])\d{3,}(?![A-Za-z0-9])", re.sub(r"https?://\S+", "", notes)))
    kept = " ".join(TABLES[number].footnotes)
    assert [a for a in addresses if a not in kept] == []
    assert [s for s in sizes - {"2018"} if s not in kept.replace(",", "")] == []  # 2018: when some of the sets were published
    assert kept


@pytest.mark.parametrize("table", TABLES, ids=lambda t: t.name)
def test_printed_differences_are_those_of_the_figures(table: Table) -> None:
    values = {row.name: row.values for row in table.rows}
    for row in table.rows:
        assert len(row.values) == len(table.columns)
        for name, deltas in row.deltas.items():
            differences = [round(a - b, 1) for a, b in zip(row.values, values[name], strict=True)]
            assert [d if d is not None else 0 for d in deltas] == differences, (row.name, name)


def test_what_cannot_be_compared_is_said() -> None:
    notes = {t.name: " ".join(t.footnotes) for t in TABLES}
    assert "was not published" in notes["reading_comprehension"]
    assert "dev only" in notes["reading_comprehension"]
    assert "simplified characters" in notes["reading_comprehension"]
    assert "on application" in notes["semantic_similarity"]
    assert "labels are not published" in notes["glue_test"]


def entry(*, official: bool, subsets: tuple[str, ...] = ("dev", "test"), metrics: tuple[str, ...] = ("accuracy",), **more: Any) -> dict[str, Any]:
    """An entry of results.json as far as the published tables read it: 0.8123 on dev, 0.7 on test, spread of a point either way."""
    levels = {"dev": 0.8123, "test": 0.7}
    scores = {s: {m: {"median": levels[s], "min": levels[s] - 0.01, "max": levels[s] + 0.01} for m in metrics} for s in subsets}
    rows = {"train": 34334, "dev": 8802, "test": 12500}
    return {"official": official, "rows": rows, "arms": {"pretrained": {"scores": scores}}, **({} if official else {"stands_in": {}}), **more}


def row_of_run(benchmarks: dict[str, Any], table: str, **more: Any) -> Any:
    views = {v.table.name: v for v in published_views(benchmarks, TABLES, run="mine", **more)[0]}
    rows = [row for row in views[table].rows if row.ours]
    assert [row.name for row in views[table].rows[: len(views[table].table.rows)]] == [row.name for row in views[table].table.rows]
    assert len(rows) <= 1
    return rows[0] if rows else None


def test_a_run_on_official_rows_stands_below_the_published_rows() -> None:
    row = row_of_run({"xnli": entry(official=True)}, "natural_language_inference")
    assert (row.name, row.against) == ("mine", ("BERT base",))
    assert [(c.value, c.spread, c.deltas) for c in row.cells] == [("81.2", "80.2 to 82.2", ("+3.1",)), ("70.0", "69.0 to 71.0", ("−7.2",))]


def test_a_run_on_other_rows_never_stands_in_a_table() -> None:
    benchmarks = {"lcqmc": entry(official=False, stands_in={"train": "AFQMC's train rows"}), "bq": entry(official=False)}
    assert row_of_run(benchmarks, "semantic_similarity") is None
    tables, stand_ins = published_views(benchmarks, TABLES, run="mine")
    assert [v.starred for v in tables if not v.folded] == [("lcqmc*", "bq*")]
    assert [s.name for s in stand_ins] == ["lcqmc*", "bq*"]
    assert stand_ins[0].subsets == (("train", 34334, "AFQMC's train rows"), ("dev", 8802, ""), ("test", 12500, ""))
    assert [(s, m, c.value) for s, m, c in stand_ins[0].scores] == [("dev", "accuracy", "81.2"), ("test", "accuracy", "70.0")]


def test_beside_an_official_benchmark_the_column_of_another_stays_empty() -> None:
    row = row_of_run({"lcqmc": entry(official=False), "bq": entry(official=True)}, "semantic_similarity")
    assert [c.value for c in row.cells] == ["–", "–", "81.2", "70.0"]


def test_subsets_without_labels_and_undefined_scores_are_no_figures() -> None:
    dev_only = {"cola": entry(official=True, subsets=("dev",), metrics=("mcc",))}
    assert [c.value for c in row_of_run(dev_only, "glue_dev").cells] == ["81.2", *["–"] * 7]
    assert row_of_run(dev_only, "glue_dev").cells[0].deltas == ("+20.6", "+17.6")  # against BERT large 60.6 and XLNet large 63.6
    assert row_of_run(dev_only, "glue_test") is None
    undefined = entry(official=True)
    undefined["arms"]["pretrained"]["scores"]["dev"]["accuracy"] = {"median": None, "min": None, "max": None}
    assert [c.value for c in row_of_run({"xnli": undefined}, "natural_language_inference").cells] == ["n/a", "70.0"]
    assert row_of_run({"xnli": entry(official=True, arms={"untrained": {}})}, "natural_language_inference") is None


def test_every_row_can_be_compared_with_one_chosen_row() -> None:
    views, _ = published_views({"cola": entry(official=True, metrics=("mcc",))}, TABLES, run="mine", reference="BERT large")
    test = next(v for v in views if v.table.name == "glue_test")
    assert [row.against for row in test.rows] == [("BERT large",), ("BERT large",), (), ("BERT large",), ("BERT large",)]
    assert [row.cells[1].deltas for row in test.rows] == [("−8.4",), ("−5.3",), (), ("+3.0",), ("+9.5",)]
    assert {row.against for v in views if v.table.name == "sentiment" for row in v.rows} == {()}
    with pytest.raises(RecipeError) as caught:
        published_views({}, TABLES, run="mine", reference="BERT larg")
    assert caught.value.code == "E-NAME"


def test_tables_without_a_benchmark_of_the_run_are_folded() -> None:
    views, _ = published_views({"drcd": entry(official=True), "reviews": {}}, TABLES, run="mine")
    assert [v.table.name for v in views if not v.folded] == ["reading_comprehension"]
    assert published_views({"reviews": {}}, TABLES, run="mine") == ([], [])


def page_of(run: Path, benchmarks: dict[str, Any]) -> str:
    """Render a run whose fine-tuning had these benchmarks beside its own."""
    folder = run / "finetune"
    results = json.loads((folder / "results.json").read_bytes())
    usual = results["benchmarks"]["reviews"]
    for name, found in benchmarks.items():
        arms = {arm: {**entry, **found["arms"].get(arm, {})} for arm, entry in usual["arms"].items()}
        results["benchmarks"][name] = {**usual, **found, "arms": arms, "difference": None}
    written = atomic_write(folder / "results.json", json.dumps(results).encode())
    write_manifest(folder, replace(read_manifest(folder), files=(written,)))
    render(run, run / "report")
    return (run / "report" / "report.html").read_text(encoding="utf-8")


def test_the_page_shows_tables_and_stand_ins_apart_or_nothing_at_all(tmp_path: Path) -> None:
    run = make_run(tmp_path / "mine", steps=100)
    assert "published" not in page_of(run, {}).lower()
    page = page_of(run, {"xnli": entry(official=True), "lcqmc": entry(official=False, stands_in={"train": "<b>AFQMC"})})
    section = page[page.index("<h2>Beside published results</h2>") : page.index("<h2>Pretraining</h2>")]
    beside, apart = section.split("<h3>Not comparable")
    apart, folded = apart.split("<details>")
    assert [beside.count(f"<h3>{t.title}</h3>") + folded.count(f"<h3>{t.title}</h3>") for t in TABLES] == [1] * 8
    assert beside.count("this run</td>") + beside.count("this run<br>") == 1
    assert "<strong>mine</strong>, this run" in beside
    assert "lcqmc*" in beside
    assert "lcqmc*" in apart
    assert "train 34,334: &lt;b&gt;AFQMC" in apart
    assert "this run" not in folded.replace("that this run did not use", "")
    tags = Counter(re.findall(r"<(/?(?:table|tr|td|th|p|div|span|strong|details|summary|h3))\b", section))
    assert {tag: n for tag, n in tags.items() if n != tags[tag.lstrip("/") if tag.startswith("/") else f"/{tag}"]} == {}
