"""A run with a long stage that stops anywhere goes on to the bits of the unbroken one: before the border, at it, inside; and in fp16."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from prepare_helper import write_corpus
from recipe_helper import points
from test_long_rows import RECIPE

from ernie_core.errors import PreemptedError
from ernie_core.manifest import file_sha256
from pipelines.pretrain_rank import _Rank
from pipelines.rank_state import STOP_NAME
from pipelines.recipe import load_recipe
from pipelines.workflow import run_recipe

BORDER = 19  # last step before the long stage: the stop is seen after the next stage's first
CASES = [("fp32", "continual", 18), ("fp32", "continual", BORDER), ("fp32", "continual", 22), ("fp32", "multi_task", 22), ("fp16", "continual", 21)]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("resume")
    write_corpus(folder / "corpus")
    (folder / "long.yaml").write_text(RECIPE)
    return folder


def run(root: Path, name: str, precision: str, schedule: str) -> Path:
    overrides = ["workers=0", "pretrain.threads=1", "pretrain.skip_steps=1", f"pretrain.precision={precision}", f"pretrain.schedule={schedule}", f"name={name}", "pretrain.model.dropout=0.1"]  # fmt: skip
    place = root / "runs" / name
    if (root / "runs" / "first" / "prepare").exists() and not place.exists():  # one preparation serves all
        shutil.copytree(root / "runs" / "first" / "prepare", place / "prepare")
        shutil.copy(root / "runs" / "first" / "run.json", place)
    run_recipe(load_recipe(root / "long.yaml", overrides), lambda _line: None, until="pretrain")
    return place


def plain(place: Path) -> dict[tuple[int, str], float]:
    """Return what is a function of the settings: speeds are not."""
    return {(p["step"], name): v for p in points(place) for name, v in p["metrics"].items() if not name.startswith(("perf/", "system/"))}


@pytest.mark.parametrize(("precision", "schedule", "stop"), CASES)
def test_a_stop_anywhere_changes_nothing(precision: str, schedule: str, stop: int, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root)
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    unbroken = run(root, "first" if (precision, schedule) == ("fp32", "continual") else f"{precision}_{schedule}", precision, schedule)
    on_step = _Rank.on_step

    def stops(self: Any, result: Any) -> None:
        on_step(self, result)
        if result.step == stop:
            (self.folder / STOP_NAME).touch()

    name = f"stopped_{precision}_{schedule}_{stop}"
    with monkeypatch.context() as patch:
        patch.setattr(_Rank, "on_step", stops)
        with pytest.raises(PreemptedError, match=f"stopped at step {stop + (stop == BORDER)} of 26"):
            run(root, name, precision, schedule)
    stopped = run(root, name, precision, schedule)
    assert file_sha256(stopped / "pretrain" / "model" / "model.safetensors") == file_sha256(unbroken / "pretrain" / "model" / "model.safetensors")
    assert plain(stopped) == plain(unbroken)
