"""`ernie submission RUN OUT`: the zip that GLUE's leaderboard takes, from a run's test predictions."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_submission_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `ernie submission`."""
    parser.add_argument("run", type=Path, metavar="RUN", help="a run's folder (runs/NAME) whose GLUE benchmarks are fine-tuned")
    parser.add_argument("out", type=Path, metavar="OUT", help="the zip to write")
    parser.add_argument("--partial", action="store_true", help="write it with tasks missing; the leaderboard takes whole ones only")


def submission(args: argparse.Namespace) -> int:
    """Write the zip, say which trial each table comes from, and return 0.

    Raises:
        ErnieError: the run is not fine-tuned, predictions do not fit the leaderboard's tables, or the zip cannot be written.
    """
    from pipelines.submission import write_submission

    write_submission(args.run, args.out, print, partial=args.partial)
    return 0
