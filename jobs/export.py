"""`ernie export RUN OUT`: a pretrained model as a folder of Hugging Face's transformers."""

from __future__ import annotations

import argparse
from pathlib import Path

from jobs.places import run_place


def add_export_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `ernie export`."""
    parser.add_argument("run", type=run_place, metavar="RUN", help="a run's folder (runs/NAME, s3://BUCKET/runs/NAME), or its pretrain/model")
    parser.add_argument("out", type=Path, metavar="OUT", help="a new folder")


def export(args: argparse.Namespace) -> int:
    """Do what the arguments ask, and return 0.

    Raises:
        ErnieError: there is no whole model, or something in the way.
    """
    from pipelines.export import export as write

    for line in write(args.run, args.out):
        print(line)
    return 0
