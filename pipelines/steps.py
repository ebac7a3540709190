"""Runs a recipe's steps in order, each in its own folder: skips what is done, goes on with what was stopped, refuses what is not ours.

A step's folder holds `step.json` (format, step, settings, parents; written first: whose folder this is) and `manifest.json` (last: done).
Source: DESIGN (Manifest), reliability.md F16-F17, F24-F27.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ernie_core.errors import IntegrityError, OutputError, RecipeError, closest
from ernie_core.manifest import MANIFEST_NAME, Manifest, canonical_json, disk_errors, inside, read_manifest, write_record
from ernie_core.object_folders import sizes
from ernie_core.object_store import kept_at, remove
from pipelines.run_folder import FORMAT, INPUTS_NAME, STEP_NAME, check_run_folder, check_writable, locked, move_aside, read_step

Say = Callable[[str], None]


@dataclass
class StepContext:
    """What a step is given. `parents` are the folders of finished steps, `parent_hashes` their manifests' hashes; `run` is the MLflow run."""

    name: str
    folder: Path
    parents: dict[str, Path]
    parent_hashes: dict[str, str]
    settings: dict[str, Any]
    say: Say
    run: Any = None


@dataclass(frozen=True)
class Step:
    """One job with a manifest.

    Args:
        name: also its folder's name.
        settings: those that change its results, JSON values.
        parents: names of the steps whose output it reads.
        run: does the work in `context.folder`, writes manifest.json last and returns it.
        inputs: globs of files outside the run folder that it reads; when one changes, the step runs again.
        keeps_work: work in its folder is checked piece by piece, so it is kept when a parent changed; else the folder is moved aside.
    """

    name: str
    settings: dict[str, Any]
    parents: tuple[str, ...]
    run: Callable[[StepContext], Manifest]
    inputs: tuple[str, ...] = field(default=())
    keeps_work: bool = True


Around = Callable[[StepContext], AbstractContextManager[None]]


def run_steps(
    steps: Sequence[Step],
    run_folder: Path,
    say: Say,
    *,
    around: Around | None = None,
    new_run: bool = False,
    until: str | None = None,
    check: Callable[[], None] = lambda: None,
) -> dict[str, Manifest]:
    """Bring every step up to date, parents first.

    Args:
        steps: in any order; names are unique.
        run_folder: holds one folder a step; made if missing.
        say: receives one line for each thing a person should know.
        around: wraps each step that really runs (tracking).
        new_run: move a folder made with other settings aside, instead of refusing.
        until: stop after this step.
        check: called before the first step, once the folder is known to be ours; raises to refuse the work.

    Returns:
        The manifest of each step that is up to date now, by name.

    Raises:
        OutputError: E-OUTPUT-FOREIGN, E-OUTPUT-SETTINGS, E-LOCKED.
        ResourceError: E-PERMISSION, before any work.
    """
    ordered = _ordered(steps, until)
    check_run_folder(run_folder)
    done: dict[str, Manifest] = {}
    with locked(run_folder):
        for step in ordered:
            _check_ours(step, run_folder, new_run=new_run)
        check()
        for step in ordered:
            done[step.name] = _bring_up_to_date(step, run_folder, done, say, around, new_run=new_run)
    return done


def _ordered(steps: Sequence[Step], until: str | None) -> list[Step]:
    by_name = {step.name: step for step in steps}
    assert len(by_name) == len(steps), "two steps of one name"
    if until is not None and until not in by_name:
        raise RecipeError(
            "E-NAME", f"this recipe has no step {until!r}", expected=f"one of {closest(until, by_name)}", fix="add its section to the recipe"
        )
    ordered: list[Step] = []

    def visit(step: Step, above: tuple[str, ...]) -> None:
        assert step.name not in above, f"steps go round in a circle: {above}"
        if step in ordered:
            return
        for parent in step.parents:
            visit(by_name[parent], (*above, step.name))
        ordered.append(step)

    for step in steps if until is None else [by_name[until]]:
        visit(step, ())
    return ordered


