from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from training_helper import FINGERPRINT, HEADS, make_batch, make_config, processes, read_log, run, train_12_steps, weights_sha256

from ernie_core.errors import IntegrityError, OutputError, ResourceError
from ernie_core.model.embeddings import TorchBatch
from ernie_core.model.ernie import ErnieForBenchmark, ErnieForPretraining
from ernie_core.model.heads import Head
from ernie_core.training import checkpoint
from ernie_core.training.optim import adamw, set_learning_rate
from ernie_core.training.worker import LocalWorker

torch.set_num_threads(1)
SIGKILLED = -9
# Point, its visit, and the step that is saved when it falls; where training is killed, a write beside it may have been, so that it is the one before.
# Checkpoints at steps 4, 8 and 12; the purge begins at the third.
KILLS = [
    ("ckpt.before_tmp:1", 0), ("ckpt.mid_write:1", 0), ("ckpt.mid_write:6", 4), ("ckpt.after_files:2", 4), ("ckpt.before_manifest:2", 4),
    ("ckpt.after_manifest:2", 8), ("ckpt.mid_purge:1", 12), ("train.after_forward:11", 4), ("train.before_step:6", 4), ("train.after_step:8", 4),
    ("train.before_report:9", 8), ("train.after_report:5", 4), ("train.mid_eval:2", 8),
]  # fmt: skip


def newest_step(folder: Path) -> int:
    found = checkpoint.latest(folder, warn=print)
    return 0 if found is None else int(json.loads((found / "state.json").read_text())["step"])


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unbroken")
    assert processes(train_12_steps, folder, 1) == [0]
    return folder


@pytest.mark.parametrize(("failpoint", "saved"), KILLS)
def test_a_killed_run_ends_with_the_bits_of_the_unbroken_one(failpoint: str, saved: int, unbroken: Path, tmp_path: Path) -> None:
    assert processes(train_12_steps, tmp_path, 1, failpoint) == [SIGKILLED]
    assert newest_step(tmp_path) in ({saved} if failpoint.startswith("ckpt") else {saved, saved - 4})
    assert 12 not in read_log(tmp_path) or newest_step(tmp_path) < 12 or "purge" in failpoint, "the kill must land while work is pending"
    assert processes(train_12_steps, tmp_path, 1) == [0]
    assert read_log(tmp_path) == read_log(unbroken)
    assert len(read_log(tmp_path)) == 12
    assert weights_sha256(tmp_path) == weights_sha256(unbroken)


def test_three_killed_ranks_end_with_the_bits_of_three_unbroken_ones(tmp_path: Path) -> None:
    for name in ("broken", "whole"):
        (tmp_path / name).mkdir()
    codes = processes(train_12_steps, tmp_path / "broken", 3, "train.before_step:7")
    assert codes[0] == SIGKILLED
    assert 0 not in codes
    assert newest_step(tmp_path / "broken") in {0, 4}
    assert processes(train_12_steps, tmp_path / "broken", 3) == processes(train_12_steps, tmp_path / "whole", 3) == [0] * 3
    assert read_log(tmp_path / "broken") == read_log(tmp_path / "whole")
    assert weights_sha256(tmp_path / "broken") == weights_sha256(tmp_path / "whole")


def trained(steps: int = 1, heads: dict[str, Head] = HEADS) -> tuple[ErnieForPretraining, torch.optim.Optimizer]:
    model = ErnieForPretraining(make_config(), heads, seed=1)
    optimizer = adamw(model, weight_decay=0.01, beta2=0.98)
    set_learning_rate(optimizer, 1e-2)
    for step in range(steps):
        losses = model.losses(TorchBatch.from_numpy(make_batch(step), torch.device("cpu")), None)
        optimizer.zero_grad()
        torch.stack([loss.sum for loss in losses.values()]).sum().backward()
        optimizer.step()
    return model, optimizer


def save(folder: Path, step: int, keep: int = 2) -> Path:
    return checkpoint.save(folder, step, checkpoint.Copy.of(*trained(), {"step": step}), keep, FINGERPRINT)


def test_only_the_newest_are_kept_and_other_folders_are_left_alone(tmp_path: Path) -> None:
    mine = tmp_path / "step-notes"
    mine.mkdir()
    kept = [save(tmp_path, step) for step in (1, 2, 3, 10)][-2:]
    assert sorted(tmp_path.iterdir()) == sorted([*kept, mine])


