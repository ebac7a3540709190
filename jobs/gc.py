"""`ernie gc RECIPE`: take away files that killed runs left and that nothing names, and checkpoints that the recipe does not keep."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path


def add_gc_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `ernie gc`."""
    parser.add_argument("recipe", type=Path, metavar="RECIPE", help="a YAML file")
    parser.add_argument("--dry-run", action="store_true", help="list them, and remove nothing")


def gc(args: argparse.Namespace) -> int:
    """Do what the arguments ask, and return 0.

    Raises:
        ErnieError: the recipe is wrong, the folder is not ours, or another run works in it.
    """
    from ernie_core.object_folders import sizes
    from ernie_core.object_store import home, kept_at
    from ernie_core.training.retention import remove
    from pipelines.leftovers import leftovers, spare_checkpoints
    from pipelines.recipe import load_recipe
    from pipelines.run_folder import check_run_folder, locked
    from pipelines.workflow import run_folder

    recipe = load_recipe(args.recipe)
    folder = run_folder(recipe)
    check_run_folder(folder)
    if not (folder.exists() if home(folder) is None else sizes(folder)):
        print(f"{kept_at(folder)}: nothing there")
        return 0
    kept = recipe.pretrain
    with locked(folder):
        spare = [] if kept is None else spare_checkpoints(folder, kept.keep_checkpoints, keep_best=kept.keep_best is not None)
        if home(folder) is not None:
            return _gc_store(folder, spare, dry_run=args.dry_run)
        files = [path for path in leftovers(folder) if not any(path.is_relative_to(checkpoint) for checkpoint in spare)]
        inside = [path for checkpoint in spare for path in checkpoint.rglob("*") if path.is_file()]
        size = sum(path.stat().st_size for path in (*files, *inside))
        for path in (*files, *spare):
            print(path)
        if not args.dry_run:
            for path in files:
                path.unlink()
            for checkpoint in spare:
                remove(checkpoint)
    print(f"{len(files) + len(inside)} files, {size / 1e6:.1f} MB{'' if args.dry_run or not (files or spare) else ', removed'}")
    return 0


def _gc_store(folder: Path, spare: Sequence[Path], *, dry_run: bool) -> int:
    """Take away what nothing names in a run in an object store; the scratch folders of machines may be deleted whole at any time."""
    from ernie_core.object_folders import discard, sizes
    from ernie_core.object_store import home
    from ernie_core.training.retention import remove
    from pipelines.leftovers import left_in_store

    inside = {f"{path.relative_to(folder)}/{name}": size for path in spare for name, size in (sizes(path) or {}).items()}
    files = {name: size for name, size in left_in_store(folder).items() if name not in inside}
    for name in (*files, *inside):
        print(f"{home(folder)}/{name}")
    if not dry_run:
        discard(folder, list(files))
        for path in spare:
            remove(path)
    found = {**files, **inside}
    print(f"{len(found)} files, {sum(found.values()) / 1e6:.1f} MB{'' if dry_run or not found else ', removed'}")
    return 0
