"""`ernie pretrain --train_filelist …`: pretraining with the arguments of Baidu's `train.py` (ernie.md 6.4) on files in the seed's format.

`--checkpoints` is the run's folder, of two steps: `prepare` (the listed files as shards of ours) and `pretrain`. The same command goes on
where it was stopped.
"""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from corpus_prep.filelists import prepare_filelists
from ernie_core.data.reference import read_filelist
from ernie_core.errors import RecipeError, ResourceError
from ernie_core.model.config import ErnieConfig
from ernie_core.vocab import Vocab
from pipelines.outbox import tracking_uri
from pipelines.prepared import NORMALISER_PATH, VOCAB_PATH
from pipelines.pretrain import Machine, pretrain
from pipelines.steps import Say, Step, run_steps
from pipelines.tracked_steps import Tracked, around_steps

TASK = "next_sentence"
_TRUE, _FALSE = ("true", "t", "1"), ("false", "f", "0")


def _text_bool(text: str) -> bool:
    if text.lower() not in {*_TRUE, *_FALSE}:
        raise argparse.ArgumentTypeError(f"{text!r} is neither of {', '.join((*_TRUE, *_FALSE))}")
    return text.lower() in _TRUE


def _positive(text: str) -> int:
    if (value := _not_negative(text)) == 0:
        raise argparse.ArgumentTypeError("must be at least 1")
    return value


