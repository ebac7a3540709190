"""`ernie shards`: look at shards, check them, count them, turn one file into the other encoding."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ernie_core.errors import InputError, closest
from jobs.places import run_place

if TYPE_CHECKING:
    from ernie_core.data.masking import Masked
    from ernie_core.data.rows import Rows
    from ernie_core.data.shards import ShardSet
    from ernie_core.manifest import Manifest
    from ernie_core.tasks.base import Task
    from ernie_core.vocab import Vocab

SHARDS_EPILOG = """\
examples:
  ernie shards show runs/demo                                      a few rows of each task, readable
  ernie shards show runs/demo --task knowledge_masking --mask word what masking hides of them
  ernie shards show runs/demo --task sentence_reordering --epoch 2 as training reads them in its second epoch
  ernie shards stats runs/demo                                     rows, tokens, lengths, classes
  ernie shards verify runs/demo                                    every hash, every row, both encodings
  ernie shards card runs/demo                                      what is in it, what was left out, shortcuts
  ernie shards convert a.txt.gz a.parquet                          one file, either way
  ernie shards export runs/demo for_baidu                          all of them for Baidu's own reader, with file lists

PATH is the folder of a run, of its prepare step, or the step's manifest.json, on disk or in an object store (s3://BUCKET/PATH, gs://…).
"""
_STYLES = {"special": "dim", "word": "", "phrase": "green", "entity": "yellow", "target": "reverse"}
_RAW = argparse.RawDescriptionHelpFormatter


def add_shards_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the commands under `ernie shards` and their arguments."""
    commands = parser.add_subparsers(dest="shards_command", metavar="COMMAND", required=True)

    def command(name: str, text: str, handle: Any) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text, epilog=SHARDS_EPILOG, formatter_class=_RAW)
        sub.set_defaults(handle=handle)
        return sub

    sub = command("show", "print rows as readable text, with words, units, segments and labels", _show)
    _add_path(sub)
    sub.add_argument("--task", help="only this task (default: all)")
    which = sub.add_mutually_exclusive_group()
    which.add_argument("--row", type=_count, metavar="N", help="the row of this number, from 0, over all shards of the subset")
    which.add_argument("--rows", type=_count, metavar="K", default=3, help="K rows, spread evenly (default: 3)")
    sub.add_argument("--epoch", type=_count, metavar="E", help="as training reads them in this epoch, from 0: permuted where the task permutes")
    sub.add_argument("--mask", metavar="UNIT", help="what masking hides, with probability 0.15: basic, word, phrase, entity (epoch 0, or --epoch)")
    sub.add_argument("--seed", type=_count, default=7, help="the recipe's seed, from which masks and permutations follow (default: 7)")
    _add_subset(sub)
    sub = command("stats", "count rows, tokens, lengths, classes and [UNK], from the rows themselves", _stats)
    _add_path(sub)
    sub.add_argument("--task", help="only this task, a line for each shard")
    sub = command("verify", "check every hash, every row's contract, and that both encodings hold the same rows", _verify)
    _add_path(sub)
    sub = command("card", "print the data card, after checking its hash", _card)
    _add_path(sub)
    sub = command("convert", "turn one file from the seed's gzip text into Parquet, or back", _convert)
    sub.add_argument("source", type=Path, help="a .gz text file or a .parquet file")
    sub.add_argument("target", type=Path, help="the other kind, by its ending")
    sub.add_argument(
        "--token-label", action="append", default=[], metavar="TASK", help="a further field between seg_labels and label, in order; repeat for more"
    )
    sub.add_argument("--group-rows", type=int, default=512, help="rows per row group (default: 512)")
    sub = command("export", "write five-field .gz files, file lists and the vocabulary, as Baidu's own reader takes them", _export)
    _add_path(sub)
    sub.add_argument("target", type=Path, metavar="OUT", help="a folder, which gets one of each task; the lists name files as you name it")
    sub.add_argument("--task", help="only this task (default: all)")
    sub.add_argument(
        "--mask-word-probability", type=_probability, default=1.1, metavar="P", help="second column of the lists (default: 1.1, always words)"
    )


def _add_path(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "path", type=run_place, metavar="PATH", help="a run's folder, its prepare step's, or that one's manifest.json; s3:// and gs://, too"
    )


