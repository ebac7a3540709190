"""`ernie fill RUN TEXT…`: what a pretrained model puts in the place of [MASK]."""

from __future__ import annotations

import argparse

from jobs.places import run_place


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number above 0")
    return int(text)


def add_fill_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `ernie fill`."""
    parser.add_argument("run", type=run_place, metavar="RUN", help="a run's folder (runs/NAME, s3://BUCKET/runs/NAME), or its pretrain/model")
    parser.add_argument("texts", nargs="+", metavar="TEXT", help="with [MASK] where tokens are to be found")
    parser.add_argument("--top", type=_positive, default=5, metavar="N", help="tokens to name for each (5)")


def fill(args: argparse.Namespace) -> int:
    """Do what the arguments ask, and return 0.

    Raises:
        ErnieError: there is no whole model, or a text without [MASK].
    """
    from ernie_core.inference.fill import Filler, guesses_line
    from pipelines.model_folder import model_folder

    filler = Filler(model_folder(args.run, foreign=False))
    for text in args.texts:
        found = filler.fill(text, args.top)
        print(text)
        for guesses in found.guesses:
            print(f"    {guesses_line(guesses)}")
        print(f"    {found.text}")
    return 0