def _not_negative(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number of at least 0")
    return int(text)


def build_parser() -> argparse.ArgumentParser:
    """Return the parser; names, defaults and meanings are the seed's, arguments that would do nothing here are not taken."""
    parser = argparse.ArgumentParser(
        prog="ernie pretrain",
        description="Pretrain on files in the seed's format: masked LM and next sentence, summed 1:1 in every batch. "
        "A file list holds `path TAB mask_word_probability` a line.",
    )
    add = parser.add_argument
    add("--train_filelist", type=Path, required=True, help="list of training files")
    add("--valid_filelist", type=Path, required=True, help="list of validation files")
    add("--vocab_path", type=Path, required=True, help="vocabulary: `token TAB id`, or a token a line")
    add("--ernie_config_path", type=Path, required=True, help="the model's shape, ERNIE's JSON")
    add("--checkpoints", type=Path, default=Path("checkpoints"), help="folder of the run (default: checkpoints)")
    add("--learning_rate", type=float, default=1e-4, help="peak learning rate (default: 1e-4)")
    add("--lr_scheduler", choices=["linear_warmup_decay", "noam_decay"], default="linear_warmup_decay", help="(default: linear_warmup_decay)")
    add("--weight_decay", type=float, default=0.01, help="decoupled weight decay (default: 0.01)")
    add("--num_train_steps", type=_positive, default=1_000_000, help="updates, on any number of workers (default: 1000000)")
    add("--warmup_steps", type=_not_negative, default=5000, help="0: constant learning rate (default: 5000)")
    add("--save_steps", type=_positive, default=10_000, help="updates between checkpoints (default: 10000)")
    add("--validation_steps", type=_positive, default=1000, help="updates between validations, each a whole pass (default: 1000)")
    add("--skip_steps", type=_positive, default=10, help="updates between log lines (default: 10)")
    add("--max_seq_len", type=_positive, default=512, help="longer lines are left out (default: 512)")
    add("--batch_size", type=_positive, default=8192, help="tokens in a global batch, padding included (default: 8192)")
    add("--in_tokens", type=_text_bool, default=True, help="must be true: batches are token budgets, as in the seed's own pretraining")
    add(
        "--use_fp16",
        type=_text_bool,
        default=False,
        help="fp16 arithmetic with dynamic loss scaling, for GPUs: CPUs do it in software (default: false)",
    )
    add("--random_seed", type=_not_negative, default=1, help="every random choice follows from it (default: 1)")
    add("--workers", type=_not_negative, default=1, help="ranks on Ray Train; 0: in this process (default: 1)")
    add("--threads", type=_positive, default=2, help="CPU threads a rank (default: 2)")
    add("--device_tokens", type=_positive, default=8192, help="padded tokens a device takes at once (default: 8192)")
    return parser


def from_seed_arguments(argv: Sequence[str], say: Say = print) -> int:
    """Import the listed files and pretrain on them; returns 0.

    Raises:
        ErnieError: see `pipelines.pretrain.pretrain` and `corpus_prep.filelists.prepare_filelists`.
    """
    args = build_parser().parse_args(argv)
    if not args.in_tokens or args.batch_size <= 100:
        raise RecipeError(
            "E-BATCH", "pretraining batches are token budgets", where="--batch_size", expected="--in_tokens true and more than 100 tokens",
            found=f"{args.batch_size}, in_tokens {args.in_tokens}", fix="give the batch in tokens, such as 8192",
        )  # fmt: skip
    vocab = Vocab.load(args.vocab_path)
    config = _config(args.ernie_config_path, vocab, args.max_seq_len)
    listed = [str(f.path) for path in (args.train_filelist, args.valid_filelist) for f in read_filelist(path)]
    steps = [
        Step("prepare", _import_settings(args, vocab), (), _importer(args, vocab), (str(args.train_filelist), str(args.valid_filelist), *listed), keeps_work=False),
        Step("pretrain", {"seed": args.random_seed, **_settings(args, config)}, ("prepare",), _trainer(args), keeps_work=False),
    ]  # fmt: skip
    uri = tracking_uri(str(args.checkpoints), None)
    with contextlib.ExitStack() as stack:
        tracked = Tracked(args.checkpoints.resolve().name, "ernie", uri, asdict(config), args.workers * args.threads)
        run_steps(steps, args.checkpoints, say, around=around_steps(tracked, args.checkpoints, say, stack))
    say(f"model: {args.checkpoints / 'pretrain' / 'model'}")
    return 0


def _config(path: Path, vocab: Vocab, max_seq_len: int) -> ErnieConfig:
    try:
        config = ErnieConfig.from_json(path.read_text(encoding="utf-8"), str(path))
    except OSError as e:
        raise ResourceError(
            "E-MODEL-CONFIG", "cannot read the model's configuration", where=str(path), found=e.strerror or str(e), fix="give its path"
        ) from e
    if vocab.size > config.vocab_size:
        raise RecipeError(
            "E-VOCAB-SIZE",
            "the vocabulary has more tokens than the model",
            where=str(path),
            expected=f"vocab_size of at least {vocab.size}",
            found=str(config.vocab_size),
            fix="correct the configuration",
        )
    if max_seq_len > config.max_position_embeddings:
        raise RecipeError(
            "E-MODEL-CONFIG",
            "lines may be longer than the model's positions",
            where=str(path),
            expected=f"max_position_embeddings of at least {max_seq_len}",
            found=str(config.max_position_embeddings),
            fix="lower --max_seq_len, or correct the configuration",
        )
    return replace(config, use_task_id=False)


def _import_settings(args: argparse.Namespace, vocab: Vocab) -> dict[str, Any]:
    return {
        "tasks": {TASK: {}},
        "max_seq_len": args.max_seq_len,
        "group_rows": 512,
        "encodings": ["text"],
        "vocab_sha256": vocab.sha256,
        "train_filelist": str(args.train_filelist),
        "valid_filelist": str(args.valid_filelist),
    }


def _settings(args: argparse.Namespace, config: ErnieConfig) -> dict[str, Any]:
    return {
        "model": asdict(config), "schedule": "multi_task", "stages": [{"enter": [TASK], "mask_unit": "word", "mask_probability": None, "learning_rate": None, "carry": []}], "iterations": {TASK: args.num_train_steps},
        "init": None, "lm_mode": "always", "lm_weight": 1.0, "loss_weight": 1.0, "token_loss_weight": 1.0, "batch_tokens": args.batch_size, "window_groups": 16,
        "lr_scheduler": args.lr_scheduler, "learning_rate": args.learning_rate, "warmup_steps": args.warmup_steps, "num_train_steps": args.num_train_steps,
        "weight_decay": args.weight_decay, "adam_beta2": 0.999, "clip_norm": 1.0, "spike_sigma": None, "stage_optimizer": "reset",
        "precision": "fp16" if args.use_fp16 else "fp32", "mask_probability": 0.15, "encoding": "text", "validation_steps": args.validation_steps, "validation_rows": 1 << 40,
    }  # fmt: skip


def _importer(args: argparse.Namespace, vocab: Vocab) -> Any:
    lists = {TASK: {"train": args.train_filelist, "valid": args.valid_filelist, "token_labels": (), "options": {}}}
    return lambda context: prepare_filelists(
        lists, vocab=vocab, vocab_path=VOCAB_PATH, normaliser_path=NORMALISER_PATH, folder=context.folder, settings=context.settings,
        parents=context.parent_hashes, say=context.say,
    )  # fmt: skip


def _trainer(args: argparse.Namespace) -> Any:
    machine = Machine(args.workers, args.threads, args.device_tokens, args.save_steps, args.skip_steps, keep_checkpoints=2)
    return lambda context: pretrain(context, prepared=context.parents["prepare"], seed=args.random_seed, machine=machine)
