"""Commands that look at a finished run take its address in an object store, and say what they say of the same run on disk."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from finetune_helper import save_start
from s3_helper import S3, put

from jobs.cli import main


@pytest.fixture
def run(tmp_path: Path, whole: Path, s3: S3, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run on disk with shards and a model, of which the bucket holds a copy."""
    monkeypatch.setenv("ERNIE_SCRATCH", str(tmp_path / "scratch"))
    folder = tmp_path / "mine"
    shutil.copytree(whole, folder / "prepare")
    save_start(folder / "pretrain" / "model", seed=1)
    put(s3.bucket("runs"), {f"mine/{path.relative_to(folder)}": path.read_bytes() for path in folder.rglob("*") if path.is_file()})
    return folder


@pytest.mark.parametrize("command", [["shards", "show"], ["shards", "stats"], ["shards", "verify"], ["shards", "card"], ["fill"]])
def test_what_is_said_of_a_run_in_a_bucket_is_what_is_said_on_disk(command: list[str], run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = {}
    for place in (str(run), "s3://runs/mine"):
        assert main([*command, place, *(["今天[MASK]"] if command == ["fill"] else [])]) == 0
        said[place] = capsys.readouterr().out
    assert len(said[str(run)]) > 20
    assert said["s3://runs/mine"].replace("s3://runs/mine", str(run)) == said[str(run)]


@pytest.mark.parametrize("command", [["export"], ["shards", "export"]])
def test_what_is_written_of_a_run_in_a_bucket_is_what_is_written_of_one_on_disk(
    command: list[str], run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for name, place in (("disk", str(run)), ("bucket", "s3://runs/mine")):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        assert main([*command, place, "out"]) == 0
        written = tmp_path / name / "out"
        found.append({path.relative_to(written): path.read_bytes() for path in written.rglob("*") if path.is_file()})
    assert found[0]
    assert found[0] == found[1]


def test_what_is_not_there_is_told_by_its_address(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cases = {
        ("fill", "s3://runs/other", "[MASK]"): ("E-MODEL-MISSING", "at s3://runs/other;"),
        ("shards", "stats", "s3://runs/other"): ("E-MANIFEST-MISSING", "at s3://runs/other/manifest.json;"),
        ("export", "s3://nowhere/mine", "out"): ("E-STORE", "s3://nowhere/mine"),
    }
    for command, (code, where) in cases.items():
        assert main(list(command)) != 0
        said = capsys.readouterr().err
        assert said.startswith(f"error: {code} "), said
        assert where in said


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (["shards", "show", "http://host/mine"], "E-URI"),
        (["fill", "s3://key:secret@runs/mine", "[MASK]"], "E-CREDENTIALS"),
        (["export", "s3://", "out"], "E-URI"),
    ],
)
def test_what_is_no_address_is_refused(command: list[str], code: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(command)
    assert stopped.value.code == 2
    said = capsys.readouterr().err
    assert code in said
    assert "secret" not in said


def test_a_file_that_is_damaged_in_the_bucket_is_an_error(run: Path, s3: S3, capsys: pytest.CaptureFixture[str]) -> None:
    weights = bytearray((run / "pretrain" / "model" / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    put(s3.bucket("runs"), {"mine/pretrain/model/model.safetensors": bytes(weights)})
    assert main(["fill", "s3://runs/mine", "[MASK]"]) == 4
    assert capsys.readouterr().err.startswith("error: E-SHARD-HASH ")
