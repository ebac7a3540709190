"""Security and fault rows that need whole runs or a real server: S1, S13, S18, S20, S23, F41, F42."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
import tomllib
import urllib.error
import urllib.request
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.version import Version
from ports_helper import listening
from server_helper import MlflowServer

from jobs.cli import main

ROOT = Path(__file__).parents[2]
TEXT = ROOT / "tests" / "golden" / "texts" / "documents.jsonl"
FLOORS = {"ray": "2.56", "torch": "2.10", "pyarrow": "14.0.1", "mlflow": "3.17.2"}
"""Versions below which a known hole is open (reliability S1)."""


def recipe(folder: Path, root: Path) -> Path:
    """Write a small recipe beside its text."""
    path = folder / "mine.yaml"
    settings = {
        "name": "mine", "root": str(root), "workers": 0,
        "corpora": {"a": {"reader": "jsonl", "path": str(TEXT), "options": {"text": "text"}}},
        "prepare": {"tasks": {"knowledge_masking": {}}, "vocab_size": 600},
    }  # fmt: skip
    path.write_text(yaml.safe_dump(settings, allow_unicode=True), encoding="utf-8")
    return path


def prepare(path: Path, *before: str) -> subprocess.CompletedProcess[str]:
    command = [*before, sys.executable, "-m", "jobs.cli", "run", str(path), "--until", "prepare"]
    env = os.environ | {"PYTHONPATH": str(ROOT), "MLFLOW_DISABLE_TELEMETRY": "true"}
    return subprocess.run(command, cwd=path.parent, env=env, capture_output=True, text=True, check=False, timeout=100, umask=0o022)


def test_no_version_with_a_known_hole_is_allowed_or_installed() -> None:
    asked = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
    floors = {Requirement(line).name: Requirement(line).specifier for line in asked}
    for name, floor in FLOORS.items():
        assert Version(version(name)) >= Version(floor), name
        assert all(Version(s.version) >= Version(floor) for s in floors[name] if s.operator == ">="), name


@pytest.mark.slow
def test_a_run_without_any_network_works_and_leaves_files_for_reading_only_to_others(tmp_path: Path) -> None:
    root = tmp_path / "runs"
    done = prepare(recipe(tmp_path, root), "unshare", "-rn")
    assert done.returncode == 0, done.stderr
    assert (root / "mine/prepare/manifest.json").exists()
    modes = {path.relative_to(tmp_path).as_posix(): stat.S_IMODE(path.stat().st_mode) for path in root.rglob("*")}
    assert len(modes) > 10
    assert {name: oct(mode) for name, mode in modes.items() if mode & 0o022} == {}
    assert not [name for name in modes if ".tmp" in name]


@pytest.mark.parametrize("name", ["with space 中文", "emoji 🀄 %23#?", "-dash quote'\"", "n" * 200])
def test_odd_folder_names_work(tmp_path: Path, name: str) -> None:
    assert main(["run", str(recipe(tmp_path, tmp_path / name)), "--until", "prepare"]) == 0
    assert (tmp_path / name / "mine/prepare/manifest.json").exists()


@pytest.mark.parametrize("name", ["new\nline", "n" * 256])
def test_impossible_folder_names_are_refused(tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", str(recipe(tmp_path, tmp_path / name)), "--until", "prepare"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: E-RECIPE")
    assert len(said.strip().splitlines()) == 2  # how many problems, and the one


@pytest.mark.parametrize(
    "place", ["mine/prepare", "mine/prepare/shards", "mine/prepare/metrics.jsonl", "mine/.lock", "mine/mlflow_run.json", "mine/a/b/c"]
)
def test_a_link_out_of_the_run_where_it_would_write_is_refused_before_anything_is_written(
    tmp_path: Path, place: str, capsys: pytest.CaptureFixture[str]
) -> None:
    root, outside = tmp_path / "runs", tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_text("theirs", encoding="utf-8")
    (root / place).parent.mkdir(parents=True)
    (root / "mine" / "run.json").write_text('{"format":1,"run":"mine"}', encoding="utf-8")
    (root / place).symlink_to(outside if "." not in place else outside / "file")
    before = sorted(root.rglob("*"))
    assert main(["run", str(recipe(tmp_path, root)), "--until", "prepare"]) == 4
    said = capsys.readouterr().err
    assert said.startswith("error: E-PATH a link leads out of the run's folder")
    assert f"at {root / place};" in said
    assert sorted(root.rglob("*")) == before
    assert {path.name: path.read_text(encoding="utf-8") for path in outside.iterdir()} == {"file": "theirs"}


def test_a_root_that_is_a_link_and_links_inside_a_run_are_a_persons_choice(tmp_path: Path) -> None:
    (tmp_path / "disk" / "mine" / "kept").mkdir(parents=True)
    (tmp_path / "disk" / "mine" / "run.json").write_text('{"format":1,"run":"mine"}', encoding="utf-8")
    (tmp_path / "disk" / "mine" / "same").symlink_to("kept")
    (tmp_path / "runs").symlink_to(tmp_path / "disk")
    assert main(["run", str(recipe(tmp_path, tmp_path / "runs")), "--until", "prepare"]) == 0
    assert (tmp_path / "disk" / "mine" / "prepare" / "manifest.json").exists()


def test_no_code_of_ours_ends_rays_processes_of_others() -> None:
    found = [str(p) for package in ("jobs", "pipelines", "corpus_prep", "ernie_core") for p in (ROOT / package).rglob("*.py")
             if re.search(r"ray stop|\"ray\", \"stop\"|pkill|killall|0\.0\.0\.0", p.read_text(encoding="utf-8"))]  # fmt: skip
    assert found == []


def answer(port: int, method: str, **headers: str) -> int:
    """Return the status of a search for experiments."""
    body = b'{"max_results": 1}' if method == "POST" else None
    url = f"http://127.0.0.1:{port}/api/2.0/mlflow/experiments/search" + ("" if body else "?max_results=1")
    request = urllib.request.Request(url, data=body, method=method, headers={"Content-Type": "application/json", **headers})
    try:
        return int(urllib.request.urlopen(request, timeout=20).status)
    except urllib.error.HTTPError as e:
        return e.code


def test_the_clusters_mlflow_refuses_other_hosts_and_origins(tmp_path: Path) -> None:
    server = MlflowServer(f"sqlite:///{tmp_path}/mlflow.db", tmp_path)
    try:
        assert answer(server.port, "GET") == 200
        assert answer(server.port, "GET", Host="evil.example") == 403
        assert answer(server.port, "POST", Origin="http://evil.example") == 403
        assert answer(server.port, "POST", Origin=f"http://127.0.0.1:{server.port}") == 200
        assert listening([server.session]) == {"MLflow": {"loopback"}}
    finally:
        server.close()
