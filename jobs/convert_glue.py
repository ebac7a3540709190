"""`ernie convert-glue DIR OUT`: GLUE's own files in ERNIE's TSV layout, losing no row."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_convert_glue_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `ernie convert-glue`."""
    parser.add_argument("glue", type=Path, metavar="DIR", help="GLUE's folder: CoLA, SST-2, MRPC, STS-B, QQP, MNLI, QNLI, RTE, WNLI, diagnostic")
    parser.add_argument("out", type=Path, metavar="OUT", help="where TASK/{train,dev,test}.tsv are written")
    parser.add_argument("--drop-malformed", action="store_true", help="leave out, name and count malformed rows instead of refusing them")


def convert_glue(args: argparse.Namespace) -> int:
    """Do what the arguments ask, print a table of rows, and return 0.

    Raises:
        ErnieError: files are missing, damaged or malformed, or the output cannot be written.
    """
    from ernie_core.benchmarks.glue_conversion import convert

    table = convert(args.glue, args.out, print, drop_malformed=args.drop_malformed)
    width = max(map(len, table))
    print(f"{'file':<{width}} {'rows in':>9} {'out':>9} {'dropped':>9}")
    for name, rows in table.items():
        print(f"{name:<{width}} {rows['in']:>9,} {rows['out']:>9,} {rows['dropped']:>9,}")
    return 0
