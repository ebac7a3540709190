"""Preparation and fine-tuning in an object store, on machines whose disks lose everything again and again."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from finetune_helper import toy_step
from prepare_helper import bytes_of, run_prepare
from s3_helper import S3, held

from ernie_core.manifest import whole as fetched
from ernie_core.object_store import scratch
from pipelines import trial_ranks
from pipelines.finetune import finetune
from pipelines.pretrain import _stoppable


@pytest.fixture
def here(tmp_path: Path, s3: S3, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    s3.bucket("runs")
    monkeypatch.setenv("ERNIE_SCRATCH", str(tmp_path / "scratch"))
    return scratch("s3://runs/mine")


class Forgetful(list[str]):
    """Lines that are said; at each, the disk is emptied."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder

    def append(self, line: str) -> None:
        super().append(line)
        if "audit and card" not in line:  # these are put with the manifest, which comes next
            shutil.rmtree(self._folder, ignore_errors=True)


def test_preparation_needs_nothing_of_the_disk_between_its_passes(here: Path, corpus: Path, whole: Path) -> None:
    said = Forgetful(here)
    run_prepare(corpus, here / "prepare", said=said)
    assert [line.split(" (")[0] for line in said if "pass" in line] == ["prepare: pass 1", "prepare: pass 2"]
    fetched(here / "prepare")
    assert bytes_of(here / "prepare") == bytes_of(whole)
    shutil.rmtree(here)
    again = Forgetful(here)
    run_prepare(corpus, here / "prepare", said=again)
    assert len([line for line in again if "6 done before" in line]) == 2


def test_trials_that_one_machine_did_another_goes_on_from(here: Path, s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context, arguments, _ = toy_step(tmp_path / "mine", names=["reviews"])
    finetune(context, **arguments)
    expected = {path.relative_to(context.folder).as_posix(): path.read_bytes() for path in context.folder.rglob("*.*") if path.is_file()}
    context, arguments, said = toy_step(here, names=["reviews"])
    shutil.rmtree(here)
    done: list[Any] = []

    def dies(trial: Any, *worker: Any) -> Any:
        if done:
            raise KeyboardInterrupt
        done.append(real(trial, *worker))
        return done[-1]

    real = trial_ranks.run_trial
    monkeypatch.setattr(trial_ranks, "run_trial", dies)
    with pytest.raises(KeyboardInterrupt):
        finetune(context, **arguments)
    shutil.rmtree(here)
    monkeypatch.setattr(trial_ranks, "run_trial", real)
    finetune(context, **arguments)
    assert any("trials were done before" in line for line in said)
    found = held(s3.bucket("runs"), "mine/finetune")
    same = {name for name in expected if name.endswith(("results.json", ".npy", "predictions_test.jsonl", "mistakes.html"))}
    assert len(same) > 10
    assert {name: found[name] for name in same} == {name: expected[name] for name in same}


def test_a_stop_signal_reaches_the_store(here: Path, s3: S3) -> None:
    here.mkdir(parents=True)
    with _stoppable(here):
        os.kill(os.getpid(), signal.SIGINT)
        until = time.monotonic() + 30
        while "mine/stop" not in held(s3.bucket("runs")) and time.monotonic() < until:
            time.sleep(0.05)
    assert held(s3.bucket("runs")) == {"mine/stop": b""}
