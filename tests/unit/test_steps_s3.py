"""Steps of a run in an object store: drivers on several machines, an S3 server on loopback."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from s3_helper import S3, held, put

from ernie_core.errors import IntegrityError, OutputError, ResourceError
from ernie_core.manifest import Manifest, atomic_write, write_manifest
from ernie_core.object_folders import discard
from ernie_core.object_store import commit, refresh, remove, scratch
from pipelines import lease
from pipelines.steps import Step, StepContext, run_steps


@pytest.fixture
def machine(tmp_path: Path, s3: S3, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Return what gives the folder of s3://runs/mine on a machine, by its name."""

    def folder(name: str) -> Path:
        monkeypatch.setenv("ERNIE_SCRATCH", str(tmp_path / name))
        return scratch("s3://runs/mine")

    return folder


def step(text: str = "一", settings: dict[str, Any] | None = None, before: Callable[[], Any] = lambda: None, inputs: tuple[str, ...] = ()) -> Step:
    def work(context: StepContext) -> Manifest:
        entry = atomic_write(context.folder / "a.txt", text.encode())
        before()
        return write_manifest(context.folder, Manifest("only", dict(context.settings), context.parent_hashes, (entry,)))

    return Step("only", settings or {}, (), work, inputs)


def drive(folder: Path, one: Step, **options: Any) -> list[str]:
    said: list[str] = []
    run_steps([one], folder, said.append, **options)
    return said


def test_what_one_machine_did_is_up_to_date_on_another(machine: Callable[[str], Path], s3: S3) -> None:
    bucket = s3.bucket("runs")
    assert drive(machine("one"), step()) == ["only: starts"]
    assert drive(machine("two"), step()) == ["only: up to date"]
    assert sorted(held(bucket, "mine")) == ["only/a.txt", "only/inputs.json", "only/manifest.json", "only/step.json", "run.json"]
    discard(machine("one"), ["only/a.txt"])
    with pytest.raises(IntegrityError, match="E-SHARD-MISSING") as e:
        drive(machine("two"), step())
    assert e.value.where == "s3://runs/mine/only/a.txt"


