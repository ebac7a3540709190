"""The metrics journal: every point once, whatever is killed."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ernie_core.errors import IntegrityError
from pipelines.journal import Journal, Point, read_points, series


def pairs(path: Path) -> list[tuple[int, str, float]]:
    return [(p.step, k, v) for p in read_points(path)[0] for k, v in p.metrics.items()]


def test_a_replayed_point_is_not_appended_again(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "m.jsonl")
    journal.log(10, {"a": 1.0, "b": 2.0})
    journal.log(10, {"a": 9.0, "c": 3.0})
    assert pairs(tmp_path / "m.jsonl") == [(10, "a", 1.0), (10, "b", 2.0), (10, "c", 3.0)]


def test_a_reopened_journal_knows_its_points(tmp_path: Path) -> None:
    first = Journal(tmp_path / "m.jsonl")
    first.log(10, {"a": 1.0})
    first.close()
    second = Journal(tmp_path / "m.jsonl")
    second.log(10, {"a": 5.0})
    second.log(20, {"a": 2.0})
    assert pairs(tmp_path / "m.jsonl") == [(10, "a", 1.0), (20, "a", 2.0)]


def test_a_journal_opened_at_a_mark_knows_what_a_longer_run_that_was_cut_off_wrote(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    cut_off = Journal(path)
    for step in range(1, 9):
        cut_off.log(step, {"a": float(step)})
        if step == 6:
            cut_off.log(6, {"valid": 0.5})
    again = Journal(path)
    again.log(6, {"a": 6.0})
    mark = again.mark(6)  # of a checkpoint at step 6, made by a run that had to do 5 and 6 again
    resumed = Journal(path, mark)
    assert resumed.differing(6, {"a": 6.0, "valid": 0.25}) == ["valid"]
    for step in range(6, 10):
        resumed.log(step, {"a": float(step), "valid": 0.5} if step == 6 else {"a": float(step)})
    assert pairs(path) == [*((i, "a", float(i)) for i in range(1, 7)), (6, "valid", 0.5), *((i, "a", float(i)) for i in range(7, 10))]
    assert Journal(path, 3).differing(2, {"a": 0.0}) == ["a"], "a place inside a line reads everything"


@pytest.mark.parametrize("keep", [1, 10, -1])
def test_a_torn_last_line_is_healed_and_logged_again(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "m.jsonl"
    Journal(path).log(10, {"a": 1.0})
    whole = path.read_bytes()
    Journal(path).log(20, {"a": 2.0})
    torn = path.read_bytes()[len(whole) :][:keep]
    path.write_bytes(whole + torn)
    journal = Journal(path)
    assert path.read_bytes() == whole
    journal.log(20, {"a": 2.0})
    assert pairs(path) == [(10, "a", 1.0), (20, "a", 2.0)]


def test_damage_before_the_last_line_is_named_with_its_byte(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    journal = Journal(path)
    journal.log(10, {"a": 1.0})
    bad_at = path.stat().st_size
    with path.open("ab") as f:
        f.write(b"{not json\x1b[31m\n")
    with pytest.raises(IntegrityError, match="E-JOURNAL") as e:
        Journal(path)
    assert f"byte {bad_at}" in str(e.value)
    assert "\x1b" not in str(e.value)


def test_values_that_are_not_finite_come_back_and_lines_stay_plain_json(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    Journal(path).log(1, {"nan": math.nan, "up": math.inf, "down": -math.inf})
    json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    values = read_points(path)[0][0].metrics
    assert math.isnan(values["nan"])
    assert (values["up"], values["down"]) == (math.inf, -math.inf)


def test_reading_goes_on_from_an_offset_and_waits_for_the_line_break(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    journal = Journal(path)
    journal.log(1, {"a": 1.0})
    first, offset = read_points(path)
    journal.log(2, {"a": 2.0})
    with path.open("ab") as f:
        f.write(b'{"step":3')
    second, end = read_points(path, offset)
    assert [p.step for p in first] == [1]
    assert [p.step for p in second] == [2]
    assert path.read_bytes()[end:] == b'{"step":3'


def test_series_is_sorted_by_step() -> None:
    points = [Point(20, 0, {"a": 2.0}), Point(10, 0, {"a": 1.0, "b": 0.0})]
    assert series(points, "a") == ([10, 20], [1.0, 2.0])


def test_what_was_logged_survives_sigkill(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    code = (
        "import sys, os, signal; from pathlib import Path; from pipelines.journal import Journal\n"
        "j = Journal(Path(sys.argv[1]))\nfor i in range(100): j.log(i, {'a': i})\nos.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], env={**os.environ, "PYTHONPATH": "."}, check=False)
    assert done.returncode == -signal.SIGKILL
    assert [step for step, _, _ in pairs(path)] == list(range(100))


@settings(max_examples=50, deadline=None)
@given(runs=st.lists(st.tuples(st.lists(st.tuples(st.integers(0, 9), st.sampled_from("ab"))), st.integers(0, 60)), max_size=4))
def test_any_interleaving_of_writing_and_tearing_gives_each_point_once(
    tmp_path_factory: pytest.TempPathFactory, runs: list[tuple[list[tuple[int, str]], int]]
) -> None:
    path = tmp_path_factory.mktemp("j") / "m.jsonl"
    for points, torn in runs:
        journal = Journal(path)
        for step, name in points:
            journal.log(step, {name: step})
        journal.close()
        data = path.read_bytes()
        path.write_bytes(data[: len(data) - min(torn, len(data))])
    last = Journal(path)
    for step in range(10):
        last.log(step, {"a": step, "b": step})
    assert sorted((s, k) for s, k, _ in pairs(path)) == [(s, k) for s in range(10) for k in "ab"]
