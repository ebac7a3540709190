"""`ernie convert`: the seed's gzip text and Parquet, either way."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ernie_core.data.reference import convert_shard_file


def add_convert_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `ernie convert`."""
    parser.add_argument("source", type=Path, help="a .gz text file or a .parquet file")
    parser.add_argument("target", type=Path, help="the other kind, by its ending")
    parser.add_argument(
        "--token-label", action="append", default=[], metavar="TASK", help="a further field between seg_labels and label, in order; repeat for more"
    )
    parser.add_argument("--group-rows", type=int, default=512, help="rows per row group (default: 512)")


def convert(args: argparse.Namespace) -> int:
    """Convert one file; say on stderr what the target cannot hold."""
    lost = convert_shard_file(args.source, args.target, token_labels=args.token_label, group_rows=args.group_rows)
    if lost:
        print(f"text cannot hold {', '.join(lost)}: left out of {args.target}", file=sys.stderr)
    return 0
