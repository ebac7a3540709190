"""Preparation killed, stopped or started twice at any time ends with the bytes of an unbroken run (reliability F16, F17, F28, T1, T2)."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from prepare_helper import SETTINGS, Runner, bytes_of, document, write_corpus

from corpus_prep import pass_one, pass_two
from corpus_prep.commit import begin, read_entry
from corpus_prep.dedup import contamination_table
from corpus_prep.pass_one import Plan
from corpus_prep.splits import plan_splits
from corpus_prep.stages import Stages
from ernie_core.errors import ResourceError
from ernie_core.failpoints import NAMES
from ernie_core.manifest import file_sha256
from ernie_core.normalise import normalise
from ernie_core.tasks.base import all_tasks

FAILPOINTS = [
    "data.before_tmp:1", "data.mid_write:3", "data.before_fsync:9", "data.after_rename:4", "data.before_entry:2", "data.before_entry:9",
    "data.mid_write:70", "data.before_manifest:1",
]  # fmt: skip
POISON = "犇羴鱻"


def check_killed(runner: Runner, corpus: Path, whole: Path, out: Path, **kill: Any) -> None:
    assert runner.run(corpus, out, **kill) == -9
    assert not (out / "manifest.json").exists(), "the kill came too late to prove anything"
    assert runner.run(corpus, out) == 0
    assert bytes_of(out) == bytes_of(whole)


def test_every_failpoint_of_the_preparation_is_used() -> None:
    assert {point.partition(":")[0] for point in FAILPOINTS} == {name for name in NAMES if name.startswith("data.")}


@pytest.mark.parametrize("failpoint", FAILPOINTS)
def test_a_run_killed_at_a_failpoint_ends_with_equal_bytes(runner: Runner, corpus: Path, whole: Path, tmp_path: Path, failpoint: str) -> None:
    check_killed(runner, corpus, whole, tmp_path, failpoint=failpoint)


@pytest.mark.parametrize("seconds", [0.05, 0.25])
def test_a_run_killed_at_any_time_ends_with_equal_bytes(runner: Runner, corpus: Path, whole: Path, tmp_path: Path, seconds: float) -> None:
    check_killed(runner, corpus, whole, tmp_path, kill_after_s=seconds)


@pytest.mark.slow
@pytest.mark.parametrize("number", range(50))
def test_a_run_killed_twice_at_random_ends_with_equal_bytes(runner: Runner, corpus: Path, whole: Path, tmp_path: Path, number: int) -> None:
    draw = random.Random(number)
    started = time.monotonic()
    assert runner.run(corpus, tmp_path / "unbroken") == 0
    seconds = time.monotonic() - started
    out = tmp_path / "out"
    kills = 0
    while kills < 2:
        by_time = draw.random() < 0.6
        kill: dict[str, Any] = {"kill_after_s": draw.uniform(0.02, 0.9 * seconds)} if by_time else {"failpoint": draw.choice(FAILPOINTS)}
        kills += runner.run(corpus, out, **kill) == -9
        if (out / "manifest.json").exists():  # too late for another kill
            if kills:
                break
            shutil.rmtree(out)  # nothing was killed: the whole again
    assert kills
    assert runner.run(corpus, out) == 0
    assert bytes_of(out) == bytes_of(whole)


def check_late(runner: Runner, corpus: Path, whole: Path, out: Path, share: float) -> None:
    started = time.monotonic()
    assert runner.run(corpus, out / "unbroken") == 0
    assert runner.late(corpus, out / "late", share * (time.monotonic() - started)) == [0, 0]
    assert bytes_of(out / "late") == bytes_of(whole)


@pytest.mark.parametrize("share", [0.2, 0.6])
def test_a_run_that_was_thought_dead_and_ends_late_changes_no_byte(runner: Runner, corpus: Path, whole: Path, tmp_path: Path, share: float) -> None:
    check_late(runner, corpus, whole, tmp_path, share)


@pytest.mark.slow
@pytest.mark.parametrize("number", range(10))
def test_ten_late_runs_change_no_byte(runner: Runner, corpus: Path, whole: Path, tmp_path: Path, number: int) -> None:
    check_late(runner, corpus, whole, tmp_path, (number + 0.5) / 10)


def check_race(runner: Runner, corpus: Path, whole: Path, out: Path, delay_s: float) -> None:
    assert sorted(runner.race(corpus, out / "r", delay_s)) == [0, 5]
    refused = (out / "r.refused").read_text(encoding="utf-8")
    assert refused.startswith("E-LOCKED ")
    assert "found pid " in refused
    assert f" on host {os.uname().nodename}" in refused
    assert bytes_of(out / "r" / "prepare") == bytes_of(whole)


@pytest.mark.parametrize("delay_s", [0.0, 0.2])
def test_of_two_drivers_at_once_one_works_and_the_other_exits_5(runner: Runner, corpus: Path, whole: Path, tmp_path: Path, delay_s: float) -> None:
    check_race(runner, corpus, whole, tmp_path, delay_s)


@pytest.mark.slow
@pytest.mark.parametrize("number", range(20))
def test_twenty_races_have_one_winner_each(runner: Runner, corpus: Path, whole: Path, tmp_path: Path, number: int) -> None:
    check_race(runner, corpus, whole, tmp_path, number / 10)


def test_a_fourth_attempt_at_a_split_is_not_made(tmp_path: Path) -> None:
    assert [begin(tmp_path, "1-00000", "corpus one, x bytes 0-9").last for _ in range(3)] == [False, False, True]
    with pytest.raises(ResourceError) as e:
        begin(tmp_path, "1-00000", "corpus one, x bytes 0-9")
    assert (e.value.code, e.value.where, e.value.found) == ("E-SPLIT-DIES", "corpus one, x bytes 0-9", "no result and no error")


def died(work: Callable[[], object]) -> bool:
    """Do it in a child; return whether the child was killed."""
    child = os.fork()
    if not child:
        try:
            work()
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


def end_process(text: str) -> None:
    if POISON in text:
        os.kill(os.getpid(), signal.SIGKILL)


def poisoned(folder: Path) -> Path:
    """A file with one document that ends the process, once the functions below are in place."""
    write_corpus(folder)
    text = "\n\n".join([document(1), f"{document(2)}\n{POISON}。", document(3)])
    (folder / "one.txt").write_text(text, encoding="utf-8")
    return folder / "one.txt"


def test_a_split_that_dies_three_times_stops_the_job_and_names_its_document(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = poisoned(tmp_path / "in")
    (split,) = plan_splits({"one": {"reader": "text", "path": str(path)}}, 1 << 20)
    table = contamination_table({}, normalise).to_bytes()
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "contamination.npy").write_bytes(table)
    plan = Plan(str(tmp_path), 7, SETTINGS, (), {"contamination.npy": "0"})
    cut = pass_one.segment_documents

    def segment(documents: Any, *rest: Any) -> Any:
        end_process("".join(p for d in documents for p in d.lowered))
        return cut(documents, *rest)

    monkeypatch.setattr(pass_one, "segment_documents", segment)
    assert [died(lambda: pass_one.pass_one(split, plan, Stages())) for _ in range(3)] == [True] * 3
    with pytest.raises(ResourceError) as e:
        pass_one.pass_one(split, plan, Stages())
    data = path.read_bytes()
    at = data.index(document(2).encode())
    size = len(f"{document(2)}\n{POISON}。".encode())
    assert (e.value.code, e.value.exit_code) == ("E-SPLIT-DIES", 6)
    assert e.value.where == f"split 0 of corpus one, {path} bytes 0-{len(data)}, {len(data)} bytes"
    assert e.value.found == f"it dies at {path} byte {at}, a record of {size} bytes"
    monkeypatch.setattr(pass_one, "segment_documents", cut)
    shutil.rmtree(tmp_path / "attempts")
    assert [begin(tmp_path, "1-00000", "") for _ in range(2)]
    assert pass_one.pass_one(split, plan, Stages()) == ["new"]  # the last attempt, record by record first, ends well
    assert list((tmp_path / "attempts").iterdir()) == []


def test_a_document_that_ends_a_task_s_builder_is_named(corpus: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    shutil.copytree(whole, out)
    (out / "entries" / "2-00000.json").unlink()
    split = plan_splits({"one": {"reader": "text", "path": str(corpus / "*.txt")}}, SETTINGS["split_bytes"])[0]
    tables = {p.name: file_sha256(p) for p in (out / "tables").iterdir()}
    plan = Plan(str(out), 7, SETTINGS, ("toy",), tables)
    victim = pass_two.Document.from_json(pass_two.unpack((out / read_entry(out, "1-00000").file("documents").path).read_bytes())[2])
    tasks = all_tasks()
    build = tasks["next_sentence"].build

    def deadly(documents: Any, *rest: Any) -> Any:
        if any(d.doc_id == victim.doc_id for d in documents):
            os.kill(os.getpid(), signal.SIGKILL)
        return build(documents, *rest)

    monkeypatch.setattr(pass_two, "all_tasks", lambda: {**tasks, "next_sentence": replace(tasks["next_sentence"], build=deadly)})
    assert [died(lambda: pass_two.pass_two(split, plan, Stages())) for _ in range(3)] == [True] * 3
    with pytest.raises(ResourceError) as e:
        pass_two.pass_two(split, plan, Stages())
    assert e.value.found.startswith(f"it dies at document {victim.doc_id} of one.txt, ")
    assert e.value.found.endswith(" characters, in task next_sentence")
