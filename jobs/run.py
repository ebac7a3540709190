"""`ernie run RECIPE`: a whole recipe, or the part of it until a step; `python -m jobs.run RECIPE`, for `ray job submit`, is the same."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from ernie_core.errors import RecipeError
from ernie_core.object_store import home
from jobs.finetune import add_suite_arguments, stray_suite_arguments, write_suite
from pipelines.portable import check_portable
from pipelines.recipe import load_recipe
from pipelines.recipe_print import print_config
from pipelines.recipe_schema import Recipe
from pipelines.workflow import STEP_NAMES, run_folder, run_recipe, steps_of

IN_A_JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""Ray sets this variable for the entry point of a job."""


def add_arguments(parser: argparse.ArgumentParser, until: str | None = None) -> None:
    """Declare the arguments of `ernie run` (and of `ernie prepare`, …, where `until` is fixed)."""
    if until == "finetune":
        add_suite_arguments(parser)
    else:
        parser.add_argument("recipe", type=Path, metavar="RECIPE", help="a YAML file")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        dest="overrides",
        help="change one setting, such as pretrain.learning_rate=5e-4; repeat for more",
    )
    shown = parser.add_mutually_exclusive_group()
    shown.add_argument("--print-config", action="store_true", help="print every setting with its meaning, and stop")
    shown.add_argument("--dry-run", action="store_true", help="print steps, rows, tokens, bytes, memory and time, and stop")
    parser.add_argument("--new-run", action="store_true", help="move folders made with other settings aside (STEP.old-N) instead of refusing")
    if until is None:
        parser.add_argument("--until", choices=STEP_NAMES, metavar="STEP", help="stop after this step: import, prepare, pretrain, finetune, report")
    else:
        parser.set_defaults(until=until)


def run(args: argparse.Namespace) -> int:
    """Do what the arguments ask, and return 0.

    Raises:
        ErnieError: whatever the recipe or a step has to say.
    """
    if getattr(args, "suite", None) is not None:
        write_suite(args, _say)
    elif stray := stray_suite_arguments(args):
        raise RecipeError("E-ARGUMENT", f"{', '.join(stray)} goes with --suite only", fix="set it in the recipe, or with --set finetune.KEY=VALUE")
    if args.recipe is None:
        raise RecipeError("E-ARGUMENT", "neither RECIPE nor --suite was given", fix="see `ernie finetune --help`")
    recipe = load_recipe(args.recipe, args.overrides)
    if IN_A_JOB in os.environ:
        check_portable(recipe)
    if args.print_config:
        print(print_config(recipe), end="")
        return 0
    if args.dry_run:
        from pipelines.estimate import describe, estimate

        print(describe(estimate(recipe), run_folder(recipe)))
        return 0
    command = ["ernie", "run", str(args.recipe), *(word for setting in args.overrides for word in ("--set", setting))]
    done = run_recipe(recipe, _say, until=args.until, new_run=args.new_run, steps=steps_of(recipe, command))
    _close(recipe, set(done))
    return 0


def _say(line: str) -> None:
    print(line, flush=True)


def _close(recipe: Recipe, done: set[str]) -> None:
    """Print the results, where the report lies, and how to open MLflow."""
    from pipelines.outbox import tracking_uri, ui_command

    folder = run_folder(recipe)
    if "finetune" in done:
        from pipelines.report import summary_table

        print(f"\n{summary_table(folder)}")
    print()
    if "finetune" in done:
        print(f"what is wrong: {folder / 'finetune' / 'mistakes.html'}")
    if "report" in done:
        print(f"report: {folder / 'report' / 'report.html'}")
    if (kept := home(folder)) is not None:
        print(f"the run is in this machine's scratch folder; it is kept in {kept}")
    print(f"MLflow: {ui_command(tracking_uri(recipe.root, recipe.tracking.uri))}")


if __name__ == "__main__":
    from jobs.cli import main

    sys.exit(main(["run", *sys.argv[1:]]))
