"""The command line beside other programs: `ernie … | head`, and what it sets before torch is loaded."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from jobs.cli import main

ROOT = Path(__file__).parents[2]


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """A recipe over one small text file."""
    (tmp_path / "a.txt").write_text("你好。\n\n再见。\n", encoding="utf-8")
    path = tmp_path / "mine.yaml"
    path.write_text(f"name: mine\nroot: {tmp_path}/runs\nworkers: 0\ncorpora:\n  a: {{reader: text, path: {tmp_path}/a.txt}}\n", encoding="utf-8")
    return path


@pytest.mark.parametrize("option", [["--print-config"], ["--dry-run"], ["--until", "prepare"]])
def test_a_reader_that_ends_early_ends_the_command_quietly(recipe: Path, option: list[str]) -> None:
    command = [sys.executable, "-m", "jobs.cli", "run", str(recipe), *option]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)})
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert (process.stderr.read(), process.wait(timeout=60)) == ("", 141)


def test_another_broken_pipe_is_still_a_bug(recipe: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def broken(*_args: object) -> int:
        raise BrokenPipeError

    monkeypatch.setattr("jobs.cli._dispatch", broken)
    assert main(["run", str(recipe)]) == 1
    assert "E-BUG" in capsys.readouterr().err


def test_openmp_spins_briefly_wherever_a_command_trains() -> None:
    """It is read when torch is loaded, so it must be set before; a person's own value stays."""
    asks = "import sys, os, jobs.cli; print('torch' in sys.modules, os.environ['GOMP_SPINCOUNT'])"
    for given, expected in (({}, "False 10000"), ({"GOMP_SPINCOUNT": "7"}, "False 7")):
        env = {name: value for name, value in os.environ.items() if name != "GOMP_SPINCOUNT"} | given
        done = subprocess.run([sys.executable, "-c", asks], env=env, cwd=ROOT, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == expected
