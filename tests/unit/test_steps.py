"""The step graph: what runs, what is skipped, what is refused, and that nothing of others is touched."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from ernie_core.errors import IntegrityError, OutputError, ResourceError
from ernie_core.manifest import Manifest, atomic_write, write_manifest
from pipelines.steps import Step, StepContext, differences, run_steps

Lines = list[str]


def make_step(name: str, ran: Lines, parents: tuple[str, ...] = (), value: object = 1, text: Callable[[], str] = lambda: "x", **more: object) -> Step:
    def run(context: StepContext) -> Manifest:
        ran.append(name)
        entry = atomic_write(context.folder / "out.txt", text().encode())
        return write_manifest(context.folder, Manifest(name, context.settings, context.parent_hashes, (entry,), {}))

    return Step(name, {"value": value}, parents, run, **more)  # type: ignore[arg-type]


def tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_steps_run_parents_first_and_a_second_run_writes_nothing(tmp_path: Path) -> None:
    ran: Lines = []
    said: Lines = []
    steps = [make_step("b", ran, ("a",)), make_step("a", ran)]
    done = run_steps(steps, tmp_path / "r", said.append)
    assert ran == ["a", "b"]
    assert done["b"].parents == {"a": done["a"].sha256}
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "r").rglob("*") if p.is_file() and p.name != ".lock"}
    said.clear()
    assert run_steps(steps, tmp_path / "r", said.append) == done
    assert (ran, said) == (["a", "b"], ["a: up to date", "b: up to date"])
    assert before == {p: p.stat().st_mtime_ns for p in (tmp_path / "r").rglob("*") if p.is_file() and p.name != ".lock"}


def test_a_step_killed_before_its_manifest_goes_on(tmp_path: Path) -> None:
    ran: Lines = []
    said: Lines = []
    run_steps([make_step("a", ran)], tmp_path / "r", said.append)
    (tmp_path / "r/a/manifest.json").unlink()
    run_steps([make_step("a", ran)], tmp_path / "r", said.append)
    assert ran == ["a", "a"]
    assert said[-1] == "a: goes on where it stopped"


def test_until_stops_after_the_named_step(tmp_path: Path) -> None:
    ran: Lines = []
    run_steps([make_step("a", ran), make_step("b", ran, ("a",)), make_step("c", ran, ("b",))], tmp_path / "r", print, until="b")
    assert ran == ["a", "b"]


def test_a_changed_parent_runs_the_child_again_and_keeps_its_work(tmp_path: Path) -> None:
    ran: Lines = []
    said: Lines = []
    text = ["one"]
    source = tmp_path / "in.txt"
    source.write_text("1")
    steps = [
        make_step("a", ran, text=lambda: text[0], inputs=(str(tmp_path / "*.txt"),)),
        make_step("b", ran, ("a",)),
        make_step("c", ran, ("a",), keeps_work=False),
    ]
    run_steps(steps, tmp_path / "r", said.append)
    source.write_text("22")
    text[0] = "two"
    run_steps(steps, tmp_path / "r", said.append)
    assert ran == ["a", "b", "c", "a", "b", "c"]
    assert f"a: runs again, since input changed: {source}" in said
    assert "b: runs again, since a changed" in said
    assert not (tmp_path / "r/b.old-1").exists()
    assert (tmp_path / "r/c.old-1/out.txt").exists()


def test_a_touched_input_with_equal_content_leaves_the_child_alone(tmp_path: Path) -> None:
    ran: Lines = []
    source = tmp_path / "in.txt"
    source.write_text("1")
    steps = [make_step("a", ran, inputs=(str(source),)), make_step("b", ran, ("a",))]
    run_steps(steps, tmp_path / "r", print)
    os.utime(source, ns=(1, 1))
    run_steps(steps, tmp_path / "r", print)
    assert ran == ["a", "b", "a"]


def test_other_settings_are_refused_with_every_changed_key_before_any_step_runs(tmp_path: Path) -> None:
    ran: Lines = []
    run_steps([make_step("a", ran), make_step("b", ran, ("a",), value={"x": 1, "y": 2})], tmp_path / "r", print)
    before = tree(tmp_path / "r")
    with pytest.raises(OutputError) as caught:
        run_steps([make_step("a", ran), make_step("b", ran, ("a",), value={"x": 3, "z": 2})], tmp_path / "r", print)
    assert (caught.value.code, caught.value.exit_code) == ("E-OUTPUT-SETTINGS", 5)
    assert caught.value.found.split("\n  ")[1:] == ["value.x: was 1, now 3", "value.y: was 2, now not there", "value.z: was not there, now 2"]
    assert "--new-run" in caught.value.fix
    assert tree(tmp_path / "r") == before


def test_new_run_moves_the_old_folder_aside(tmp_path: Path) -> None:
    ran: Lines = []
    said: Lines = []
    run_steps([make_step("a", ran)], tmp_path / "r", print)
    old = tree(tmp_path / "r/a")
    run_steps([make_step("a", ran, value=2)], tmp_path / "r", said.append, new_run=True)
    assert tree(tmp_path / "r/a.old-1") == old
    assert said[0] == "a: made with other settings, moved to a.old-1"


@pytest.mark.parametrize("where", ["r", "r/a"])
def test_a_folder_of_something_else_is_refused_and_not_touched(tmp_path: Path, where: str) -> None:
    ran: Lines = []
    if where == "r/a":
        run_steps([make_step("z", ran)], tmp_path / "r", print)
    (tmp_path / where).mkdir(exist_ok=True)
    (tmp_path / where / "notes.txt").write_text("mine")
    before = tree(tmp_path)
    with pytest.raises(OutputError) as caught:
        run_steps([make_step("a", ran)], tmp_path / "r", print)
    assert (caught.value.code, caught.value.exit_code) == ("E-OUTPUT-FOREIGN", 5)
    assert "notes.txt" in caught.value.found
    assert tree(tmp_path) == before


def test_a_kill_inside_the_first_write_leaves_a_folder_that_is_still_ours(tmp_path: Path) -> None:
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / ".lock").touch()
    (tmp_path / "r" / ".tmp-run.json-77-0a1b2c3d").write_text("{")
    ran: Lines = []
    run_steps([make_step("a", ran)], tmp_path / "r", print)
    assert ran == ["a"]


def test_a_step_json_of_another_program_is_foreign(tmp_path: Path) -> None:
    ran: Lines = []
    run_steps([make_step("z", ran)], tmp_path / "r", print)
    (tmp_path / "r/a").mkdir()
    (tmp_path / "r/a/step.json").write_text('{"step": "a"}')
    with pytest.raises(OutputError, match="E-OUTPUT-FOREIGN"):
        run_steps([make_step("a", ran)], tmp_path / "r", print)


def test_a_lost_output_of_a_finished_step_is_noticed(tmp_path: Path) -> None:
    ran: Lines = []
    run_steps([make_step("a", ran)], tmp_path / "r", print)
    (tmp_path / "r/a/out.txt").unlink()
    with pytest.raises(IntegrityError, match=r"E-SHARD-MISSING.*out\.txt"):
        run_steps([make_step("a", ran)], tmp_path / "r", print)


def test_a_folder_that_cannot_be_written_is_refused_before_any_step_runs() -> None:
    ran: Lines = []
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        os.chmod(name, 0o555)
        uid = os.geteuid()
        try:
            if uid == 0:  # root may write anywhere
                os.seteuid(65534)
            with pytest.raises(ResourceError) as caught:
                run_steps([make_step("a", ran)], Path(name) / "r", print)
        finally:
            os.seteuid(uid)
    assert (caught.value.code, caught.value.exit_code, ran) == ("E-PERMISSION", 6, [])
    assert (caught.value.where, "mode 0o555" in caught.value.found) == (name, True)


@pytest.mark.parametrize("place", ["/proc/nowhere", "/dev/null/run"])
def test_a_root_that_is_no_writable_folder_exits_6(place: str) -> None:
    with pytest.raises(ResourceError) as caught:
        run_steps([make_step("a", [])], Path(place), print)
    assert caught.value.exit_code == 6


def test_a_second_driver_is_refused_while_the_first_works_and_welcome_after_it_died(tmp_path: Path) -> None:
    code = "import sys, time; sys.path.insert(0, '.')\nfrom pathlib import Path\nfrom pipelines.run_folder import locked\nwith locked(Path(sys.argv[1])):\n    print('held', flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "r")], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(OutputError) as caught:
            run_steps([make_step("a", [])], tmp_path / "r", print)
        other.kill()
    assert (caught.value.code, caught.value.exit_code) == ("E-LOCKED", 5)
    assert f"pid {other.pid} on host" in caught.value.found
    run_steps([make_step("a", [])], tmp_path / "r", print)


def test_a_failing_step_leaves_the_steps_before_it_done(tmp_path: Path) -> None:
    ran: Lines = []

    def fail(_context: StepContext) -> Manifest:
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError):
        run_steps([make_step("a", ran), Step("b", {}, ("a",), fail)], tmp_path / "r", print)
    run_steps([make_step("a", ran), make_step("b", ran, ("a",), value=1)], tmp_path / "r", print, new_run=True)
    assert ran == ["a", "b"]


def test_around_wraps_only_steps_that_run(tmp_path: Path) -> None:
    import contextlib

    wrapped: Lines = []

    @contextlib.contextmanager
    def around(context: StepContext):  # type: ignore[no-untyped-def]
        wrapped.append(context.name)
        yield

    for _ in range(2):
        run_steps([make_step("a", [])], tmp_path / "r", print, around=around)
    assert wrapped == ["a"]


def test_differences_names_keys_that_came_and_went() -> None:
    assert differences({"a": {"b": 1}, "c": []}, {"a": {"b": 1.5}, "d": {}}) == [
        "a.b: was 1, now 1.5",
        "c: was [], now not there",
        "d: was not there, now {}",
    ]
