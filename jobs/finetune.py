"""`ernie finetune RECIPE`, or `ernie finetune --suite zh|glue --data FOLDER --model RUN`; `python -m jobs.finetune` is the same, for `ray job submit`."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable
from pathlib import Path

from ernie_core.errors import RecipeError
from ernie_core.manifest import atomic_write


def add_suite_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare RECIPE, or what makes one: a suite of published benchmarks on a model."""
    parser.add_argument("recipe", type=Path, metavar="RECIPE", nargs="?", help="a YAML file; or instead:")
    parser.add_argument("--suite", choices=["zh", "glue"], help="the seed's nine Chinese benchmarks, or GLUE, as many as lie in --data")
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="folder of the benchmarks' folders, in the publishers' files or ERNIE's TSV")
    parser.add_argument("--model", type=Path, metavar="MODEL", help="a run's folder, a model's, or one of Hugging Face's transformers")
    parser.add_argument("--name", help="name of the suite's run (default: SUITE_of_MODEL)")
    parser.add_argument("--seeds", type=int, metavar="N", help="trials of each benchmark, seeds 1 to N (default: 5)")
    parser.add_argument(
        "--preset", choices=["base", "large"], help="the publisher's learning rate, epochs and batch size; without, a grid for small models"
    )
    parser.add_argument("--only", metavar="NAMES", help="these benchmarks of the suite, with commas between them")
    parser.add_argument(
        "--rows", type=int, metavar="N", help="at most so many training rows of each benchmark (such scores compare with no published one)"
    )


def stray_suite_arguments(args: argparse.Namespace) -> list[str]:
    """Return the arguments given that only mean something with --suite."""
    return [f"--{name}" for name in ("data", "model", "name", "seeds", "preset", "only", "rows") if getattr(args, name, None) is not None]


def write_suite(args: argparse.Namespace, say: Callable[[str], None]) -> None:
    """Write the recipe that a suite is into `args.recipe`, and say what is left out and why.

    Raises:
        RecipeError: E-ARGUMENT.
        InputError: E-SUITE-EMPTY, E-MODEL-MISSING, E-MODEL-PICKLE.
    """
    from ernie_core.benchmarks.base import all_benchmarks
    from pipelines.model_folder import model_folder
    from pipelines.suite import SUITES, Suite, run_name, suite_recipe

    wrong = [
        what for what, bad in (
            ("RECIPE goes without --suite", args.recipe is not None), ("--suite needs --data", args.data is None), ("--suite needs --model", args.model is None),
            ("--seeds must be at least 1", args.seeds is not None and args.seeds < 1), ("--rows must be at least 1", args.rows is not None and args.rows < 1),
        ) if bad
    ]  # fmt: skip
    only = tuple(filter(None, (args.only or "").split(",")))
    for name in (name for name in only if name not in SUITES[args.suite]):
        wrong.append(f"--only: {name} is not in suite {args.suite}, which has {', '.join(SUITES[args.suite])}")
        if name in all_benchmarks():
            wrong.append(f"{name} is a benchmark for a recipe: `{name}: {{path: FOLDER}}`")
    if wrong:
        raise RecipeError("E-ARGUMENT", "; ".join(wrong), fix="see `ernie finetune --help`")
    run = args.name or run_name(args.suite, args.model)
    if not re.fullmatch("[a-z][a-z0-9_]{0,63}", run):
        raise RecipeError(
            "E-ARGUMENT", f"{run!r} is no name for a run", expected="small letters, digits and _, a letter first", fix="give another --name"
        )
    seeds = 5 if args.seeds is None else args.seeds
    suite = Suite(args.suite, args.data.resolve(), args.model.resolve(), run, seeds, args.preset or "", only, args.rows, tuple(args.overrides))
    text, left_out = suite_recipe(suite)
    if not args.print_config:  # before a recipe of this name is written: the corrected command would clash with it
        model_folder(suite.model, foreign=True)
    for line in left_out:
        say(line)
    args.until = None  # a suite ends with its report
    args.recipe = Path("runs") / f"{run}.yaml"
    if args.recipe.exists() and args.recipe.read_text(encoding="utf-8") != text:
        raise RecipeError(
            "E-SUITE-EXISTS", "a recipe of this name is there and says something else", where=str(args.recipe), expected="what the arguments say, or no file",
            fix=f"run it as it is (ernie run {args.recipe}), give another --name, or delete it",
        )  # fmt: skip
    atomic_write(args.recipe, text.encode())
    say(f"suite {args.suite}: written to {args.recipe}")


if __name__ == "__main__":
    from jobs.cli import main

    sys.exit(main(["finetune", *sys.argv[1:]]))
