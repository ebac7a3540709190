"""Runs at gs://, through obstore's client for Google, against a stand-in on loopback (`gs_helper`)."""

from __future__ import annotations

import shutil
from pathlib import Path

import obstore
import pytest
from gs_helper import Google, account
from s3_helper import S3, held, wins

from ernie_core.manifest import Manifest, atomic_write, read_manifest, whole, write_manifest
from ernie_core.object_folders import discard, entries, rename, sizes
from ernie_core.object_store import fetch, place_of, put, refresh, remove, scratch
from pipelines.steps import Step, StepContext, run_steps


@pytest.fixture
def google(tmp_path: Path, s3: S3, monkeypatch: pytest.MonkeyPatch) -> Google:
    s3.bucket("runs")
    for name, value in account(tmp_path, s3.url).items():
        monkeypatch.setenv(name, value)
    return Google(s3)


@pytest.fixture
def machines(google: Google, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """The folder of gs://runs/mine on two machines."""
    found = []
    for name in ("one", "two"):
        monkeypatch.setenv("ERNIE_SCRATCH", str(tmp_path / name))
        found.append(scratch("gs://runs/mine"))
    return found[0], found[1]


def test_records_are_put_under_the_condition_of_a_generation(machines: tuple[Path, Path], google: Google, s3: S3) -> None:
    here, there = machines
    assert type(place_of(here)[0]).__name__ == "GCSStore"  # type: ignore[index]
    assert wins(here / "x", b"1")
    assert not wins(there / "x", b"2")
    assert refresh(there / "x")
    assert wins(here / "x", b"3")
    assert not wins(there / "x", b"4")
    assert google.conditions[:2] == ["0", "0"]
    assert all(int(generation) > 0 for generation in google.conditions[2:])
    assert len(google.conditions) == 4
    assert refresh(there / "x")
    remove(there / "x")
    assert not wins(here / "x", b"5")


def test_what_one_machine_finished_another_reads_moves_and_takes_away(machines: tuple[Path, Path], s3: S3) -> None:
    here, there = machines
    made = write_manifest(here / "step", Manifest("step", {}, {}, (atomic_write(here / "step" / "名 1.txt", "今天".encode()),)))
    assert whole(there / "step") == made
    assert (there / "step" / "名 1.txt").read_text() == "今天"
    assert set(sizes(there / "step") or ()) == {"名 1.txt", "manifest.json"}
    rename(here / "step", here / "old")
    assert entries(here) == ([], ["old"])
    shutil.rmtree(there)
    assert read_manifest(there / "old").sha256 == made.sha256
    discard(there)
    assert held(s3.bucket("runs")) == {}


def test_a_big_file_goes_there_and_back_and_a_thousand_names_are_listed(machines: tuple[Path, Path], google: Google) -> None:
    here, there = machines
    here.mkdir(parents=True)
    data = bytes(range(256)) * 50_000
    (here / "big").write_bytes(data)
    put([here / "big"])
    assert fetch(there / "big")
    assert (there / "big").read_bytes() == data
    store, key = place_of(here / "many")  # type: ignore[misc]
    for number in range(1_005):
        obstore.put(store, f"{key}/{number:04}", b"")
    assert len(sizes(there / "many") or ()) == 1_005


def test_a_step_is_driven_there(machines: tuple[Path, Path], google: Google, s3: S3) -> None:
    def work(context: StepContext) -> Manifest:
        return write_manifest(context.folder, Manifest("only", {}, {}, (atomic_write(context.folder / "a.txt", b"1"),)))

    said: list[str] = []
    for folder in machines:
        run_steps([Step("only", {}, (), work)], folder, said.append)
    assert said == ["only: starts", "only: up to date"]
    assert google.conditions.count("1") == 2, "each driver's lease is tried once more under a generation that it does not have"
    assert sorted(held(s3.bucket("runs"), "mine")) == ["only/a.txt", "only/inputs.json", "only/manifest.json", "only/step.json", "run.json"]