def test_of_two_drivers_the_second_is_refused_while_the_first_lives(machine: Callable[[str], Path], s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket = s3.bucket("runs")
    monkeypatch.setenv("ERNIE_LEASE_S", "6")
    one, two = machine("one"), machine("two")
    refused: list[OutputError] = []

    def second() -> None:
        with pytest.raises(OutputError, match="E-LOCKED") as e:
            drive(two, step("二"))
        refused.append(e.value)

    drive(one, step("一", before=second))
    assert (refused[0].where, refused[0].found.split(" on ")[0]) == ("s3://runs/mine", f"pid {os.getpid()}")
    assert held(bucket, "mine")["only/a.txt"] == "一".encode()
    assert drive(two, step("一")) == ["only: up to date"]


def test_a_driver_that_was_cut_off_loses_to_the_one_that_took_its_place(
    machine: Callable[[str], Path], s3: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = s3.bucket("runs")
    monkeypatch.setenv("ERNIE_LEASE_S", "0.4")
    one, two = machine("one"), machine("two")

    def cut_off() -> None:
        """Keep the signatures of this driver back until another one has done the run; then go on and be told."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(lease, "commit", lambda path, data, **more: commit(path, data) if path.is_relative_to(two) else silent(path))
            assert drive(two, step("二")) == ["only: goes on where it stopped"]

    def silent(path: Path) -> None:
        raise ResourceError("E-STORE", "no answer", where=str(path))

    with pytest.raises(OutputError, match="E-COMMIT-LOST"):
        drive(one, step("一", before=cut_off))
    assert held(bucket, "mine")["only/a.txt"] == "二".encode(), "the one that came too late puts nothing"
    assert drive(two, step("二")) == ["only: up to date"]


@pytest.fixture
def interruptible() -> Iterator[None]:
    """SIGINT raises KeyboardInterrupt, as in a terminal: what a script starts in the background ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_a_driver_that_another_took_over_from_is_interrupted(machine: Callable[[str], Path], s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    s3.bucket("runs")
    monkeypatch.setenv("ERNIE_LEASE_S", "0.4")
    folder, other = machine("one"), machine("two")

    def taken() -> None:
        place = other / lease.LEASE_NAME
        assert refresh(place)
        remove(place)
        time.sleep(20)

    began = time.monotonic()
    with pytest.raises(OutputError, match="another driver has taken this run over"):
        drive(folder, step(before=taken))
    assert time.monotonic() - began < 10


def test_other_settings_are_refused_on_any_machine_and_moved_aside_when_asked(machine: Callable[[str], Path], s3: S3) -> None:
    bucket = s3.bucket("runs")
    drive(machine("one"), step("一", {"a": 1}))
    with pytest.raises(OutputError, match="E-OUTPUT-SETTINGS"):
        drive(machine("two"), step("二", {"a": 2}))
    assert drive(machine("two"), step("二", {"a": 2}), new_run=True)[0].endswith("moved to only.old-1")
    found = held(bucket, "mine")
    assert (found["only/a.txt"], found["only.old-1/a.txt"]) == ("二".encode(), "一".encode())
    assert drive(machine("one"), step("二", {"a": 2})) == ["only: up to date"]
    assert drive(machine("three"), step("三", {"a": 3}), new_run=True)[0].endswith("moved to only.old-2")


def test_a_changed_input_runs_the_step_again_wherever(machine: Callable[[str], Path], s3: S3, tmp_path: Path) -> None:
    bucket = s3.bucket("runs")
    source = tmp_path / "x.txt"
    source.write_text("1")
    drive(machine("one"), step("一", inputs=(str(source),)))
    source.write_text("12")
    assert "since input changed" in drive(machine("two"), step("二", inputs=(str(source),)))[0]
    assert held(bucket, "mine")["only/a.txt"] == "二".encode()
    assert drive(machine("one"), step("一", inputs=(str(source),))) == ["only: up to date"]


def test_a_place_of_something_else_is_refused_and_left_alone(machine: Callable[[str], Path], s3: S3) -> None:
    bucket = s3.bucket("runs")
    put(bucket, {"mine/notes.txt": b"mine"})
    with pytest.raises(OutputError, match="E-OUTPUT-FOREIGN") as e:
        drive(machine("one"), step())
    assert (e.value.where, e.value.found) == ("s3://runs/mine", "notes.txt")
    assert held(bucket) == {"mine/notes.txt": b"mine"}
    s3.empty()
    bucket = s3.bucket("runs")
    drive(machine("one"), step())
    put(bucket, {"mine/other/notes.txt": b"mine"})
    with pytest.raises(OutputError, match="E-OUTPUT-FOREIGN"):
        drive(machine("two"), step())


def no_conditions(request: dict[str, Any]) -> tuple[str, bytes] | None:
    """Answer a conditional PUT as Swift's s3api does (tried on Debian's swift-proxy 2.30.1)."""
    if request["REQUEST_METHOD"] != "PUT" or not {"HTTP_IF_MATCH", "HTTP_IF_NONE_MATCH"} & set(request):
        return None
    return "501 Not Implemented", b"<Error><Code>NotImplemented</Code><Message>Conditional object PUTs are not supported.</Message></Error>"


@pytest.mark.parametrize("header", ["HTTP_IF_MATCH", "HTTP_IF_NONE_MATCH"])
def test_a_store_that_puts_whatever_the_condition_says_is_refused(header: str, machine: Callable[[str], Path], s3: S3) -> None:
    bucket = s3.bucket("runs")
    s3.first = lambda request: request.pop(header, None) and None
    with pytest.raises(ResourceError, match="E-STORE-CONDITIONS") as e:
        drive(machine("one"), step())
    assert (e.value.where, e.value.found[:9]) == ("s3://runs/mine/lease.json", "PUT with ")
    assert held(bucket) == {}


def test_a_store_without_conditional_put_is_refused(machine: Callable[[str], Path], s3: S3) -> None:
    bucket = s3.bucket("runs")
    s3.first = no_conditions
    with pytest.raises(ResourceError, match="E-STORE-CONDITIONS") as e:
        drive(machine("one"), step())
    assert (e.value.where, e.value.found) == ("s3://runs/mine/lease.json", "501 Not Implemented")
    assert held(bucket) == {}


def test_a_run_that_was_deleted_in_the_bucket_begins_anew(machine: Callable[[str], Path], s3: S3) -> None:
    s3.bucket("runs")
    drive(machine("one"), step())
    discard(machine("one"))
    assert drive(machine("one"), step()) == ["only: starts"]
