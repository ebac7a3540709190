"""What training does where numbers, data or storage go wrong: left out, gone back, or ended by name (reliability.md F67-F70, F78)."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prepare_helper import document
from training_helper import HEADS, make_config

from ernie_core.errors import ResourceError
from ernie_core.model.ernie import ErnieForPretraining
from ernie_core.training.health import SEEN, SPIKE, Health, Spikes, shown_ids
from ernie_core.training.optim import adamw
from ernie_core.training.retention import complete, step_of
from ernie_core.training.saver import Saver
from ernie_core.training.watched import WatchedFeed
from jobs.cli import main

RECIPE = """
name: tiny
root: {root}
workers: 0
corpora: {{own: {{reader: text, path: "{root}/texts/*.txt"}}}}
prepare: {{split_bytes: 8192, group_rows: 16, vocab_size: 600, max_seq_len: 64, valid_share: 0.2, encodings: [parquet], tasks: {{knowledge_masking: {{}}}}}}
pretrain:
  model: {{num_hidden_layers: 1, hidden_size: 16, num_attention_heads: 2}}
  stages: [{{enter: [knowledge_masking], mask_unit: word}}]
  iterations: {{knowledge_masking: 30}}
  batch_tokens: 256
  device_tokens: 256
  precision: fp32
  threads: 1
  validation_steps: 10
  save_steps: 5
  skip_steps: 1
