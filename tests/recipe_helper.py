"""Runs a recipe up to its pretrained model in this process, over the small texts of tests/golden, and reads what it left."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from ernie_core.manifest import read_manifest
from pipelines.journal import JOURNAL_NAME
from pipelines.recipe import load_recipe
from pipelines.workflow import run_recipe

TEXTS = Path(__file__).parent / "golden" / "texts"
CORPORA = f"""
  pages: {{reader: jsonl, path: "{TEXTS}/documents.jsonl", options: {{title: title, text: text}}}}
  talks: {{reader: dialogue, path: "{TEXTS}/talks.json", options: {{format: json}}}}
"""


def pretrained(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, list[str]]:
    """Return the folder of the recipe's run beside the recipe's file, pretrained, and the lines it said."""
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.chdir(recipe.parent)
    said: list[str] = []
    loaded = load_recipe(recipe, ["workers=0", "pretrain.threads=1", "pretrain.precision=fp32", "pretrain.skip_steps=1"])
    run_recipe(loaded, said.append, until="pretrain")
    return recipe.parent / "runs" / loaded.name, said


def points(run: Path) -> list[dict[str, Any]]:
    """Return what was journalled, one entry a step and occasion."""
    return [json.loads(line) for line in (run / "pretrain" / JOURNAL_NAME).read_text().splitlines()]


def model_facts(run: Path) -> Mapping[str, Any]:
    """Return the facts in the manifest of pretraining."""
    return read_manifest(run / "pretrain").facts
