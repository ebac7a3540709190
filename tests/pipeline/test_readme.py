"""The README's own-text example is run as it stands there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from prepare_helper import document

README = Path(__file__).parents[2] / "README.md"

pytestmark = pytest.mark.timeout(240)


def test_the_ten_lines_for_your_own_text_prepare_it(tmp_path: Path) -> None:
    text = README.read_text(encoding="utf-8")
    recipe = re.search(r"```yaml\n# mine\.yaml\n(.*?)```", text, re.DOTALL)
    assert recipe is not None
    assert len(recipe[1].splitlines()) <= 10
    (tmp_path / "mine.yaml").write_text(recipe[1], encoding="utf-8")
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_text("\n\n".join(document(i) for i in range(60)) + "\n", encoding="utf-8")
    commands = re.findall(r"^    ernie (run mine\.yaml.*?)(?:\s+#.*)?$", text, re.MULTILINE)
    assert commands == ["run mine.yaml --dry-run", "run mine.yaml", "run mine.yaml --print-config"]
    shown = {command: run(command.split(), tmp_path) for command in commands if command != "run mine.yaml"}
    assert "prepare" in shown["run mine.yaml --dry-run"]
    assert "longest row, tokens" in shown["run mine.yaml --print-config"]
    small = [
        "--until",
        "pretrain",
        "--set",
        "workers=0",
        "--set",
        "pretrain.iterations={knowledge_masking: 4, next_sentence: 2, sentence_reordering: 2, token_document: 2}",
    ]
    assert "pretrain: starts" in run(["run", "mine.yaml", *small], tmp_path)
    assert (tmp_path / "runs" / "mine" / "pretrain" / "model" / "model.safetensors").exists()


def run(arguments: list[str], folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "jobs.cli", *arguments], cwd=folder, env={**os.environ}, capture_output=True, text=True, check=False, timeout=200
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
