"""The report: one self-contained page whose words claim no more than the figures show."""

from __future__ import annotations

import itertools
import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from run_helper import AUDIT, DIFFERENCES, make_run

from ernie_core.errors import IntegrityError
from ernie_core.manifest import read_manifest
from pipelines import findings
from pipelines.journal import JOURNAL_NAME, Journal
from pipelines.plots import Interval, Level, Line, interval_chart, line_chart, rate_text
from pipelines.report import render, summary_table
from pipelines.results import length_words


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("runs") / "demo")


@pytest.fixture(scope="module")
def page(run_folder: Path) -> str:
    render(run_folder, run_folder / "report", command=["ernie", "run", "my recipe.yaml"])
    return (run_folder / "report" / "report.html").read_text(encoding="utf-8")


class Tags(HTMLParser):
    """Collects tags, ids and links, and fails on tags that do not close."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        self.ids += [str(v) for k, v in attrs if k == "id"]
        self.links += [str(v) for k, v in attrs if k in {"src", "href", "xlink:href"}]
        if tag not in {"meta", "br", "link", "input"}:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_well_formed_and_needs_nothing_from_outside(page: str) -> None:
    tags = Tags()
    tags.feed(page)
    assert tags.open == []
    assert tags.seen.count("svg") == 9  # differences, 2 dev curves, 4 tasks' curves, learning rate, throughput
    assert not [link for link in tags.links if not link.startswith("#")]
    assert "script" not in tags.seen
    assert len(page) < 400_000


def test_text_of_users_is_escaped(page: str) -> None:
    assert "<script>" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "新闻&lt;b&gt;" in page


def test_the_page_names_the_command_that_makes_the_run(page: str) -> None:
    assert "ernie run &#39;my recipe.yaml&#39;" in page


def test_the_manifest_names_the_steps_it_reports_on(run_folder: Path, page: str) -> None:
    manifest = read_manifest(run_folder / "report", "report")
    assert manifest.parents == {name: read_manifest(run_folder / name).sha256 for name in ("prepare", "pretrain", "finetune")}
    assert [f.path for f in manifest.files] == ["report.html"]


def test_two_reports_of_one_run_are_equal_bytes(run_folder: Path, page: str, tmp_path: Path) -> None:
    render(run_folder, tmp_path, command=["ernie", "run", "my recipe.yaml"])
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == page


@pytest.mark.parametrize(
    ("difference", "words"),
    [
        ({"median": 0.012, "low": -0.004, "high": 0.028}, "+1.2 points, 95 % interval −0.4 to +2.8: includes 0. This run does not show that pretraining changes the result."),
        ({"median": 0.29, "low": 0.24, "high": 0.33}, "+29.0 points, 95 % interval +24.0 to +33.0: excludes 0. Pretraining helps here."),
        ({"median": -0.05, "low": -0.08, "high": -0.02}, "−5.0 points, 95 % interval −8.0 to −2.0: excludes 0. The pretrained model is worse here."),
        ({"median": 0.02, "low": 0.0, "high": 0.04}, "+2.0 points, 95 % interval +0.0 to +4.0: includes 0. This run does not show that pretraining changes the result."),
        ({"median": None, "low": None, "high": None}, "not measured: it needs both arms and a defined score."),
        (None, "not measured: it needs both arms and a defined score."),
    ],
)  # fmt: skip
def test_a_benchmark_is_worded_by_its_interval(difference: dict[str, Any] | None, words: str) -> None:
    result = {
        "metric": "chunk_f1",
        "scored": "test",
        "difference": difference,
        "arms": {"pretrained": {"trials": [1, 2, 3]}, "untrained": {"trials": [1, 2, 3]}},
    }
    assert findings.benchmark_sentence("ner", result) == f"ner (chunk F1, 3 seeds), pretrained − untrained: {words}"


@pytest.mark.parametrize(
    ("end", "words"),
    [(5.76, "ended at 5.76 nats, 0.92 below the unigram loss of 6.68: the model uses context."), (6.60, "ended at 6.60 nats, 0.08 below the unigram loss of 6.68: the model hardly uses context yet."), (6.70, "ended at 6.70 nats, not below the unigram loss of 6.68: the model does not use context yet.")],
)  # fmt: skip
def test_the_masked_loss_is_judged_against_the_unigram_loss(tmp_path: Path, end: float, words: str) -> None:
    data = findings.load(make_run(tmp_path / "r", end_loss=end, steps=400))
    assert findings.lm_sentence(data) == f"Masked-LM loss on held-out text {words}"


def finding(value: float | None, bar: float | None, noise: float | None) -> str:
    return findings.TaskFinding("t", "accuracy", value, bar, "length", noise).words


def test_a_task_is_worded_by_its_side_of_the_best_shortcut() -> None:
    assert finding(0.70, 0.58, 0.05) == "70.0 %, above the best shortcut (length, 58.0 %): +12.0 ± 5.0 points"
    assert finding(0.50, 0.58, 0.05) == "50.0 %, below the best shortcut (length, 58.0 %): −8.0 ± 5.0 points"
    assert finding(0.60, 0.58, 0.05) == "60.0 %, not clearly different from the best shortcut (length, 58.0 %): +2.0 ± 5.0 points"
    assert finding(0.60, 0.58, None) == "60.0 %, above the best shortcut (length, 58.0 %): +2.0 points"
    assert finding(0.60, None, None) == "60.0 %; too few rows to measure shortcuts"
    assert finding(None, 0.58, None) == "was not validated"


def test_the_rough_interval_of_an_accuracy_counts_the_rows_of_both_figures(run_folder: Path) -> None:
    found = {f.task: f for f in findings.task_findings(findings.load(run_folder))}["next_sentence"]
    assert found.value is not None
    # 512 validation rows (the setting), 700 rows behind the bar of 0.584
    expected = 1.96 * math.sqrt(found.value * (1 - found.value) / 512 + 0.584 * 0.416 / 700)
    assert found.noise == pytest.approx(expected)


def test_every_task_with_a_head_stands_in_the_page_beside_its_bar(page: str) -> None:
    for name, bars in AUDIT.items():
        if bars["metric"] != "loss":
            assert re.search(rf"<li>{name}, .*{100 * bars['best_bar']:.1f} %", page), name
            assert f"shortcut {100 * bars['best_bar']:.1f} %</text>" in page


def test_the_table_for_the_terminal(run_folder: Path) -> None:
    lines = summary_table(run_folder).splitlines()
    assert lines[0].split("  ")[0] == "benchmark"
    assert re.fullmatch(r"reviews    accuracy  pretrained  77\.3 %  76\.9 %  77\.7 %   5e-4           3", lines[1])
    assert lines[-1] == "daily_ner, pretrained − untrained: +29.0 points, 95 % interval +24.0 to +33.0: excludes 0"


def test_a_run_without_benchmarks_or_pretraining_still_reports(tmp_path: Path) -> None:
    run = make_run(tmp_path / "r", steps=100)
    render(run, run / "report", steps=("prepare",))
    page = (run / "report" / "report.html").read_text(encoding="utf-8")
    assert "<h2>Corpus</h2>" in page
    assert "<h2>Benchmarks</h2>" not in page
    assert "<h2>Pretraining</h2>" not in page
    assert summary_table(tmp_path / "empty") == "no benchmark was run"


def test_undefined_scores_and_numbers_that_are_not_finite_are_shown_as_such(tmp_path: Path) -> None:
    run = make_run(tmp_path / "r", differences={}, steps=400)
    journal = Journal(run / "pretrain" / JOURNAL_NAME)
    journal.log(410, {"train/lm_loss": math.nan, "perf/tokens_per_s": math.inf})
    journal.close()
    results = json.loads((run / "finetune" / "results.json").read_bytes())
    arm = results["benchmarks"]["daily_ner"]["arms"]["untrained"]
    arm.update(median=None, min=None, max=None)
    arm["trials"][0].update(test=None, dev=None, diverged=True, dev_curve=[[31, None], [63, None]])
    arm["trials"][1]["dev_curve"] = []
    _rewrite(run / "finetune", results)
    render(run, run / "report")
    page = (run / "report" / "report.html").read_text(encoding="utf-8")
    assert "n/a (diverged)" in page
    assert "nan" not in re.sub(r"<svg.*?</svg>", "", page, flags=re.DOTALL)
    assert "not measured: it needs both arms" in page


def _rewrite(folder: Path, results: dict[str, Any]) -> None:
    from dataclasses import replace

    from ernie_core.manifest import atomic_write, write_manifest

    entry = atomic_write(folder / "results.json", json.dumps(results).encode())
    write_manifest(folder, replace(read_manifest(folder), files=(entry,)))


def test_changed_results_are_refused(tmp_path: Path) -> None:
    run = make_run(tmp_path / "r", steps=100)
    path = run / "finetune" / "results.json"
    path.write_bytes(path.read_bytes().replace(b"0.29", b"0.99", 1))
    with pytest.raises(IntegrityError, match="E-REPORT-INPUT"):
        render(run, run / "report")


@pytest.mark.parametrize(("rate", "text"), [(5e-4, "5e-4"), (1e-3, "1e-3"), (2.5e-5, "2.5e-5"), (0, "0")])
def test_learning_rates_are_written_as_people_write_them(rate: float, text: str) -> None:
    assert rate_text(rate) == text


def test_labels_at_line_ends_do_not_overlap() -> None:
    lines = [Line([0, 1], [0.0, 0.5 + i / 1000], "#000000", f"curve{i}") for i in range(4)]
    chart = line_chart(lines, x_label="step", unit="percent", description="d", levels=[Level(0.501, "level")])
    heights = sorted(float(y) for y in re.findall(r'y="(-?[\d.]+)"[^>]*>(?:curve\d|level)<', chart))
    assert len(heights) == 5
    assert heights[0] > 0  # inside the picture
    assert min(b - a for a, b in itertools.pairwise(heights)) > 9  # the font's size


def test_noise_is_not_blown_up_to_a_charts_height_and_no_share_is_negative() -> None:
    charts = [line_chart([Line([20, 39], y, "#000000")], x_label="step", unit="percent", description="d") for y in ([0.3967, 0.4], [0.0, 0.0])]
    ticks = [[float(t) for t in re.findall(r">(-?[\d.]+) %<", chart)] for chart in charts]
    assert ticks == [[38, 39, 40, 41, 42], [0, 1, 2, 3, 4, 5]]


def test_long_series_are_averaged_not_cut() -> None:
    short = line_chart([Line(range(100_000), [1.0] * 100_000, "#000000")], x_label="step", unit="plain", description="d")
    assert len(short) < 40_000


def test_an_interval_that_covers_zero_is_grey() -> None:
    covering = interval_chart([Interval("a", 1, -1, 3)], x_label="points", description="d")
    clear = interval_chart([Interval("a", 2, 1, 3)], x_label="points", description="d")
    assert "#1f6fb4" not in covering
    assert "#1f6fb4" in clear


def test_difference_figures_of_the_fixture_reach_the_page(page: str) -> None:
    for difference in DIFFERENCES.values():
        assert findings.interval_words(difference) in page


def test_a_single_arm_s_score_stands_beside_the_commonest_class() -> None:
    arm = {"median": 0.381, "min": 0.38, "max": 0.39, "trials": [{}, {}]}
    entry = {"metric": "accuracy", "scored": "test", "arms": {"pretrained": arm}, "majority": {"test": 0.348}, "difference": None}
    assert findings.benchmark_sentence("xnli", entry) == "xnli: accuracy 38.1 % on test (pretrained, 2 seeds); always the commonest class: 34.8 %."
    assert findings.benchmark_sentence("ax", {**entry, "scored": ""}) == "ax: predicted only, no row of it is labelled."


def test_rows_longer_than_a_row_of_the_model_are_counted_by_subset(page: str) -> None:
    assert "70 of 2,000 test rows are longer than max_seq_len and were cut." in page
    assert "1 of 1,000 dev rows are longer than max_seq_len and were split after a clause and put together again." in page
    entry = {"kind": "span", "rows": {"dev": 9}, "arms": {"pretrained": {"truncated": {"dev": 2}}}}
    assert length_words(entry) == ["2 of 9 dev rows are longer than max_seq_len and had their question cut"]
    assert length_words({**entry, "arms": {"pretrained": {"truncated": {"dev": 0}}}}) == []
