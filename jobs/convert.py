"""`ernie convert` and `ernie import-shards`: the seed's gzip text and Parquet, either way."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ernie_core.data.reference import convert_shard_file, import_filelists


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


def add_import_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `ernie import-shards`."""
    parser.add_argument("--train-filelist", type=Path, required=True, help="lines of path TAB mask_word_probability")
    parser.add_argument("--valid-filelist", type=Path, help="the same for validation")
    parser.add_argument("--out", type=Path, required=True, help="a new or empty folder")
    parser.add_argument("--task", default="next_sentence", help="the task that the label belongs to (default: next_sentence)")
    parser.add_argument("--max-seq-len", type=int, default=512, help="longer rows are dropped and counted (default: 512 tokens)")
    parser.add_argument("--group-rows", type=int, default=512, help="rows per row group (default: 512)")


def import_shards(args: argparse.Namespace) -> int:
    """Import file lists into `args.out` and print what was read."""
    lists = {"train": args.train_filelist, **({"valid": args.valid_filelist} if args.valid_filelist else {})}
    manifest = import_filelists(lists, args.out, task=args.task, group_rows=args.group_rows, max_seq_len=args.max_seq_len)
    for subset, facts in manifest.facts["subsets"].items():
        print(f"{subset}: {facts['files']} files, {facts['rows']} rows, {facts['tokens']} tokens, {facts['dropped_long']} longer rows dropped")
    print(f"shards: {args.out}")
    return 0
