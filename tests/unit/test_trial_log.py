"""The seed's evaluation lines, and what is said when a trial is done."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from finetune_helper import TOKENIZER, toy_step

from ernie_core.benchmarks.base import Example
from ernie_core.benchmarks.classification import REVIEWS
from pipelines.finetune import finetune
from pipelines.trial_log import done_line, evaluation_line


def test_a_line_holds_loss_metric_rows_and_place() -> None:
    encoded = REVIEWS.encode([Example(("好",), (1,)), Example(("坏",), (0,))], REVIEWS, TOKENIZER, 8)
    outputs = np.array([[0, 0], [np.log(3), 0]], np.float32)
    line = evaluation_line(REVIEWS, encoded, outputs, subset="dev", labelled=True, seconds=1.5, file="dev.jsonl", epoch=2, step=7)
    loss = (np.log(2) + np.log(4 / 3)) / 2
    assert line.startswith(f"[dev evaluation] ave loss: {loss:.6f}, acc: 0.500000, data_num: 2, elapsed time: 1.500000 s, file: dev.jsonl")
    assert line.endswith("epoch: 2, steps: 7")
    hidden = REVIEWS.encode([Example(("天",))], REVIEWS, TOKENIZER, 8)
    line = evaluation_line(REVIEWS, hidden, outputs[:1], subset="test", labelled=False, seconds=1.5, file="test.jsonl", epoch=2, step=7)
    assert line.startswith("[test evaluation] data_num: 1, elapsed time"), "what has no labels has no score"


def test_a_done_trial_says_its_scores_and_its_speed() -> None:
    result = {"folder": "x/xnli-pretrained-0.0005-1", "dev": 0.384, "test": None, "best_step": 126, "rows_per_s": 151.7, "diverged": False, "stopped_early": True}  # fmt: skip
    assert done_line(result, "accuracy", 3, 22) == (
        "fine-tune: 3 of 22 trials, xnli-pretrained-0.0005-1: accuracy dev 38.4 %, best at step 126, 152 rows/s (stopped early)"
    )


def test_each_trial_leaves_its_evaluations_and_is_said(tmp_path: Path) -> None:
    context, arguments, said = toy_step(tmp_path, seeds=[1], names=["reviews"])
    context.settings["arms"] = ["pretrained"]
    finetune(context, **arguments)
    (folder, _) = sorted((tmp_path / "finetune" / "trials").iterdir())
    lines = (folder / "trial.log").read_text().splitlines()
    assert [re.match(r"\[(\w+) evaluation\]", line)[1] for line in lines] == ["dev", "dev", "dev", "test"]  # type: ignore[index]
    assert [int(line.rpartition(" ")[2]) for line in lines[:2]] == [7, 13]
    assert [s for s in said if s.startswith("fine-tune: 2 of 2 trials, reviews-pretrained-0.003-1: accuracy dev ")]
    best = max(float(re.search(r"acc: ([\d.]+)", line)[1]) for line in lines[:2])  # type: ignore[index]
    assert float(re.search(r"acc: ([\d.]+)", lines[2])[1]) == pytest.approx(best)  # type: ignore[index]
