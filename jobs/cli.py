"""The command `ernie`: reads arguments, runs one job, and turns errors into one line and an exit code."""

from __future__ import annotations

import argparse
import os
import select
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from functools import partial
from types import FrameType

from ernie_core.errors import ErnieError, closest
from jobs import convert_glue, export, fill, gc, run, shards, submission, submit

EXIT_CODES = "0 done · 1 a bug · 2 recipe or command line · 3 input text · 4 a file of ours is damaged · 5 output folder · 6 disk, permission or cluster · 7 training diverged · 75 stopped, run again · 130 Ctrl-C · 141 whoever read the output ended"
_EPILOG = f"""\
examples:
  ernie run pipelines/recipes/demo.yaml             everything, or what is left of it: killed anywhere, run it again
  ernie run my.yaml --dry-run                       what it would cost
  ernie run my.yaml --print-config                  every setting, with its meaning
  ernie run my.yaml --set pretrain.learning_rate=5e-4 --set name=other
  ernie prepare my.yaml                             stop after the shards
  ernie fill runs/my "北京是[MASK]国的首都"          what the pretrained model puts there
  ernie export runs/my my_hf                        a folder for Hugging Face's transformers
  ernie convert-glue glue_data glue_tsv             what Baidu's cvt.sh makes of GLUE, with no row lost
  ernie submit my.yaml --follow                     on a Ray cluster; then ernie status | logs | stop my
  ernie pretrain --train_filelist F --valid_filelist G --vocab_path V --ernie_config_path C      with Baidu's own arguments

your own text, in my.yaml:
  name: mine
  corpora:
    news: {{reader: text, path: "news/*.txt"}}        a line is a paragraph, a blank line ends a document
  pretrain: {{}}

exit codes: {EXIT_CODES}
"""
_FINETUNE_EPILOG = f"""\
examples:
  ernie finetune my.yaml                                            a recipe's benchmarks, and every step before them that is not up to date
  ernie run my.yaml --dry-run                                       what the whole recipe would cost
  ernie finetune --suite zh --data chinese --model runs/my          the suite's benchmarks that lie below chinese/, 5 seeds each
  ernie finetune --suite glue --data glue --model bert_folder --only sst2,mrpc --preset base
  ernie finetune --suite glue --data glue --model runs/my --rows 1000 --seeds 1 --set finetune.benchmarks.cola.epochs=1
  ernie finetune --suite zh --data chinese --model runs/my --set finetune.benchmarks.lcqmc.train=chinese/afqmc/train.txt    a stand-in

A suite is written down as runs/NAME.yaml and run; without --preset it tries rates 2e-4, 5e-4 and 1e-3, 3 epochs, rows of 128 tokens.
The table is in runs/NAME/report/report.html, predictions of every trial in runs/NAME/finetune/trials/, mistakes in runs/NAME/finetune/mistakes.html.
Benchmarks beside the suites, such as ocnli, and files and metrics of each: pipelines/docs/benchmarks.md.

your own data, in my.yaml:
  name: mine
  finetune:
    model: runs/my
    arms: [pretrained]
    benchmarks:
      stars:
        custom: {{kind: classification, format: csv, labels: [bad, good], columns: {{text_a: review, label: stars}}}}
        train: train.csv
        dev: dev.csv

exit codes: {EXIT_CODES}
"""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> None:  # type: ignore[override]
        self.exit(2, f"error: E-ARGUMENT {message}; fix: `{self.prog} --help` shows what there is\n")

    def format_help(self) -> str:
        if not self.prog.endswith(" prepare"):
            return super().format_help()
        from corpus_prep.readers.base import all_readers  # here, since it takes a second

        readers = "".join(f"  {line}\n" for reader in all_readers().values() for line in reader.explain())
        return f"{super().format_help()}\nreaders of a corpus (reader: NAME, options: {{OPTION: VALUE}}):\n{readers}"


