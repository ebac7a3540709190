"""What ties a step's MLflow run to the code, the recipe, the data it reads and the runs that made them."""

from __future__ import annotations

import functools
import json
import subprocess
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from ernie_core.manifest import canonical_json, file_sha256, read_manifest, sha256_of
from pipelines.run_folder import INPUTS_NAME, WANTED_NAME
from pipelines.steps import StepContext

_READS = {"prepare": ("import", "preparation"), "pretrain": ("prepare", "pretraining"), "finetune": ("import", "fine-tuning")}
"""Step -> the step whose files are its data, and what it does with them."""


def dataset(path: Path, sha256: str, use: str, profile: Mapping[str, int]) -> dict[str, str]:
    """Return a dataset input: where it lies, the hash of its manifest or file, what the run does with it, and counts.

    Example: ``dataset(Path("/runs/demo/prepare"), "ab…", "training", {"num_rows": 900})`` -> {"source": "/runs/demo/prepare", "sha256": "ab…",
    "use": "training", "profile": '{"num_rows":900}'}.
    """
    return {"source": str(path), "sha256": sha256, "use": use, "profile": canonical_json(dict(profile)).decode()}


@functools.cache
def code_tags() -> dict[str, str]:
    """Return the version of ernie and, where it runs from a checkout of git, the commit and whether files were changed since."""
    package = Path(__file__).resolve().parents[1]
    try:
        tags = {"ernie.version": version("ernie-continual")}
    except PackageNotFoundError:
        tags = {}
    git = ["git", "-C", str(package)]
    try:
        top, commit = subprocess.run([*git, "rev-parse", "--show-toplevel", "HEAD"], capture_output=True, text=True, check=True).stdout.split("\n")[
            :2
        ]
        changed = subprocess.run([*git, "status", "--porcelain", "--untracked-files=no"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):  # no git, or installed from a wheel
        return tags
    if Path(top).resolve() != package:  # installed inside a checkout of something else
        return tags
    return {**tags, "mlflow.source.git.commit": commit, "git.changed_files": str(len(changed.splitlines()))}


def step_tags(context: StepContext, params: dict[str, Any]) -> dict[str, str]:
    """Return the tags of a step: code, recipe, and the data's identity, which is the hash of the manifest of what was prepared or imported.

    Args:
        context: the step.
        params: the whole recipe's settings that change results.
    """
    tags = {**code_tags(), "recipe_sha256": sha256_of(params), **{f"parent.{name}": sha for name, sha in context.parent_hashes.items()}}
    reads = _READS.get(context.name, ("", ""))[0]
    return tags | ({"data_sha256": context.parent_hashes[reads]} if reads in context.parent_hashes else {})


def step_datasets(context: StepContext, run_name: str) -> dict[str, dict[str, str]]:
    """Return the datasets that a step reads, by name: the manifest of an earlier step, and its own input files (hash over names, sizes and times).

    Example: of pretraining ``{"demo-prepare": {"source": "/runs/demo/prepare", "sha256": "be50…", "use": "pretraining", …}}``.
    """
    reads, use = _READS.get(context.name, ("", "reading"))
    found = {}
    if reads in context.parents:
        folder = context.parents[reads]
        found[f"{run_name}-{reads}"] = dataset(folder, context.parent_hashes[reads], use, _profile(folder))
    listed = context.folder / INPUTS_NAME
    files = json.loads(listed.read_bytes()) if listed.exists() else {}
    if files:
        profile = {"num_files": len(files), "num_bytes": sum(size for size, _ in files.values())}
        found[f"{run_name}-{context.name}-files"] = dataset(listed, file_sha256(listed), use, profile)
    return found


def _profile(folder: Path) -> dict[str, int]:
    """Return rows and tokens of a step's files, those of a shard once whatever its encodings; imported files count by part."""
    counts: dict[str, int] = {}
    seen: set[str] = set()
    for entry in read_manifest(folder).files:
        facts = entry.facts
        rows = facts.get("rows", facts.get("documents"))
        shard = facts.get("shard", entry.path)
        if not isinstance(rows, int) or shard in seen:
            continue
        seen.add(shard)
        part = f"{facts.get('task') or facts.get('benchmark') or facts.get('package')}/{facts.get('subset', 'documents')}"
        for name, number in (("num_rows", rows), ("num_tokens", facts.get("tokens", 0)), (part, rows)):
            counts[name] = counts.get(name, 0) + number
    return counts


def step_links(context: StepContext) -> dict[str, Path]:
    """Return the folders of the runs that a step goes on from, by tag; "run.model" is of the run that made the model it starts from.

    Example: of fine-tuning ``{"run.import": Path("/runs/demo/import"), "run.pretrain": Path("/runs/demo/pretrain")}``.
    """
    links = {f"run.{name}": folder for name, folder in context.parents.items()}
    for start in (context.settings.get("init"), context.settings.get("model")):
        if isinstance(start, str):
            path = Path(start).resolve()
            made = [folder for folder in (path / "pretrain", path, path.parent, path.parent.parent) if (folder / WANTED_NAME).exists()]
            links |= {"run.model": made[0]} if made else {}
    return links
