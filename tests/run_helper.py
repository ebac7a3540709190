"""A finished run's folder as the steps leave it, with invented figures."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from ernie_core.manifest import Manifest, atomic_write, write_manifest
from pipelines.journal import JOURNAL_NAME, Journal

AUDIT = {
    "knowledge_masking": {"metric": "loss", "majority": None, "bars": {"unigram": 6.68}, "best_bar": 6.68, "best_bar_name": "unigram", "train_rows": 20000, "valid_rows": 800},
    "next_sentence": {"metric": "accuracy", "majority": 0.503, "bars": {"majority": 0.503, "length": 0.512, "punctuation": 0.521, "word_overlap": 0.584, "first_half": 0.498, "second_half": 0.515, "unigram_table": 0.533}, "best_bar": 0.584, "best_bar_name": "word_overlap", "train_rows": 20000, "valid_rows": 700},
    "sentence_reordering": {"metric": "accuracy", "majority": 0.252, "bars": {"majority": 0.252, "length": 0.261, "unigram_table": 0.388}, "best_bar": 0.388, "best_bar_name": "unigram_table", "train_rows": 9000, "valid_rows": 300},
    "token_document": {"metric": "average_precision", "majority": 0.31, "bars": {"majority": 0.31, "unigram_table": 0.52}, "best_bar": 0.52, "best_bar_name": "unigram_table", "auc": {"majority": 0.5, "unigram_table": 0.70}, "train_rows": 5000, "valid_rows": 200},
}  # fmt: skip
DIFFERENCES = {
    "reviews": {"median": 0.012, "low": -0.004, "high": 0.028, "draws": 2000},
    "daily_ner": {"median": 0.29, "low": 0.24, "high": 0.33, "draws": 2000},
}


def make_run(run_folder: Path, *, end_loss: float = 5.76, differences: dict[str, Any] | None = None, steps: int = 1800) -> Path:
    """Write prepare, pretrain and finetune folders with manifests, journal, audit and results."""
    _prepare(run_folder / "prepare")
    _pretrain(run_folder / "pretrain", end_loss, steps)
    _finetune(run_folder / "finetune", DIFFERENCES if differences is None else differences)
    return run_folder


def _prepare(folder: Path) -> None:
    counts = {
        "read": 12000,
        "kept": 11500,
        "unsampled": 0,
        "empty": 3,
        "rejected": 0,
        "duplicates": 470,
        "filtered": 10,
        "contaminated": 17,
        "bytes": 21_000_000,
        "chars": 7_100_000,
    }
    tasks = {
        name: {
            "rows": 20800,
            "tokens": 2_100_000,
            "unknown": 12,
            "classes": classes,
            "train": {"rows": 20000},
            "valid": {"rows": rows},
            "drops": drops,
        }
        for name, classes, rows, drops in [
            ("knowledge_masking", {}, 800, {"too_short": 31}),
            ("next_sentence", {"0": 10300, "1": 10500}, 700, {"no_negative": 120, "one_sentence": 31}),
            ("sentence_reordering", {"0": 3000, "1": 3010, "2": 2990}, 300, {"enumeration": 88, "uneven": 410}),
            ("token_document", {}, 200, {}),
        ]
    }
    documents = {
        **counts,
        "by_source": {"news": counts, "新闻<b>": {**counts, "read": 5, "kept": 5}},
        "contaminated_by": {"reviews": 2, "daily_ner": 15},
    }
    facts = {"documents": documents, "tasks": tasks, "vocab": {"size": 6000, "sha256": "0" * 64, "built": True}}
    entry = atomic_write(folder / "audit.json", json.dumps(AUDIT).encode())
    atomic_write(folder / "card.md", b"# Data card\n")
    write_manifest(
        folder, Manifest("prepare", {"seed": 7, "max_seq_len": 128, "corpora": {"news": {"path": "<script>alert(1)</script>"}}}, {}, (entry,), facts)
    )


def _pretrain(folder: Path, end_loss: float, steps: int) -> None:
    rng = np.random.default_rng(0)
    journal = Journal(folder / JOURNAL_NAME)
    border = steps * 2 // 3
    for step in range(20, steps + 1, 20):
        share = step / steps
        loss = 8.7 * math.exp(-12 * share) + end_loss + 0.6 * (1 - share)
        stage, place = (1, step / border) if step <= border else (2, (step - border) / (steps - border))
        rate = 1e-3 * min(place / 0.06, (1 - place) / 0.94 + 1e-9)
        journal.log(step, {"train/lm_loss": loss + rng.normal(0, 0.08), "train/lm_ppl": math.exp(loss), "train/learning_rate": rate, "train/grad_norm": 1.0, "train/stage": stage, "perf/tokens_per_s": 19_000 + rng.normal(0, 700)})  # fmt: skip
        if step % 200 == 0 or step == steps:
            noise = rng.normal(0, 0.015, 6)
            metrics = {
                "valid/knowledge_masking/lm_loss": loss, "valid/next_sentence/acc": 0.50 + 0.13 * share + noise[0], "valid/next_sentence/acc_masked": 0.50 + 0.10 * share + noise[1],
                "valid/sentence_reordering/acc": 0.25 + 0.04 * share + noise[2], "valid/sentence_reordering/acc_masked": 0.25 + 0.03 * share + noise[3],
            }  # fmt: skip
            if stage == 2:
                metrics |= {
                    "valid/token_document/average_precision": 0.33 + 0.12 * place + noise[4],
                    "valid/token_document/auc": 0.55 + 0.1 * place,
                    "valid/token_document/acc": 0.7,
                }
            journal.log(step, metrics)
    journal.close()
    settings = {"seed": 7, "learning_rate": 1e-3, "batch_tokens": 2048, "validation_rows": 512, "model": {"num_hidden_layers": 4, "hidden_size": 256}}
    facts = {"steps": steps, "tokens": 3_600_000, "parameters": 4_800_000, "skipped": []}
    write_manifest(folder, Manifest("pretrain", settings, {}, (), facts))


def _finetune(folder: Path, differences: dict[str, Any]) -> None:
    def arm(base: float, rate: float, lift: float, metric: str = "accuracy") -> dict[str, Any]:
        trials = [
            {"seed": seed, "dev": base + 0.005 * seed, "test": base + 0.004 * seed, "best_step": 150, "diverged": False,
             "dev_curve": [[step, base - 0.25 + lift * step / 189 + 0.008 * seed] for step in (31, 63, 94, 126, 157, 189)]}
            for seed in (1, 2, 3)
        ]  # fmt: skip
        tests = [t["test"] for t in trials]
        return {
            "learning_rate": rate,
            "grid": [[2e-4, base - 0.02], [rate, base]],
            "trials": trials,
            "median": tests[1],
            "min": tests[0],
            "max": tests[2],
            "scores": {"test": {metric: {"median": tests[1], "min": tests[0], "max": tests[2]}}},
            "without_overlap": {},
            "truncated": {"train": 0, "dev": 1, "test": 70},
        }

    rows = {"train": 1000, "dev": 1000, "test": 2000}
    shared = {"rows": rows, "scored": "test", "majority": {}, "dropped": {}, "overlap": {}, "official": False, "stands_in": {}}
    benchmarks = {
        "reviews": {
            "metric": "accuracy",
            "kind": "classification",
            **shared,
            "arms": {"pretrained": arm(0.765, 5e-4, 0.25), "untrained": arm(0.753, 1e-3, 0.24)},
        },
        "daily_ner": {
            "metric": "chunk_f1",
            "kind": "tagging",
            **shared,
            "arms": {"pretrained": arm(0.58, 5e-4, 0.25, "chunk_f1"), "untrained": arm(0.29, 5e-4, 0.2, "chunk_f1")},
        },
    }
    for name, benchmark in benchmarks.items():
        benchmark["difference"] = differences.get(name)
    entry = atomic_write(folder / "results.json", json.dumps({"benchmarks": benchmarks}).encode())
    write_manifest(folder, Manifest("finetune", {"seeds": [1, 2, 3]}, {}, (entry,), {"trials": 20}))
