"""Every task's labels can be learnt where the answer is visible, and shuffled labels cannot (TASKS, How we know, 2): 2 x 64, 400 steps."""

from __future__ import annotations

import pytest
from planted_helper import learnt

from ernie_core.tasks.base import all_tasks

TASKS = sorted(all_tasks())


@pytest.mark.parametrize("task", TASKS)
def test_a_visible_answer_is_learnt(task: str) -> None:
    found = learnt(task, shuffled=False)
    print(task, found)
    assert found["accuracy"] >= 0.98
    assert found["chance"] < 0.55
    assert found["count"] >= 350


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_shuffled_labels_teach_nothing(task: str) -> None:
    found = learnt(task, shuffled=True)
    print(task, found)
    assert found["accuracy"] <= found["chance"] + 0.02