def _check_ours(step: Step, run_folder: Path, *, new_run: bool) -> None:
    folder = run_folder / step.name
    with disk_errors(folder):
        recorded = read_step(folder)
        check_writable(folder)
    if recorded is None or recorded["settings"] == _json(step.settings) or new_run:
        return
    lines = "".join(f"\n  {line}" for line in differences(recorded["settings"], _json(step.settings)))
    raise OutputError(
        "E-OUTPUT-SETTINGS",
        "this folder was made with other settings",
        where=str(folder),
        found=lines,
        fix="give the recipe a new name, or add --new-run to move the old folder aside",
    )


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Return one line for each key whose value differs.

    Example: ``differences({"a": {"b": 1}}, {"a": {"b": 2}})`` -> ``["a.b: was 1, now 2"]``.
    """
    left, right = flat(old), flat(new)
    shown = {
        key: (
            json.dumps(left[key], ensure_ascii=False) if key in left else "not there",
            json.dumps(right[key], ensure_ascii=False) if key in right else "not there",
        )
        for key in {**left, **right}
    }
    return [f"{key}: was {was}, now {now}" for key, (was, now) in sorted(shown.items()) if was != now]


def flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested settings with dotted keys.

    Example: ``flat({"a": {"b": 1}})`` -> ``{"a.b": 1}``.
    """
    out: dict[str, Any] = {}
    for key, item in value.items():
        out |= flat(item, f"{prefix}{key}.") if isinstance(item, dict) and item else {f"{prefix}{key}": item}
    return out


def _json(value: Any) -> Any:
    return json.loads(canonical_json(value))


def _bring_up_to_date(step: Step, run_folder: Path, done: Mapping[str, Manifest], say: Say, around: Around | None, *, new_run: bool) -> Manifest:
    folder = run_folder / step.name
    parents = {name: done[name].sha256 for name in step.parents}
    inputs = _input_states(step.inputs)
    recorded = read_step(folder)
    if recorded is not None and recorded["settings"] != _json(step.settings):
        assert new_run
        say(f"{step.name}: made with other settings, moved to {move_aside(folder).name}")
        recorded = None
    if recorded is not None and (changed := differences(recorded["parents"], parents)):
        say(f"{step.name}: runs again, since {', '.join(line.split(':')[0] for line in changed)} changed")
        if step.keeps_work:
            remove(folder / MANIFEST_NAME)
        else:
            say(f"{step.name}: its old work is moved to {move_aside(folder).name}")
            recorded = None
    elif recorded is not None and (folder / MANIFEST_NAME).exists():
        stale = _changed_inputs(folder, inputs)
        if not stale:
            say(f"{step.name}: up to date")
            return _checked(step, folder, parents)
        say(f"{step.name}: runs again, since input changed: {', '.join(stale[:3])}{' …' if len(stale) > 3 else ''}")
        remove(folder / MANIFEST_NAME)
    elif recorded is not None:
        say(f"{step.name}: goes on where it stopped")
    else:
        say(f"{step.name}: starts")
    body = {"format": FORMAT, "step": step.name, "settings": _json(step.settings), "parents": parents}
    if recorded != body:
        write_record(folder / STEP_NAME, canonical_json(body) + b"\n")
    write_record(folder / INPUTS_NAME, canonical_json(inputs) + b"\n")
    context = StepContext(step.name, folder, {name: run_folder / name for name in step.parents}, parents, step.settings, say)
    with around(context) if around else contextlib.nullcontext():
        step.run(context)
    return _checked(step, folder, parents)


def _checked(step: Step, folder: Path, parents: Mapping[str, str]) -> Manifest:
    """Return the step's manifest; its files must be there with their sizes (their hashes are checked by whoever reads them)."""
    manifest = read_manifest(folder, step.name)
    assert manifest.parents == parents, f"{step.name}: manifest names parents {manifest.parents}, it ran on {parents}"
    there = sizes(folder)
    for entry in manifest.files:
        path = inside(folder, entry.path)
        size = (path.stat().st_size if path.exists() else None) if there is None else there.get(entry.path)
        if size != entry.size_bytes:
            found = "no file" if size is None else f"{size} bytes"
            raise IntegrityError(
                "E-SHARD-MISSING",
                "an output of a finished step is gone or changed",
                where=kept_at(path),
                expected=f"{entry.size_bytes} bytes",
                found=found,
                fix=f"restore it, or delete {folder / MANIFEST_NAME} and run again: what is whole is kept",
            )
    return manifest


def _input_states(patterns: Sequence[str]) -> dict[str, list[int]]:
    """Return size and modification time of every input file: cheap, and enough to notice a change; the step itself compares hashes."""
    from corpus_prep.stores import find  # here, because it loads pyarrow

    return {file.path: [file.size, file.mtime_ns] for pattern in patterns for file in find(pattern)}


def _changed_inputs(folder: Path, inputs: Mapping[str, list[int]]) -> list[str]:
    try:
        before = json.loads((folder / INPUTS_NAME).read_bytes())
    except (OSError, ValueError):
        before = {}
    return [path for path in sorted({*before, *inputs}) if before.get(path) != inputs.get(path)]
