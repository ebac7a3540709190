"""`ernie gc RECIPE`: take away files that killed runs left and that nothing names."""

from __future__ import annotations

import argparse
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
    from pipelines.leftovers import leftovers
    from pipelines.recipe import load_recipe
    from pipelines.run_folder import check_run_folder, locked
    from pipelines.workflow import run_folder

    folder = run_folder(load_recipe(args.recipe))
    check_run_folder(folder)
    if not folder.exists():
        print(f"{folder}: nothing there")
        return 0
    with locked(folder):
        found = leftovers(folder)
        size = sum(path.stat().st_size for path in found)
        for path in found:
            print(path)
            if not args.dry_run:
                path.unlink()
    print(f"{len(found)} files, {size / 1e6:.1f} MB{'' if args.dry_run or not found else ', removed'}")
    return 0