"""


class Pages:
    """A source whose second step comes late, and third is broken."""

    reading = "shards/a.parquet"

    def __init__(self) -> None:
        self.given = 0
        self.go_on = threading.Event()

    def next(self) -> int:
        """Return 1, then wait, then fail."""
        self.given += 1
        if self.given == 2:
            self.go_on.wait(20)
        if self.given == 3:
            raise OSError("gone")
        return self.given


def test_data_that_do_not_come_are_an_error_with_the_file_and_never_a_hang() -> None:
    source = Pages()
    feed = WatchedFeed(source, 0.3)
    assert feed.next() == 1
    begun = time.monotonic()
    with pytest.raises(ResourceError, match=r"E-DATA-SILENT.*shards/a\.parquet"):
        feed.next()
    assert time.monotonic() - begun < 5
    source.go_on.set()


def test_an_error_of_the_data_is_raised_where_it_was_asked_for() -> None:
    source = Pages()
    source.go_on.set()
    feed = WatchedFeed(source, 5)
    assert [feed.next(), feed.next()] == [1, 2]
    with pytest.raises(OSError, match="gone"):
        feed.next()
    feed.close()


def test_a_spike_is_told_after_enough_losses_and_does_not_hide_the_next() -> None:
    spikes = Spikes(6.0)
    losses = [2.0 + 0.01 * (i % 5) for i in range(SEEN)]
    assert not any(spikes.stands_out("a", loss) for loss in [90.0, *losses[1:]][:-1])
    calm = Spikes(6.0)
    assert not any(calm.stands_out("a", loss) for loss in losses)
    resumed = Spikes(6.0)
    resumed.load_state(json.loads(json.dumps(calm.state())))
    assert [resumed.stands_out("a", loss) for loss in (9.0, 9.0, 2.0)] == [True, True, False]
    assert not resumed.stands_out("b", 9.0), "of another task nothing is known"
    assert not Spikes(None).stands_out("a", 1e9)


def test_a_spike_is_left_out_and_no_sign_of_divergence() -> None:
    health = Health("fp32", 6.0)
    for step in range(1, SEEN + 1):
        assert health.judge(step, "a", {"lm": 2.0}, 2.0, 1.0) == ""
    assert [health.judge(SEEN + i, "a", {"lm": 9.0}, 9.0, 1.0) for i in (1, 2, 3)] == [SPIKE] * 3
    assert (health.skipped, health.bad_in_a_row) == ([SEEN + 1, SEEN + 2, SEEN + 3], 0)
    health.check(SEEN + 3, np.arange(2, dtype=np.uint64))


def test_ids_are_shown_as_far_as_there_is_room() -> None:
    assert shown_ids(np.array([255, 256], np.uint64), 1) == "00000000000000ff and 1 more"


def saved(saver: Saver, step: int, scores: dict[int, float]) -> None:
    model = ErnieForPretraining(make_config(), HEADS, seed=step)
    saver.save(step, model, adamw(model, weight_decay=0.01, beta2=0.98), {"step": step}, {"a": 1}, scores)


def test_the_newest_and_the_best_checkpoint_stay(tmp_path: Path) -> None:
    saver = Saver(tmp_path, keep=2, timeout_s=30)
    for step in (1, 2, 3, 4):
        saved(saver, step, {1: 0.5, 2: 0.9, 3: 0.7})
    saver.wait()
    assert [step_of(folder) for folder in complete(tmp_path)] == [4, 3, 2]


def test_a_checkpoint_that_cannot_be_written_is_told_at_the_next_step(tmp_path: Path) -> None:
    def refuse() -> None:
        """Fail as a full disk does."""
        raise ResourceError("E-DISK-FULL", "no room")

    saver = Saver(tmp_path, keep=2, timeout_s=30, first=refuse)
    saved(saver, 1, {})
    end = time.monotonic() + 20
    with pytest.raises(ResourceError, match="E-DISK-FULL"):
        while time.monotonic() < end:
            saver.check()
            time.sleep(0.01)
    assert complete(tmp_path) == []


def test_a_checkpoint_that_does_not_end_is_told_by_name(tmp_path: Path) -> None:
    stuck = threading.Event()
    saver = Saver(tmp_path, keep=2, timeout_s=0.3, first=lambda: stuck.wait(20) and None)
    saved(saver, 1, {})
    with pytest.raises(ResourceError, match="E-CKPT-SILENT"):
        saved(saver, 2, {})
    stuck.set()


def poisoned(monkeypatch: pytest.MonkeyPatch, bad: set[int]) -> None:
    """Let the training steps of these numbers give a loss that is no number."""
    real, calls = ErnieForPretraining.losses, [0]

    def losses(self: ErnieForPretraining, batch: Any, dropout_key: int | None) -> Any:
        """Return the losses, times NaN at a bad step; validation has no key of dropout."""
        found = real(self, batch, dropout_key)
        if dropout_key is None:
            return found
        calls[0] += 1
        return {name: replace(loss, sum=loss.sum * float("nan")) for name, loss in found.items()} if calls[0] in bad else found

    monkeypatch.setattr(ErnieForPretraining, "losses", losses)


def run_tiny(folder: Path) -> int:
    (folder / "texts").mkdir()
    (folder / "texts" / "a.txt").write_text("\n\n".join(document(i) for i in range(60)) + "\n", encoding="utf-8")
    (folder / "tiny.yaml").write_text(RECIPE.format(root=folder), encoding="utf-8")
    return main(["pretrain", str(folder / "tiny.yaml")])


def test_three_bad_steps_in_a_row_send_a_run_back_and_it_ends_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    poisoned(monkeypatch, {12, 13, 14})
    assert run_tiny(tmp_path) == 0
    log = (tmp_path / "tiny" / "pretrain" / "train.log").read_text(encoding="utf-8")
    assert "WARN E-ROLLBACK steps 11 to 14 are left out, training goes on with the weights of step 10" in log
    result = json.loads((tmp_path / "tiny" / "pretrain" / "result.json").read_bytes())
    assert (result["steps"], result["rollbacks"], result["skipped"]) == (30, 1, [11, 12, 13, 14])


def test_a_run_that_stays_bad_ends_with_exit_code_7_and_the_samples(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    poisoned(monkeypatch, set(range(12, 31)))
    assert run_tiny(tmp_path) == 7
    said = capsys.readouterr().err
    assert "E-DIVERGED" in said
    assert "bad steps in a row, the last on samples" in said
