"""Who may import whom (DESIGN, Inside), stated as data and enforced on every file of the product."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# Left never imports right. Inside ernie_core one entry a module or folder.
PACKAGES = ("ernie_core", "corpus_prep", "pipelines", "jobs")
CORE = (
    "errors", "seeding", "failpoints", "schemas", "registry", "object_conditions", "object_store", "object_folders", "manifest", "normalise_bert", "normalise", "vocab", "tokenization",
    "tasks", "benchmarks", "data", "model", "interop", "training", "inference",
)  # fmt: skip
# Only these files may import these; every other file of the product may not.
OWNERS = {
    "mlflow": {"pipelines/tracking.py"},
    "jieba": {"corpus_prep/segment.py"},
    "rjieba": {"corpus_prep/segment.py"},
    "nltk": {"ernie_core/benchmarks/metrics/reading.py"},
    "opencc": {"ernie_core/normalise.py"},
    "obstore": {"ernie_core/object_conditions.py", "ernie_core/object_store.py", "ernie_core/object_folders.py"},
    "yaml": {"pipelines/recipe.py"},
    "ray.data": {"corpus_prep/flow.py"},
    "ray.train": {"pipelines/ray_train.py"},
    "ray.job_submission": {"jobs/submit.py"},
    "ray.exceptions": {"jobs/submit.py", "pipelines/ray_train.py"},
    "ray.serve": {"jobs/serve.py"},
    "ray": {"corpus_prep/flow.py", "pipelines/ray_train.py", "pipelines/resources.py"},
}
TORCH_FREE = ("corpus_prep/", *(f"ernie_core/{name}" for name in CORE[: CORE.index("model")]))


def product_files() -> dict[str, str]:
    return {str(p.relative_to(ROOT)): p.read_text(encoding="utf-8") for package in PACKAGES for p in sorted((ROOT / package).rglob("*.py"))}


def imported(source: str) -> list[tuple[str, int]]:
    """Return every module a file names: import statements at any depth, import_module of a literal, and uses such as `ray.data.X`."""
    found: list[tuple[str, int]] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [(alias.name, node.lineno) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found.append(("." * node.level + (node.module or ""), node.lineno))
            found += [(f"{node.module}.{alias.name}", node.lineno) for alias in node.names if node.level == 0]
        elif isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in {"import_module", "__import__"}:
            target = node.args[0] if node.args else None
            found += [(str(target.value), node.lineno)] if isinstance(target, ast.Constant) else []
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "ray":
            found.append((f"ray.{node.attr}", node.lineno))
    return found


def rank(module: str) -> tuple[int, int] | None:
    """Return (package, place inside ernie_core) of one of our modules, None for others."""
    parts = module.split(".")
    if parts[0] not in PACKAGES:
        return None
    place = CORE.index(parts[1]) if parts[0] == "ernie_core" and len(parts) > 1 and parts[1] in CORE else -1
    return PACKAGES.index(parts[0]), place


def owner_of(module: str) -> str | None:
    names = [name for name in OWNERS if module == name or module.startswith(name + ".")]
    return max(names, key=len, default=None)


def violations(files: dict[str, str]) -> list[str]:
    out: list[str] = []
    for path, source in files.items():
        own = path.removesuffix(".py").replace("/", ".").removesuffix(".__init__")
        own_rank = rank(own)
        assert own_rank is not None, path
        if own.startswith("ernie_core.") and own_rank[1] < 0:
            out.append(f"{path}: {own.split('.')[1]} has no place in the table")
        for module, line in imported(source):
            other = rank(module)
            if module.startswith("."):
                out.append(f"{path}:{line}: relative import")
            elif other is not None and other > own_rank:
                out.append(f"{path}:{line}: {own} must not import {module}")
            elif (owner := owner_of(module)) and path not in OWNERS[owner]:
                out.append(f"{path}:{line}: {module} belongs to {', '.join(sorted(OWNERS[owner]))}")
            elif module.split(".")[0] == "torch" and path.startswith(TORCH_FREE):
                out.append(f"{path}:{line}: torch in a torch-free part")
    return out


def test_the_product_keeps_the_rule() -> None:
    files = product_files()
    assert len(files) > 30
    assert violations(files) == []


@pytest.mark.parametrize(
    ("path", "source", "says"),
    [
        ("ernie_core/errors.py", "def f():\n    from ernie_core.manifest import Manifest", "must not import ernie_core.manifest"),
        ("ernie_core/data/rows.py", "import ernie_core.model.config", "must not import ernie_core.model.config"),
        ("ernie_core/tasks/base.py", "from ernie_core import benchmarks", "must not import ernie_core.benchmarks"),
        ("ernie_core/manifest.py", "import corpus_prep.readers", "must not import corpus_prep.readers"),
        ("corpus_prep/flow.py", "from pipelines.recipe import load_recipe", "must not import pipelines.recipe"),
        ("pipelines/steps.py", "import jobs.cli", "must not import jobs.cli"),
        ("ernie_core/data/rows.py", "import torch.nn as nn", "torch in a torch-free part"),
        ("corpus_prep/spans.py", "def f():\n    from torch import nn", "torch in a torch-free part"),
        ("pipelines/report.py", "import mlflow", "mlflow belongs to pipelines/tracking.py"),
        ("corpus_prep/spans.py", "from jieba import posseg", "jieba belongs to corpus_prep/segment.py"),
        ("pipelines/ray_train.py", "import ray.data", "ray.data belongs to corpus_prep/flow.py"),
        ("corpus_prep/flow.py", "import ray\nray.train.report({})", "ray.train belongs to pipelines/ray_train.py"),
        ("pipelines/ray_train.py", "from ray import data", "ray.data belongs to corpus_prep/flow.py"),
        ("jobs/run.py", "import importlib\nimportlib.import_module('ray')", "ray belongs to"),
        ("jobs/run.py", "import yaml", "yaml belongs to pipelines/recipe.py"),
        ("ernie_core/new.py", "", "has no place in the table"),
        ("jobs/run.py", "from . import cli", "relative import"),
    ],
)
def test_each_kind_of_violation_is_caught(path: str, source: str, says: str) -> None:
    assert any(says in line for line in violations({path: source})), violations({path: source})


def test_owners_may_import_what_they_own() -> None:
    assert violations({path: f"import {module}" for module, paths in OWNERS.items() for path in paths}) == []


def test_importing_all_torch_free_parts_loads_no_torch() -> None:
    modules = [p.removesuffix(".py").replace("/", ".").removesuffix(".__init__") for p in product_files() if p.startswith(TORCH_FREE)]
    code = f"import importlib, sys\nfor m in {modules!r}: importlib.import_module(m)\nprint('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("False\n", 0), done.stderr
