"""The page on writing a task is run as it stands there: its file is found, its recipe is taken, rows are built, prepared and audited."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import tasks_helper as toy
from prepare_helper import SETTINGS, bytes_of, run_prepare, write_corpus

import ernie_core.tasks
from ernie_core.data.shards import ShardSet
from ernie_core.tasks.base import Task, all_tasks
from pipelines.recipe import load_recipe

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "pipelines/docs/write_a_task.md").read_text(encoding="utf-8")
NAME = "sentence_order"


def block(language: str) -> tuple[str, str]:
    """Name and text of the page's only block in a language."""
    ((name, text),) = re.findall(rf"```{language}\n# (\S+)\n(.*?)```", PAGE, re.DOTALL)
    return name, text


@pytest.fixture
def task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Task]:
    """The page's task, in a second folder of the package of tasks."""
    name, text = block("python")
    assert name == f"ernie_core/tasks/{NAME}.py"
    folder = tmp_path / "tasks"
    folder.mkdir()
    (folder / f"{NAME}.py").write_text(text, encoding="utf-8")
    monkeypatch.setattr(ernie_core.tasks, "__path__", [*ernie_core.tasks.__path__, str(folder)])
    yield all_tasks()[NAME]
    del sys.modules[f"ernie_core.tasks.{NAME}"], ernie_core.tasks.sentence_order  # type: ignore[attr-defined]


def test_without_the_file_there_is_no_such_task() -> None:
    assert NAME not in all_tasks()


def test_the_task_builds_rows_in_both_orders(task: Task) -> None:
    documents = toy.fixed_corpus()
    rows, drops = toy.built(task, documents, toy.context(options=task.complete({}), max_seq_len=64))
    raw = ["".join("".join(s.text for p in d.paragraphs for s in p).split()) for d in documents]
    for row in rows:
        first, second = (toy.text_of(ids) for ids in toy.segments_of(row, row.token_ids))
        assert [any(pair in text for text in raw) for pair in (first + second, second + first)] == [not row.label, bool(row.label)]
    assert {row.label for row in rows} == {0, 1}
    assert len(rows) + sum(drops.values()) == sum(max(1, len(toy.spans_of([d], 64)) - 1) for d in documents)


def test_the_recipe_is_taken_and_prepares_its_shards(task: Task, tmp_path: Path) -> None:
    name, text = block("yaml")
    (tmp_path / name).write_text(text, encoding="utf-8")
    recipe = load_recipe(tmp_path / name)
    assert recipe.pretrain.stages[0].enter == ["knowledge_masking", NAME]
    assert task.classes(recipe.prepare.tasks[NAME]) == 2
    write_corpus(tmp_path / "in")
    manifest = run_prepare(tmp_path / "in", tmp_path / "out", tasks=recipe.prepare.tasks)
    for subset in ("train", "valid"):
        assert ShardSet.open(tmp_path / "out", manifest, NAME, subset, "parquet").num_rows > 10
    card = (tmp_path / "out" / "card.md").read_text(encoding="utf-8")
    assert f"### {NAME}" in card
    assert json.loads((tmp_path / "out" / "audit.json").read_bytes())[NAME]["bars"]["majority"] > 0.4
    assert NAME not in SETTINGS["tasks"]
    assert any(path.startswith(f"shards/{NAME}/") for path in bytes_of(tmp_path / "out"))


def test_the_file_keeps_to_the_house_rules(tmp_path: Path) -> None:
    """Formatted and without a complaint of the linter, by the project's own settings."""
    path = tmp_path / f"{NAME}.py"
    path.write_text(block("python")[1], encoding="utf-8")
    for command in (["format", "--check"], ["check"]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *command, "--config", str(ROOT / "pyproject.toml"), str(path)], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_every_file_that_the_page_names_is_there() -> None:
    for name in re.findall(r"`(\w+\.py)`", PAGE):
        assert (ROOT / "ernie_core/tasks" / name).is_file(), name
    for name in re.findall(r"`((?:tests|corpus_prep)/[\w/.]+\.py)`", PAGE):
        assert (ROOT / name).is_file(), name
