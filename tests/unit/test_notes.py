"""What stands at the head of a run's page in MLflow, and the figures that stand for a whole run."""

from __future__ import annotations

from pathlib import Path

import pytest
from run_helper import make_run

from pipelines.notes import WORKFLOW, figures, found_so_far, note


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    return make_run(tmp_path / "demo", steps=600)


def test_each_step_says_what_it_does_and_what_came_of_it(run_folder: Path) -> None:
    prepared = note("prepare", found_so_far("prepare", run_folder))
    assert prepared.startswith("11,500 of 12,000 documents kept.")
    assert "Raw text to shards" in prepared
    assert "| next_sentence | 20,800 | 2,100,000 |" in prepared
    pretrained = note("pretrain", found_so_far("pretrain", run_folder))
    assert "600 steps over 3.6 M tokens, 4.8 M parameters." in pretrained
    assert "- Masked-LM loss on held-out text ended at 5.76 nats" in pretrained
    assert "- next_sentence, accuracy: " in pretrained
    scores = note("finetune", found_so_far("finetune", run_folder))
    assert "| benchmark | metric | arm | median | lowest | highest | learning rate | seeds |\n| --- |" in scores
    assert "| reviews | accuracy | pretrained | 77.3 % | 76.9 % | 77.7 % | 5e-4 | 3 |" in scores
    assert "- reviews (accuracy, 3 seeds), pretrained − untrained: +1.2 points" in scores
    whole = note(WORKFLOW, found_so_far("report", run_folder))
    assert all(part in whole for part in ("600 steps", "Masked-LM loss", "| reviews |"))


def test_a_step_that_has_not_ended_says_what_it_does(run_folder: Path) -> None:
    assert (
        note("pretrain")
        == "Continual multi-task pretraining. Shares are of the tokens trained on so far, figures of `train/` means since the last log line."
    )
    assert note("another") == ""


def test_what_a_later_step_left_from_before_is_no_outcome_yet(run_folder: Path) -> None:
    assert "reviews" not in note(WORKFLOW, found_so_far("pretrain", run_folder))
    assert list(figures(found_so_far("pretrain", run_folder))) == ["valid/knowledge_masking/lm_loss"]


def test_the_figures_of_a_whole_run(run_folder: Path) -> None:
    found = figures(found_so_far("report", run_folder))
    assert found["reviews/pretrained/test/accuracy"] == pytest.approx(0.773)
    assert found["reviews/difference/median"] == 0.012
    assert found["valid/knowledge_masking/lm_loss"] == pytest.approx(5.76, abs=0.01)
    assert len(found) == 7