def _add_subset(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--subset", choices=["train", "valid"], default="train", help="(default: train)")


def _count(text: str) -> int:
    value = int(text)
    if value < 0:
        raise ValueError(text)
    return value


_count.__name__ = "number from 0"  # what argparse calls it in its message


def _probability(text: str) -> float:
    value = float(text)
    if not 0 <= value < math.inf:
        raise ValueError(text)
    return value


_probability.__name__ = "number from 0; above 1 means always words"


def _opened(path: Path) -> tuple[Path, Manifest, Vocab]:
    """Return the prepare step's folder, its manifest and its vocabulary."""
    from ernie_core.manifest import MANIFEST_NAME, read_manifest
    from ernie_core.object_store import refresh
    from pipelines.prepared import prepared_tokenizer

    folder = path.parent if path.name == MANIFEST_NAME else path
    if not refresh(folder / MANIFEST_NAME) and refresh(folder / "prepare" / MANIFEST_NAME):
        folder = folder / "prepare"
    manifest = read_manifest(folder)
    return folder, manifest, prepared_tokenizer(folder, manifest).vocab


def _tasks(manifest: Manifest, only: str | None) -> list[str]:
    held = sorted({str(f.facts["task"]) for f in manifest.files if "task" in f.facts})
    if only is not None and only not in held:
        raise InputError("E-NAME", f"there are no shards of task {only!r}", expected=f"one of {closest(only, held)}", fix="correct --task")
    return held if only is None else [only]


def _encoding(manifest: Manifest, task: str) -> str:
    """Return "parquet" where a task has it, since it holds units, else "text"."""
    held = {f.facts["encoding"] for f in manifest.files if f.facts.get("task") == task}
    return "parquet" if "parquet" in held else "text"


def _show(args: argparse.Namespace) -> int:
    import numpy as np
    from rich.console import Console

    from corpus_prep.readable import LEGEND
    from ernie_core.data.masking import mask_rows, unit_code
    from ernie_core.data.shards import ShardSet
    from ernie_core.tasks.base import all_tasks
    from ernie_core.training.feed import read_rows

    if args.mask is not None:
        unit_code(args.mask)
    folder, manifest, vocab = _opened(args.path)
    console = Console(highlight=False, soft_wrap=True, markup=False)
    epoch = 0 if args.epoch is None and args.mask is not None else args.epoch
    legend = LEGEND if args.mask is None else f"{LEGEND} To be predicted: [MASK], a random token with ~ behind it, the same token with = behind it."
    console.print(legend, style="dim")
    for name in _tasks(manifest, args.task):
        shards = ShardSet.open(folder, manifest, name, args.subset, _encoding(manifest, name))
        task = all_tasks()[name]
        meanings = task.meanings(manifest.settings.get("tasks", {}).get(name, {}))
        for number in _chosen(shards.num_rows, args, name):
            group, row = _place(shards, number)
            at = (np.array([group]), np.array([row]))
            rows = shards.gather(*at) if epoch is None else read_rows(shards, task, *at, args.seed, epoch)
            masked = None
            if args.mask is not None:
                masked = mask_rows(rows, unit=args.mask, seed=args.seed, epoch=epoch, vocab_size=vocab.size,
                                   num_special=vocab.num_leading_specials, mask_id=vocab.mask_id)  # fmt: skip
            _print_row(console, rows, masked, task, meanings, vocab, f"{args.subset} row {number} of {shards.num_rows:,} ({shards.file_of(group)})")
    return 0


def _chosen(num_rows: int, args: argparse.Namespace, task: str) -> list[int]:
    if args.row is None:
        wanted = min(args.rows, num_rows)
        return [i * num_rows // wanted for i in range(wanted)]
    if args.row >= num_rows:
        raise InputError("E-ROW", f"task {task} has no such row", expected=f"0 to {num_rows - 1}", found=str(args.row), fix="correct --row")
    return [args.row]


def _place(shards: ShardSet, number: int) -> tuple[int, int]:
    """Return (row group, row in it) of a row counted over all shards."""
    for group, lengths in enumerate(shards.group_lengths):
        if number < len(lengths):
            return group, number
        number -= len(lengths)
    raise AssertionError(number)


def _print_row(console: Any, rows: Rows, masked: Masked | None, task: Task, meanings: Sequence[str], vocab: Vocab, where: str) -> None:
    from rich.text import Text

    from corpus_prep.readable import kind_name, pieces, seen, segments
    from ernie_core.errors import printable

    sample = rows.sample(0)
    console.print()
    label = "" if sample.label < 0 else f", label {sample.label}"
    if 0 <= sample.label < len(meanings):
        label += f" = {meanings[sample.label]}"
    console.print(f"{task.name}, {where}, {rows.num_tokens} tokens{label}", style="bold")
    for kind, parts in segments(pieces(sample, vocab, task.name), sample):
        line = Text(f"  {kind} ", style="dim")
        for piece in parts:
            text, is_target = (piece.text, False) if masked is None else seen(sample, masked, piece, vocab)
            line.append(" ").append(printable(text, 1000), style=_STYLES["target" if is_target else kind_name(piece.kind)])
        console.print(line)


def _stats(args: argparse.Namespace) -> int:
    from rich.console import Console
    from rich.table import Table

    from corpus_prep.shard_stats import Stats, histogram, shard_stats

    folder, manifest, vocab = _opened(args.path)
    found: dict[tuple[str, str], Stats] = {}
    for task in _tasks(manifest, args.task):
        for subset in ("train", "valid"):
            by_shard = shard_stats(folder, manifest, vocab, task, subset, _encoding(manifest, task))
            for shard, stats in by_shard.items():
                found.setdefault((task, shard if args.task else subset), Stats()).add(stats)
    longest = max((int(s.lengths.max(initial=0)) for s in found.values()), default=0)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("task", "shard" if args.task else "subset", "rows", "tokens", "median", "longest", f"lengths 1 to {longest}", "[UNK]", "classes"):
        table.add_column(name, justify="right" if name in ("rows", "tokens", "median", "longest", "[UNK]") else "left", no_wrap=name != "classes")
    for (task, part), s in found.items():
        total = sum(s.classes.values())
        classes = "  ".join(f"{k}: {n / total:.1%}" for k, n in sorted(s.classes.items()))
        middle, last = (f"{int(f(s.lengths))}" if s.rows else "" for f in (_median, max))
        unknown = f"{s.unknown / max(1, s.tokens):.2%}"
        table.add_row(task, part, f"{s.rows:,}", f"{s.tokens:,}", middle, last, histogram(s.lengths, longest), unknown, classes)
    Console(width=None if sys.stdout.isatty() else 240, highlight=False, markup=False).print(table)
    return 0


def _median(values: Any) -> float:
    import numpy as np

    return float(np.median(values))


def _verify(args: argparse.Namespace) -> int:
    from corpus_prep.verify import verify
    from ernie_core.object_store import kept_at

    folder, manifest, vocab = _opened(args.path)
    done = verify(folder, manifest, vocab)
    print(f"{kept_at(folder)}: {done['files']:,} files, {done['rows']:,} rows, {done['tokens']:,} tokens: all as the manifest says")
    return 0


def _card(args: argparse.Namespace) -> int:
    from ernie_core.manifest import verified_path

    folder, manifest, _ = _opened(args.path)
    cards = [f for f in manifest.files if f.facts.get("card")]
    if not cards:
        raise InputError(
            "E-CARD", "these shards have no card", where=str(folder), fix="an import of the seed's files has none; `ernie shards stats` counts it"
        )
    print(verified_path(folder, cards[0]).read_text(encoding="utf-8"), end="")
    return 0


def _convert(args: argparse.Namespace) -> int:
    """Convert one file; say on stderr what the target cannot hold."""
    from ernie_core.data.reference import convert_shard_file

    lost = convert_shard_file(args.source, args.target, token_labels=args.token_label, group_rows=args.group_rows)
    if lost:
        print(f"text cannot hold {', '.join(lost)}: left out of {args.target}", file=sys.stderr)
    return 0


def _export(args: argparse.Namespace) -> int:
    """Export every task; say on stderr what five fields cannot hold."""
    from ernie_core.data.reference import export_rows
    from ernie_core.data.shards import ShardSet
    from ernie_core.manifest import atomic_write

    folder, manifest, vocab = _opened(args.path)
    for name in _tasks(manifest, args.task):
        left_out: dict[str, None] = {}
        for subset in ("train", "valid"):
            shards = ShardSet.open(folder, manifest, name, subset, _encoding(manifest, name))
            left_out.update(dict.fromkeys(export_rows(shards, args.target / name, subset, args.mask_word_probability)))
            print(f"{args.target / name}/{subset}_filelist: {shards.num_rows:,} rows")
        if left_out:
            print(f"{name}: five fields cannot hold the labels of single tokens ({', '.join(left_out)}), which are left out", file=sys.stderr)
    atomic_write(args.target / "vocab.txt", "".join(f"{token}\t{number}\n" for number, token in enumerate(vocab.tokens)).encode())
    return 0