def test_a_folder_without_any_checkpoint_or_none_at_all_has_no_latest(tmp_path: Path) -> None:
    assert checkpoint.latest(tmp_path, warn=print) is None
    assert checkpoint.latest(tmp_path / "missing", warn=print) is None


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors", "state.json", "manifest.json", "ernie_config.json"])
def test_a_damaged_checkpoint_is_passed_over_with_a_warning(name: str, tmp_path: Path) -> None:
    good, bad = save(tmp_path, 1), save(tmp_path, 2)
    raw = bytearray((bad / name).read_bytes())
    raw[len(raw) // 2] ^= 1
    (bad / name).write_bytes(raw)
    warnings: list[str] = []
    assert checkpoint.latest(tmp_path, warnings.append) == good
    assert len(warnings) == 1
    assert bad.name in warnings[0]


def test_when_every_checkpoint_is_damaged_training_does_not_begin_anew(tmp_path: Path) -> None:
    for step in (1, 2):
        (save(tmp_path, step) / "model.safetensors").unlink()
    with pytest.raises(IntegrityError, match="E-CKPT-BAD") as e:
        checkpoint.latest(tmp_path, lambda _text: None)
    assert e.value.exit_code == 4


def test_other_settings_are_refused_by_key_and_equal_ones_pass(tmp_path: Path) -> None:
    folder = save(tmp_path, 1)
    checkpoint.check_fingerprint(folder, FINGERPRINT)
    with pytest.raises(OutputError, match=r"model.hidden_size: 16 in the checkpoint, 32 now; new: absent in the checkpoint, 1 now") as e:
        checkpoint.check_fingerprint(folder, {"seed": 1, "model": {"hidden_size": 32}, "new": 1})
    assert (e.value.code, e.value.exit_code) == ("E-CKPT-FINGERPRINT", 5)


def test_another_number_of_threads_is_named(tmp_path: Path) -> None:
    folder = save(tmp_path, 1)
    assert checkpoint.environment_differences(folder) == []
    torch.set_num_threads(2)
    try:
        assert checkpoint.environment_differences(folder) == ["threads: 1 in the checkpoint, 2 now"]
    finally:
        torch.set_num_threads(1)


def test_tensors_that_do_not_fit_are_all_listed(tmp_path: Path) -> None:
    folder = save(tmp_path, 1)
    other = ErnieForPretraining(make_config(), {"next_sentence": Head("sentence", 3, 7), "dialogue": Head("sentence", 2, 8)}, seed=1)
    with pytest.raises(IntegrityError, match="E-CKPT-SHAPE") as e:
        checkpoint.load(folder, other, adamw(other, weight_decay=0.0, beta2=0.98))
    for part in ("missing heads.dialogue.bias", "unexpected heads.token_document.weight", "heads.next_sentence.weight is [2, 16], not [3, 16]"):
        assert part in e.value.found


def test_an_encoder_moves_to_a_benchmark_and_its_output_layer_starts_fresh(tmp_path: Path) -> None:
    source, optimizer = trained()
    folder = checkpoint.save(tmp_path, 1, checkpoint.Copy.of(source, optimizer, {}), 1, FINGERPRINT)
    model = ErnieForBenchmark(checkpoint.read_config(folder), "classification", 2, seed=5)
    start = model.output.weight.detach().clone()
    with pytest.raises(IntegrityError, match=r"missing output.bias.*unexpected heads"):
        checkpoint.load_weights(folder, model)
    checkpoint.load_weights(folder, model, new=["output."], unused=["lm_head.", "heads."])
    assert torch.equal(model.encoder.pooler.weight, source.encoder.pooler.weight)
    assert torch.equal(model.output.weight, start)


def test_a_checkpoint_before_the_first_step_has_no_moments_and_loads(tmp_path: Path) -> None:
    model, optimizer = trained(0)
    folder = checkpoint.save(tmp_path, 0, checkpoint.Copy.of(model, optimizer, {"a": [1, None]}), 1, FINGERPRINT)
    assert checkpoint.load(folder, *trained(1)) == {"a": [1, None]}


def test_the_same_run_twice_writes_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        run(tmp_path / name, 5, LocalWorker(torch.device("cpu")))
    assert weights_sha256(tmp_path / "a") == weights_sha256(tmp_path / "b")


def test_a_full_disk_or_missing_right_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_args: object, **_kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "_write", full)
    with pytest.raises(ResourceError, match="E-DISK-FULL"):
        save(tmp_path, 1)
    shutil.rmtree(tmp_path)
