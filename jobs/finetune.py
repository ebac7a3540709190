"""`ernie finetune RECIPE`, or `ernie finetune --suite zh|glue --data FOLDER --model RUN`; `python -m jobs.finetune` is the same, for `ray job submit`."""

from __future__ import annotations

import argparse
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
    parser.add_argument("--seeds", type=int, default=5, metavar="N", help="trials of each benchmark, seeds 1 to N (default: 5)")
    parser.add_argument(
        "--preset", choices=["base", "large"], help="the publisher's learning rate, epochs and batch size; without, a grid for small models"
    )
    parser.add_argument("--only", default="", metavar="NAMES", help="these benchmarks of the suite, with commas between them")
    parser.add_argument(
        "--rows", type=int, metavar="N", help="at most so many training rows of each benchmark (such scores compare with no published one)"
    )


def write_suite(args: argparse.Namespace, say: Callable[[str], None]) -> None:
    """Write the recipe that a suite is into `args.recipe`, and say what is left out and why.

    Raises:
        RecipeError: E-ARGUMENT.
        InputError: E-SUITE-EMPTY.
    """
    from pipelines.suite import SUITES, Suite, suite_recipe

    wrong = [
        what for what, bad in (
            ("RECIPE goes without --suite", args.recipe is not None), ("--suite needs --data", args.data is None), ("--suite needs --model", args.model is None),
            ("--seeds must be at least 1", args.seeds < 1), ("--rows must be at least 1", args.rows is not None and args.rows < 1),
        ) if bad
    ]  # fmt: skip
    only = tuple(filter(None, args.only.split(",")))
    wrong += [
        f"--only: {name} is not in suite {args.suite}, which has {', '.join(SUITES[args.suite])}" for name in only if name not in SUITES[args.suite]
    ]
    if wrong:
        raise RecipeError("E-ARGUMENT", "; ".join(wrong), fix="see `ernie finetune --help`")
    run = args.name or f"{args.suite}_of_{args.model.resolve().name}".replace("-", "_")
    suite = Suite(args.suite, args.data, args.model, run, args.seeds, args.preset or "", only, args.rows, tuple(args.overrides))
    text, left_out = suite_recipe(suite)
    for line in left_out:
        say(line)
    args.recipe = Path("runs") / f"{run}.yaml"
    atomic_write(args.recipe, text.encode())
    say(f"suite {args.suite}: written to {args.recipe}")


if __name__ == "__main__":
    from jobs.cli import main

    sys.exit(main(["finetune", *sys.argv[1:]]))