def _commands() -> dict[str, tuple[str, str, Callable[[argparse.ArgumentParser], None], Callable[[argparse.Namespace], int] | None]]:
    """Return name -> help, what stands below it, what adds the arguments, and what runs it; None where a command has commands of its own."""
    return {
        "run": ("do every step of a recipe that is not up to date", _EPILOG, partial(run.add_arguments, until=None), run.run),
        "prepare": ("do every step of a recipe until the shards are there", _EPILOG, partial(run.add_arguments, until="prepare"), run.run),
        "pretrain": (
            "do every step of a recipe until the pretrained model is there; or, with --train_filelist, Baidu's train.py",
            _EPILOG, partial(run.add_arguments, until="pretrain"), run.run,
        ),
        "finetune": (
            "fine-tune a recipe's benchmarks, after every step before them; or, with --suite, published ones on a model that is there",
            _FINETUNE_EPILOG, partial(run.add_arguments, until="finetune"), run.run,
        ),
        "report": ("do every step of a recipe until the report is there", _EPILOG, partial(run.add_arguments, until="report"), run.run),
        "shards": (
            "look at shards, check and count them, convert one between the seed's text and Parquet",
            shards.SHARDS_EPILOG, shards.add_shards_arguments, None,
        ),
        "export": ("write a pretrained model as a folder of Hugging Face's transformers", _EPILOG, export.add_export_arguments, export.export),
        "fill": ("put tokens in the place of [MASK], by a pretrained model", _EPILOG, fill.add_fill_arguments, fill.fill),
        "convert-glue": (
            "write GLUE's own files in ERNIE's TSV layout, losing no row",
            _EPILOG, convert_glue.add_convert_glue_arguments, convert_glue.convert_glue,
        ),
        "submission": (
            "write the zip that GLUE's leaderboard takes, from a run's test predictions",
            _EPILOG, submission.add_submission_arguments, submission.submission,
        ),
        "submit": ("run a recipe as a job of a Ray cluster", _EPILOG, submit.add_submit_arguments, submit.submit),
        "status": ("what became of a run's submissions to a cluster", _EPILOG, submit.add_run_arguments, submit.status),
        "logs": ("the log of a run's newest submission", _EPILOG, submit.add_logs_arguments, submit.logs),
        "stop": ("stop a run on a cluster, after a last checkpoint", _EPILOG, submit.add_run_arguments, submit.stop),
        "gc": ("take away what killed runs left, and checkpoints that the recipe does not keep", _EPILOG, gc.add_gc_arguments, gc.gc),
    }  # fmt: skip


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands; each sets `handle`."""
    parser = _Parser(
        prog="ernie",
        description="Raw text to shards, a pretrained encoder, and its benchmark results.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=_Parser)
    for name, (text, epilog, add_arguments, handle) in _commands().items():
        sub = commands.add_parser(name, help=text, description=text, epilog=epilog, formatter_class=argparse.RawDescriptionHelpFormatter)
        add_arguments(sub)
        if handle:
            sub.set_defaults(handle=handle)
    return parser


def _dispatch(argv: list[str]) -> int:
    if argv[:1] == ["pretrain"] and any(a.split("=")[0] == "--train_filelist" for a in argv):
        from pipelines.seed_arguments import from_seed_arguments

        return from_seed_arguments(argv[1:])
    parser = build_parser()
    names = list(_commands())
    if not argv:
        parser.print_help()
        return 2
    if not argv[0].startswith("-") and argv[0] not in names:
        parser.error(f"unknown command {argv[0]!r}, expected one of {closest(argv[0], names)}")
    args = parser.parse_args(argv)
    return int(args.handle(args))


class _Terminated(KeyboardInterrupt):
    """SIGTERM: unwinds like Ctrl-C, so that locks, runs and children are let go."""


def _terminate(_signal: int, _frame: FrameType | None) -> None:
    raise _Terminated


def _reader_is_gone() -> bool:
    """Return whether whoever read our output has ended (`ernie … | head`); if so, nothing more is written there."""
    try:
        output = sys.stdout.fileno()
    except (OSError, ValueError):
        return False
    poll = select.poll()
    poll.register(output, 0)
    gone = any(event & select.POLLERR for _, event in poll.poll(0))
    if gone:
        os.dup2(os.open(os.devnull, os.O_WRONLY), output)
    return gone


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    before = signal.signal(signal.SIGTERM, _terminate)
    try:
        code = _dispatch(list(sys.argv[1:] if argv is None else argv))
        sys.stdout.flush()
        return code
    except ErnieError as e:
        print(f"error: {e}", file=sys.stderr)
        return e.exit_code
    except _Terminated:
        print("stopped by SIGTERM; finished work is kept: run the same command again to go on", file=sys.stderr)
        return 75
    except KeyboardInterrupt:
        print("stopped; finished work is kept: run the same command again to go on", file=sys.stderr)
        return 130
    except Exception as e:  # noqa: BLE001  the last line of defence names the bug as one
        if isinstance(e, BrokenPipeError) and _reader_is_gone():
            return 141  # as a shell names a process that SIGPIPE ended
        traceback.print_exc()
        print(
            "error: E-BUG this should not happen; finished work is kept; fix: run the same command again, and report the lines above", file=sys.stderr
        )
        return 1
    finally:
        signal.signal(signal.SIGTERM, before)


if __name__ == "__main__":
    sys.exit(main())
