"""The house: the lock, the list of allowed skips, golden files, and the sizes that keep files readable."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("ernie_core", "corpus_prep", "pipelines", "jobs")


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def locked() -> dict[str, str]:
    lines = [line.split("==") for line in (ROOT / "requirements.lock").read_text().splitlines() if line]
    return {normal(name): version for name, version in lines}


def pytest_in(folder: Path, test: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run pytest over one file beside a copy of our conftest."""
    for name in ("conftest.py", "allowed_skips.txt"):
        shutil.copy(ROOT / "tests" / name, folder / name)
    (folder / "test_it.py").write_text(test, encoding="utf-8")
    environment = {k: v for k, v in os.environ.items() if k not in {"CI", "ERNIE_TEST_DATA"}} | {"CI": "true"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(folder), "-rf", "--tb=no", *arguments, str(folder)]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_the_lock_holds_exact_public_versions_of_every_dependency() -> None:
    lock = locked()
    assert len(lock) > 100
    assert [name for name, version in lock.items() if not re.fullmatch(r"[0-9][0-9a-z.]*", version)] == []
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *extras["demo"], *extras["hf"], *extras["dev"]]
    names = {normal(re.split(r"[\[<>=]", w)[0]) for w in wanted}
    assert names - set(lock) == set()


def test_only_listed_skips_are_allowed_under_ci(tmp_path: Path) -> None:
    done = pytest_in(tmp_path, "import pytest\ndef test_a(): pytest.skip('no time')\ndef test_b(test_data): raise AssertionError\n")
    assert done.returncode == 1
    assert "2 skipped" in done.stdout
    assert "test_it.py::test_a: no time" in done.stdout
    assert "test_it.py::test_b" not in done.stdout


def test_golden_files_are_written_only_when_asked_and_compared_otherwise(tmp_path: Path) -> None:
    assert pytest_in(tmp_path, "def test_a(golden): golden('a.txt', b'1')\n", "--update-golden").returncode == 0
    assert (tmp_path / "golden/a.txt").read_bytes() == b"1"
    test = "def test_same(golden): golden('a.txt', b'1')\ndef test_other(golden): golden('a.txt', b'2')\ndef test_new(golden): golden('b.txt', b'')\n"
    done = pytest_in(tmp_path, test)
    assert re.findall("FAILED test_it.py::([a-z_]+)", done.stdout) == ["test_other", "test_new"]
    assert not (tmp_path / "golden/b.txt").exists()


def lines_of(function: ast.FunctionDef) -> int:
    """Return how many lines a function has, its docstring left out."""
    first = function.body[0]
    docstring = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str)
    return (function.end_lineno or 0) - function.lineno + 1 - ((first.end_lineno or 0) - first.lineno + 1 if docstring else 0)


@pytest.mark.parametrize("package", PACKAGES)
def test_files_and_functions_stay_small(package: str) -> None:
    files = {str(p.relative_to(ROOT)): p.read_text(encoding="utf-8") for p in sorted((ROOT / package).rglob("*.py"))}
    assert files
    assert [path for path, text in files.items() if text.count("\n") > 300] == []
    functions = [(path, node) for path, text in files.items() for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef)]
    assert [f"{path}:{node.lineno} {node.name}" for path, node in functions if lines_of(node) > 60] == []
