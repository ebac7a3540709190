"""What `ernie submit` refuses before it asks a cluster, and the recipe that it sends."""

from __future__ import annotations

import itertools
import re
import shlex
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ernie_core.errors import RecipeError, ResourceError
from jobs.cli import main
from jobs.submit import PACKAGES, _follow, _stage
from pipelines.portable import check_portable, relative_paths, whole_recipe
from pipelines.recipe import load_recipe
from pipelines.recipe_base import results_settings
from pipelines.resources import bundles_of, room_words

RECIPES = Path(__file__).parents[2] / "pipelines" / "recipes"


@pytest.fixture
def token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "auth_token"
    path.touch(mode=0o600)
    path.write_text("0" * 64, encoding="utf-8")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(path))
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://127.0.0.1:9")
    return path


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.yaml")), ids=lambda p: p.stem)
def test_a_recipe_in_one_file_is_the_same_recipe(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ERNIE_TEST_DATA", "/data")
    monkeypatch.setenv("ERNIE_CORPORA", "/corpora")
    recipe = load_recipe(path, ["root=/mnt/runs"])
    (tmp_path / "whole.yaml").write_text(whole_recipe(recipe), encoding="utf-8")
    assert load_recipe(tmp_path / "whole.yaml") == recipe


def test_relative_paths_are_refused_each_by_its_key(tmp_path: Path) -> None:
    text = (
        "name: mine\nroot: runs\ncorpora: {a: {reader: text, path: 's3://b/*.txt'}, b: {reader: text, path: 'x/*.txt'}}\n"
        "prepare: {gazetteer: /g.txt}\npretrain: {init: old}\n"
        "finetune: {benchmarks: {xnli: {path: /x, train: mine.tsv}}}\n"
    )
    (tmp_path / "mine.yaml").write_text(text, encoding="utf-8")
    recipe = load_recipe(tmp_path / "mine.yaml")
    expected = ["root: runs", "corpora.b.path: x/*.txt", "pretrain.init: old", "finetune.benchmarks.xnli.train: mine.tsv"]
    assert relative_paths(recipe) == expected
    with pytest.raises(RecipeError, match=r"E-RELATIVE-PATH.*root: runs; corpora\.b\.path"):
        check_portable(recipe)


def test_the_readmes_recipe_is_submitted_as_the_readme_says(tmp_path: Path) -> None:
    text = (RECIPES.parents[1] / "README.md").read_text(encoding="utf-8")
    recipe, line = (
        re.search(r"```yaml\n# mine\.yaml\n(.*?)```", text, re.DOTALL),
        re.search(r"^    (ernie submit mine\.yaml .*)$", text, re.MULTILINE),
    )
    assert recipe is not None
    assert line is not None
    (tmp_path / "mine.yaml").write_text(recipe[1], encoding="utf-8")
    words = shlex.split(line[1])
    loaded = load_recipe(tmp_path / "mine.yaml", [setting for flag, setting in itertools.pairwise(words) if flag == "--set"])
    assert relative_paths(loaded) == []
    assert bundles_of(loaded, "pretrain")[0]["GPU"] == 1


def test_a_job_with_a_relative_root_is_refused_where_it_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    monkeypatch.chdir(tmp_path)
    assert main(["run", str(RECIPES / "demo.yaml")]) == 2
    assert "E-RELATIVE-PATH" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644])
def test_a_token_that_others_can_read_is_refused(token: Path, mode: int, capsys: pytest.CaptureFixture[str]) -> None:
    token.chmod(mode)
    assert main(["status", "mine"]) == 6
    said = capsys.readouterr().err
    assert "E-TOKEN" in said
    assert f"chmod 600 {token}" in said
    assert "0" * 64 not in said


def test_without_a_token_it_says_where_one_belongs(token: Path, capsys: pytest.CaptureFixture[str]) -> None:
    token.unlink()
    assert main(["status", "mine"]) == 6
    assert f"there is no token for the cluster; at {token}" in capsys.readouterr().err


