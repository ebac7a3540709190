"""Where the time goes is said and tracked, and stands in no file."""

from __future__ import annotations

import gc
from pathlib import Path

import pytest
from prepare_helper import SETTINGS, run_prepare

from corpus_prep.flow import prepare
from corpus_prep.stages import Stages, shares_line, stage_metrics, without_collections


def test_all_time_since_the_beginning_belongs_to_a_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([10.0, 11.0, 14.0, 14.5])
    monkeypatch.setattr("time.perf_counter", lambda: next(now))
    stages = Stages()
    for stage in ("read", "clean", "read"):
        stages.ends(stage)
    assert stages.seconds == {"read": 1.5, "clean": 3.0}
    assert shares_line(stages.seconds) == "read 33 %, clean 67 %"
    assert stage_metrics("pass_1", {"read": 1.0, "clean": 3.0}, 2.0, 8.0) == {
        "pass_1/work_s": 4.0, "pass_1/wall_s": 2.0, "pass_1/mb_per_s": 4.0, "pass_1/share/read": 0.25, "pass_1/share/clean": 0.75,
    }  # fmt: skip
    assert stage_metrics("pass_1", {}, 2.0, 8.0) == {}
    assert shares_line({}) == ""


def test_a_preparation_says_and_logs_each_stage_s_share_and_nothing_where_nothing_was_done(corpus: Path, tmp_path: Path) -> None:
    corpora = {"one": {"reader": "text", "path": str(corpus / "*.txt")}}
    said: list[str] = []
    logged: list[dict[str, float]] = []

    def run() -> None:
        prepare(
            corpora=corpora, settings=SETTINGS, benchmarks_texts=[], folder=tmp_path, workers=0, seed=7, say=said.append,
            log=lambda metrics: logged.append(dict(metrics)),
        )  # fmt: skip

    run()
    first, second = logged
    for metrics, name in ((first, "pass_1"), (second, "pass_2")):
        assert sum(v for k, v in metrics.items() if k.startswith(f"{name}/share/")) == pytest.approx(1)
        assert 0 < metrics[f"{name}/work_s"] <= metrics[f"{name}/wall_s"]
    assert {"read", "clean", "compare", "segment", "units", "offer", "pack", "write"} <= {k.split("/")[-1] for k in first}
    assert {"build next_sentence", "build knowledge_masking", "rows", "check", "write"} <= {k.split("/")[-1] for k in second}
    shares = [line for line in said if " of work on " in line]
    assert len(shares) == 2
    assert all(f"{stage} " in shares[0] for stage in ("read", "segment", "write"))
    said.clear()
    run()
    assert len(logged) == 2
    assert not [line for line in said if " of work on " in line]


@pytest.mark.parametrize("name", ["entries", "manifest.json"])
def test_no_time_stands_in_what_is_committed(whole: Path, corpus: Path, tmp_path: Path, name: str) -> None:
    run_prepare(corpus, tmp_path)
    files = [tmp_path / name] if (tmp_path / name).is_file() else sorted((tmp_path / name).iterdir())
    assert files
    for file in files:
        assert file.read_bytes() == (whole / file.relative_to(tmp_path)).read_bytes()


def test_cycles_of_objects_are_looked_for_again_when_a_pass_ends_or_fails() -> None:
    with without_collections():
        assert not gc.isenabled()
    assert gc.isenabled()
    with pytest.raises(ValueError, match="bad"), without_collections():
        raise ValueError("bad")
    assert gc.isenabled()
