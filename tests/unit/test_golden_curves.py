"""A golden 20-step loss curve for each recipe that pretrains: its own tasks, stages, weights and schedule, over small texts and a tiny model.

A change here is a change of what training does: read the difference, and write the files anew with --update-golden.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from recipe_helper import CORPORA, pretrained

from pipelines.journal import JOURNAL_NAME, read_points

RECIPES = Path(__file__).parents[2] / "pipelines" / "recipes"
GOLDEN = Path(__file__).parents[1] / "golden" / "curves"
PRETRAINS = sorted(path.stem for path in RECIPES.glob("*.yaml") if "\npretrain:" in path.read_text())
STEPS = 20
TOLERANCE = 2e-4
"""Relative: sums round differently from one processor to the next."""
SKIPPED = "ir_relevance"  # the small texts hold no pages that speak of one thing


def _merged(name: str) -> dict[str, object]:
    """Return a recipe with its bases laid under it."""
    mine = yaml.safe_load((RECIPES / f"{name}.yaml").read_text())
    base = yaml.safe_load((RECIPES / mine.pop("base")).read_text()) if "base" in mine else {}

    def laid(under: object, over: object) -> object:
        return {**under, **{k: laid(under.get(k), v) for k, v in over.items()}} if isinstance(under, dict) and isinstance(over, dict) else over

    merged = laid(base, mine)
    assert isinstance(merged, dict)
    return merged


def _tiny(name: str) -> str:
    """Return the recipe over the small texts: 20 steps in the recipe's proportions, a model of 1 x 16, rows of 48 and 96 tokens."""
    recipe = _merged(name)
    prepare, pretrain = recipe["prepare"], recipe["pretrain"]
    assert isinstance(prepare, dict)
    assert isinstance(pretrain, dict)
    tasks = {task: options for task, options in prepare["tasks"].items() if task != SKIPPED}
    wanted = {task: pretrain["iterations"][task] for task in tasks if task in pretrain["iterations"]}
    counts = {task: max(1, round(STEPS * n / sum(wanted.values()))) for task, n in wanted.items()}
    counts["knowledge_masking"] += STEPS - sum(counts.values())
    stages = [{**stage, "enter": [task for task in stage["enter"] if task != SKIPPED]} for stage in pretrain["stages"]]
    long_rows = {"max_seq_len": 96, "share": 0.5} if prepare.get("long_rows") else None
    small = {
        "name": name, "language": "mixed", "corpora": yaml.safe_load(CORPORA),
        "prepare": {
            **prepare, "tasks": tasks, "vocab_size": 700, "max_seq_len": 48, "valid_share": 0.2, "group_rows": 16, "phrases": 0.3, "max_reject_fraction": 1.0,
            "long_rows": long_rows,
        },
        "pretrain": {
            **pretrain, "model": {"num_hidden_layers": 1, "hidden_size": 16, "num_attention_heads": 2, "dropout": 0.1}, "iterations": counts,
            "stages": [stage for stage in stages if stage["enter"]], "batch_tokens": 512, "validation_steps": 1000, "save_steps": 1000, "learning_rate": 1e-2,
        },
    }  # fmt: skip
    return yaml.safe_dump(small, allow_unicode=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One root, so that MLflow's store is made once."""
    return tmp_path_factory.mktemp("curves")


def test_every_recipe_that_pretrains_has_a_curve() -> None:
    assert sorted(path.stem for path in GOLDEN.glob("*.txt")) == PRETRAINS
    assert len(PRETRAINS) >= 6


@pytest.mark.parametrize("name", PRETRAINS)
def test_the_curve_is_the_golden_one(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    (folder / "tiny.yaml").write_text(_tiny(name))
    run, _ = pretrained(folder / "tiny.yaml", monkeypatch)
    found = [(p.step, p.metrics["train/loss"]) for p in read_points(run / "pretrain" / JOURNAL_NAME)[0] if "train/loss" in p.metrics]
    path = GOLDEN / f"{name}.txt"
    if request.config.getoption("--update-golden"):
        path.parent.mkdir(exist_ok=True)
        path.write_text("".join(f"{step}\t{loss:.6f}\n" for step, loss in found))
    kept = [line.split("\t") for line in path.read_text().splitlines()]
    assert [step for step, _ in found] == [int(step) for step, _ in kept] == list(range(1, STEPS + 1))
    assert [loss for _, loss in found] == pytest.approx([float(loss) for _, loss in kept], rel=TOLERANCE)
