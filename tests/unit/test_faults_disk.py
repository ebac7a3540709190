"""Disks that are full or may not be written, and files that vanish or change (reliability F21, F23, F24, F26, F28, F33)."""

from __future__ import annotations

import contextlib
import resource
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from prepare_helper import SETTINGS, Runner, bytes_of, run_prepare
from rows_helper import toy_rows

from ernie_core.data.shards import ENCODINGS, write_shard
from ernie_core.errors import IntegrityError, ResourceError
from ernie_core.manifest import MANIFEST_NAME, Manifest
from jobs.cli import main
from pipelines import run_folder
from pipelines.recipe import load_recipe
from pipelines.steps import Step, StepContext, run_steps
from pipelines.workflow import run_recipe


@contextlib.contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Let no file of this process grow beyond `size` bytes: what a full disk does, to the byte."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_disk_full_at_any_byte_of_a_shard_is_named_and_harms_nothing(tmp_path: Path) -> None:
    rows = toy_rows(60, names=("t",))

    def write(name: str) -> None:
        write_shard(tmp_path, name, rows, task="t", subset="train", group_rows=8, encodings=ENCODINGS)

    write("shards/a")
    good = {p.name: p.read_bytes() for p in (tmp_path / "shards").iterdir()}
    largest = max(map(len, good.values()))
    for size in [*(largest * i // 100 for i in range(100)), largest - 1]:
        with largest_file(size), pytest.raises(ResourceError) as e:
            write("shards/b")
        needed = int(e.value.expected.split()[2])
        assert (e.value.code, e.value.exit_code) == ("E-DISK-FULL", 6)
        assert Path(e.value.where).parent == tmp_path / "shards"
        assert needed in {len(data) for data in good.values() if len(data) > size}
        assert "bytes free" in e.value.found
        left = {p.name: p.read_bytes() for p in (tmp_path / "shards").iterdir()}
        assert {name: data for name, data in left.items() if name in good} == good
        assert {name.replace("b", "a", 1) for name in left.keys() - good.keys()} <= good.keys(), "a temporary file is left"
    with largest_file(largest):
        write("shards/b")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A tmpfs of one page, to be grown by `mount -o remount,size=…`."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4k", "tmpfs", str(disk)], capture_output=True, check=False).returncode:
        pytest.skip("no tmpfs can be mounted")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def remount(disk: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", str(disk)], check=True)


def test_a_disk_that_fills_up_again_and_again_costs_no_byte(corpus: Path, whole: Path, small_disk: Path) -> None:
    size = sum(-(-p.stat().st_size // 4096) * 4096 for p in whole.rglob("*") if p.is_file())
    for share in (0.05, 0.2, 0.4, 0.6, 0.8, 0.95):
        remount(small_disk, f"size={int(size * share)}")
        with pytest.raises(ResourceError) as e:
            run_prepare(corpus, small_disk / "out")
        assert (e.value.code, e.value.where.startswith(str(small_disk))) == ("E-DISK-FULL", True)
        assert list(small_disk.rglob(".tmp-*")) == []
    remount(small_disk, f"size={2 * size}")
    run_prepare(corpus, small_disk / "out")
    assert bytes_of(small_disk / "out") == bytes_of(whole)


def write_recipe(corpus: Path, folder: Path, **changes: object) -> Path:
    """A recipe of the corpus, without training, whose runs lie in `folder`/runs."""
    settings = {k: v for k, v in SETTINGS.items() if k != "language"}
    corpora = {
        "two": {"reader": "jsonl", "path": str(corpus / "two.jsonl"), "options": {"title": "title"}},
        "one": {"reader": "text", "path": str(corpus / "*.txt")},
    }
    body = {"name": "mine", "root": str(folder / "runs"), "workers": 0, "corpora": corpora, "prepare": settings, **changes}
    (folder / "mine.yaml").write_text(yaml.safe_dump(body, allow_unicode=True), encoding="utf-8")
    return folder / "mine.yaml"


def test_work_for_which_there_is_no_room_is_refused_before_the_first_step(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(run_folder.shutil, "disk_usage", lambda _path: usage._replace(free=20_000_000))
    model = {"num_hidden_layers": 4, "hidden_size": 256, "num_attention_heads": 4}
    tasks = ["knowledge_masking", "next_sentence"]
    recipe = write_recipe(corpus, tmp_path, pretrain={"model": model, "stages": [{"enter": tasks}], "iterations": dict.fromkeys(tasks, 10)})
    assert main(["run", str(recipe)]) == 6
    error = capsys.readouterr().err
    assert "E-DISK-FULL not enough space for what is left of this recipe" in error
    assert "found 20.0 MB free" in error
    needed = 3 * 4 * (4 * 12 * 256**2 + (64 + 512) * 256 + 2 * 256**2) * (2 + 1) / 1e6
    assert float(error.split("expected about ")[1].split(" MB")[0]) == pytest.approx(needed, rel=0.1)
    assert not (tmp_path / "runs" / "mine" / "prepare").exists()


def test_a_disk_that_may_only_be_read_exits_6_before_any_work(
    corpus: Path, small_disk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = write_recipe(corpus, tmp_path)
    remount(small_disk, "ro")
    assert main(["run", str(recipe), "--set", f"root={small_disk}/runs"]) == 6
    error = capsys.readouterr().err
    assert error.startswith("error: E-PERMISSION cannot write here")
    assert str(small_disk) in error
    assert "uid " in error


def state(folder: Path) -> dict[str, tuple[int, int]]:
    """Size and time of every file but the lock's, which says who held it last."""
    return {str(p): (p.stat().st_size, p.stat().st_mtime_ns) for p in folder.rglob("*") if p.is_file() and p.name != ".lock"}


def test_a_finished_run_writes_nothing_and_a_changed_one_names_its_keys(
    corpus: Path, tmp_path: Path, empty_store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = write_recipe(corpus, tmp_path)
    (tmp_path / "runs").mkdir()
    shutil.copy(empty_store, tmp_path / "runs" / "mlflow.db")
    run_recipe(load_recipe(recipe), lambda _line: None, until="prepare")
    before = state(tmp_path)
    assert main(["prepare", str(recipe)]) == 0
    assert "prepare: up to date\n" in capsys.readouterr().out
    assert state(tmp_path) == before
    assert main(["prepare", str(recipe), "--set", "prepare.group_rows=32", "--set", "seed=8"]) == 5
    error = capsys.readouterr().err
    assert "E-OUTPUT-SETTINGS" in error
    assert "group_rows: was 64, now 32" in error
    assert ", now 8" in error.split("seed: was ")[1].split("\n")[0]
    assert state(tmp_path) == before


def prepare_step(corpus: Path) -> list[Step]:
    def run(context: StepContext) -> Manifest:
        done: Manifest = run_prepare(corpus, context.folder)
        return done

    return [Step("prepare", {}, (), run)]


def test_a_damaged_manifest_stops_the_run_and_is_made_again_from_the_splits_entries(corpus: Path, whole: Path, tmp_path: Path) -> None:
    shutil.copytree(whole, tmp_path / "r" / "prepare")
    (tmp_path / "r" / "run.json").write_text('{"format":1,"run":"r"}\n')
    (tmp_path / "r" / "prepare" / "step.json").write_text('{"format":1,"parents":{},"settings":{},"step":"prepare"}\n')
    (tmp_path / "r" / "prepare" / "inputs.json").write_text("{}")
    manifest = tmp_path / "r" / "prepare" / MANIFEST_NAME
    good = manifest.read_bytes()
    lines = good.split(b"\n")
    flipped = bytearray(good)
    flipped[len(good) // 2] ^= 1
    for bad in (b"", good[: len(good) // 2], bytes(flipped), b"\n".join(lines[:9] + lines[10:])):
        manifest.write_bytes(bad)
        with pytest.raises(IntegrityError) as e:
            run_steps(prepare_step(corpus), tmp_path / "r", lambda _line: None)
        assert (e.value.code, e.value.exit_code, e.value.where) == ("E-MANIFEST", 4, str(manifest))
        assert "delete this file and run the same command again" in e.value.fix
    manifest.unlink()
    said: list[str] = []
    run_steps(prepare_step(corpus), tmp_path / "r", said.append)
    assert said == ["prepare: goes on where it stopped"]
    assert manifest.read_bytes() == good


def test_what_a_killed_run_leaves_is_listed_and_taken_away_when_asked(
    runner: Runner, corpus: Path, whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "runs" / "mine" / "prepare"
    recipe = write_recipe(corpus, tmp_path)
    assert main(["gc", str(recipe), "--dry-run"]) == 0
    assert "nothing there" in capsys.readouterr().out
    assert runner.run(corpus, folder, failpoint="data.mid_write:9") == -9
    (folder / "step.json").write_text('{"format":1,"parents":{},"settings":{},"step":"prepare"}\n')
    (folder.parent / "run.json").write_text('{"format":1,"run":"mine"}\n')
    (left,) = folder.rglob(".tmp-*")
    assert runner.run(corpus, folder) == 0
    assert bytes_of(folder) == bytes_of(whole)
    gone = folder / "documents" / "00099.json.zst"
    gone.write_bytes(b"of a split that is gone")
    before = bytes_of(folder)
    assert main(["gc", str(recipe), "--dry-run"]) == 0
    said = capsys.readouterr().out.split("\n")
    assert said[:2] == sorted([str(left), str(gone)])
    assert said[2].startswith("2 files, ")
    assert left.exists()
    assert main(["gc", str(recipe)]) == 0
    assert not left.exists()
    assert not gone.exists()
    assert bytes_of(folder) == before
    assert (folder / "tables" / "contamination.npy").exists()
