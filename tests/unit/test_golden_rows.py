"""Golden rows: what every task makes of a small fixed corpus, as text. A change here is a change of the data format."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import tasks_helper as toy

from ernie_core.schemas import Sample
from ernie_core.seeding import key
from ernie_core.tasks.base import all_tasks

TASKS = all_tasks()
GOLDEN = Path(__file__).parents[1] / "golden"


def readable(sample: Sample, task: str) -> str:
    """Segments split by |, words by spaces; behind a word its token-level label, behind the row its class."""
    labels = sample.token_labels.get(task, [-1] * len(sample.token_ids))
    text = ""
    for token, seg, label in zip(sample.token_ids[1:], sample.seg_labels[1:], labels[1:], strict=True):
        mark = {1: "+", 0: "-", -1: ""}[label]
        text += " |" if seg == -1 else (" " if seg == 0 else "") + chr(token) + mark
    return f"{sample.label}:{text}"


def test_rows_of_a_fixed_corpus_are_as_they_were(request: pytest.FixtureRequest, golden: Callable[[str, bytes], bool]) -> None:
    """A new task's file is written by --update-golden, which looks at all tasks."""
    held = sorted(TASKS) if request.config.getoption("--update-golden") else sorted(p.stem for p in (GOLDEN / "rows").glob("*.txt"))
    assert held
    for name in held:
        task, documents = TASKS[name], [*toy.fixed_corpus(), *toy.documents_for(name)]
        options = task.complete({})
        table = toy.counted(task, documents, options)
        ctx = toy.context(toy.ListPool(toy.spans_of(documents, 64)), max_seq_len=64, encode=toy.encode_small, options=options, candidates=table)
        rows, drops = toy.built(task, documents, ctx)
        assert rows, f"the fixed corpus holds nothing for {name}"
        hook = task.at_read or (lambda sample, _: sample)
        lines = [readable(hook(row, key("golden", i)), name) for i, row in enumerate(rows)]
        lines += [f"dropped, {reason}: {n}" for reason, n in sorted((+drops).items())]
        assert golden(f"rows/{name}.txt", ("\n".join(lines) + "\n").encode())