def test_without_a_cluster_it_names_the_address(token: Path) -> None:
    assert token.exists()
    command = [sys.executable, "-m", "jobs.cli", "logs", "mine", "--address", "http://127.0.0.1:9"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 6
    assert "E-CLUSTER" in done.stderr
    assert "http://127.0.0.1:9" in done.stderr


def test_a_job_carries_the_product_and_its_recipe_and_no_more(tmp_path: Path) -> None:
    _stage(tmp_path, "name: mine\n")
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([*PACKAGES, "recipe.yaml"])
    files = [p for p in tmp_path.rglob("*") if p.is_file()]
    assert sum(p.stat().st_size for p in files) < 4_000_000
    assert not [p for p in files if p.suffix == ".pyc"]


def test_pretraining_asks_for_all_its_ranks_at_once(tmp_path: Path) -> None:
    text = "name: mine\ngpus_on_demand: true\ncorpora: {a: {reader: text, path: 'x'}}\npretrain: {workers: 2, threads: 4}\n"
    (tmp_path / "mine.yaml").write_text(text, encoding="utf-8")
    recipe = load_recipe(tmp_path / "mine.yaml")
    assert bundles_of(recipe, "pretrain") == [{"CPU": 4.0, "GPU": 1.0}] * 2
    assert bundles_of(recipe, "prepare") == [{"CPU": 1.0}]


def test_memory_is_asked_for_by_step_and_changes_no_result(tmp_path: Path) -> None:
    text = (
        "name: mine\ncorpora: {a: {reader: text, path: 'x'}}\npretrain: {workers: 2, memory_gb: 2.5}\nprepare: {memory_gb: 4}\n"
        "finetune: {memory_gb: 1, benchmarks: {xnli: {path: /x}}}\n"
    )
    (tmp_path / "mine.yaml").write_text(text, encoding="utf-8")
    recipe = load_recipe(tmp_path / "mine.yaml")
    asked = {step: bundles_of(recipe, step) for step in ("prepare", "pretrain", "finetune", "report")}
    assert asked == {
        "prepare": [{"CPU": 1.0, "memory": 4e9}], "pretrain": [{"CPU": 2.0, "memory": 2.5e9}] * 2, "finetune": [{"CPU": 1.0, "memory": 1e9}], "report": [{"CPU": 1.0}]
    }  # fmt: skip
    assert "memory_gb" not in str(results_settings(recipe))
    with pytest.raises(RecipeError, match=r"prepare\.memory_gb"):
        load_recipe(tmp_path / "mine.yaml", ["prepare.memory_gb=-1"])


def test_an_elastic_pretraining_asks_for_its_least(tmp_path: Path) -> None:
    text = "name: mine\ncorpora: {a: {reader: text, path: 'x'}}\npretrain: {workers: [2, 5], threads: 1}\n"
    (tmp_path / "mine.yaml").write_text(text, encoding="utf-8")
    recipe = load_recipe(tmp_path / "mine.yaml")
    assert recipe.pretrain is not None
    assert (recipe.pretrain.least_workers, recipe.pretrain.most_workers) == (2, 5)
    assert bundles_of(recipe, "pretrain") == [{"CPU": 1.0}] * 2
    (tmp_path / "whole.yaml").write_text(whole_recipe(recipe), encoding="utf-8")
    assert load_recipe(tmp_path / "whole.yaml") == recipe
    for wrong in ("0", "[3, 2]", "[1]", "[0, 2]", "[1, 2, 3]", "two", "true", "1.5"):
        with pytest.raises(RecipeError, match=r"pretrain\.workers: a number of at least 1, or two, \[least, most\], found"):
            load_recipe(tmp_path / "mine.yaml", [f"pretrain.workers={wrong}"])


def test_what_is_asked_and_what_is_there_are_said_with_memory_where_it_is_asked() -> None:
    free, total = {"CPU": 1.0, "memory": 2e9, "node:1": 1.0}, {"CPU": 4.0, "GPU": 1.0, "memory": 7.25e9}
    assert room_words([{"CPU": 1.0}, {"CPU": 1.0}], free, total) == ("2 × (1 CPU)", "1 CPU free of 4 CPU 1 GPU")
    assert room_words([{"CPU": 1.0, "memory": 3e9}], free, total) == (
        "1 × (1 CPU 3 GB memory)",
        "1 CPU 2 GB memory free of 4 CPU 1 GPU 7.25 GB memory",
    )
    assert room_words([{"CPU": 1.0}], {}, {}) == ("1 × (1 CPU)", "0 CPU free of 0 CPU")


@pytest.mark.parametrize("error", [RuntimeError("Request failed with status code 500"), ConnectionError()], ids=["refused", "gone"])
def test_a_head_that_dies_while_its_job_is_followed_is_said(token: Path, error: Exception) -> None:
    class Client:
        """A job server that gives one line, then goes away."""

        async def tail_job_logs(self, job: str) -> AsyncIterator[str]:
            """Give a line."""
            yield f"{job} works\n"

        def get_job_status(self, job: str) -> str:
            """Fail as Ray's client does without a server."""
            raise error

    with pytest.raises(ResourceError, match="E-CLUSTER lost the job server while following mine-1") as caught:
        _follow(Client(), "mine-1")
    assert caught.value.exit_code == 6
