"""Fine-tuning on Ray: parallel trials give the results of trials run one after the other."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from pipelines.finetune import finetune

sys.path.insert(0, str(Path(__file__).parents[1] / "unit"))
from finetune_helper import toy_step


@pytest.mark.ray
@pytest.mark.usefixtures("cluster")
def test_two_workers_and_none_write_equal_results(tmp_path: Path) -> None:
    found = []
    for workers in (0, 2):
        context, arguments, _ = toy_step(tmp_path / str(workers), seeds=[1, 2], names=["reviews"])
        finetune(context, **{**arguments, "workers": workers})
        trials = sorted((context.folder / "trials").glob("*/outcomes.npy"))
        found.append([(context.folder / "results.json").read_bytes(), *((p.parent.name, p.read_bytes()) for p in trials)])
    assert len(found[0]) == 7
    assert found[0] == found[1]
