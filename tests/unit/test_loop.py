from __future__ import annotations

import dataclasses
import functools
import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from training_helper import HEADS, TASK_IDS, WEIGHTS, ToyFeed, ToyStep, make_batch, make_config, processes, take

from ernie_core.data.batches import Batch
from ernie_core.errors import DivergedError
from ernie_core.model.ernie import ErnieForPretraining
from ernie_core.training.evaluate import evaluate
from ernie_core.training.health import NONFINITE, Health
from ernie_core.training.loop import Outcome, StepResult, train
from ernie_core.training.optim import adamw
from ernie_core.training.worker import LocalWorker, Worker

torch.set_num_threads(1)
WORKER = LocalWorker(torch.device("cpu"))


class ListFeed:
    """Gives prepared steps."""

    def __init__(self, steps: list[list[Batch]]) -> None:
        self.left = list(steps)

    def next(self) -> ToyStep:
        return ToyStep(self.left.pop(0))


class Run:
    """One call of `train` with what it reported; `changes` go to train()."""

    def __init__(self, feed: object, total: int, worker: Worker = WORKER, hook: object = None, dropout: float = 0.0, **changes: object) -> None:
        self.model = ErnieForPretraining(make_config(dropout), HEADS, seed=1)
        self.gradients: list[dict[str, torch.Tensor]] = []
        self.steps: list[StepResult[ToyStep]] = []
        self.calls: list[object] = []
        optimizer = adamw(self.model, weight_decay=0.01, beta2=0.98)
        optimizer.register_step_pre_hook(
            lambda *_: self.gradients.append({n: p.grad.clone() for n, p in self.model.named_parameters() if p.grad is not None})
        )
        if hook is not None:
            hook(self.model)
        self.outcome: Outcome = train(
            self.model, feed, optimizer, **({
                "worker": worker, "start_step": 0, "total_steps": total, "lr_at": lambda _step: 1e-2, "loss_weights": WEIGHTS,
                "clip_norm": 1e9, "precision": "fp32", "dropout_seed": 3, "on_step": self.steps.append, "save_every": 0,
                "save": lambda *call: self.calls.append(("save", *call)), "validate_every": 0,
                "validate": lambda step: self.calls.append(("validate", step)), "should_stop": lambda: False,
            } | changes),
        )  # fmt: skip

    def weights(self) -> dict[str, torch.Tensor]:
        return {name: p.detach().clone() for name, p in self.model.named_parameters()}


def assert_close(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor], tolerance: float = 1e-6) -> None:
    assert a.keys() == b.keys()
    for name, value in a.items():
        torch.testing.assert_close(value, b[name], atol=tolerance, rtol=tolerance, msg=name)


def test_loss_falls_and_each_step_reports_what_it_did() -> None:
    run = Run(ListFeed([[make_batch("same")]] * 40), 40)
    first, last = run.steps[0], run.steps[-1]
    assert last.losses["lm"] < 0.2 * first.losses["lm"]
    assert last.correct["lm"] == 1.0
    batch = make_batch("same")
    assert (first.step, first.counts, first.tokens) == (1, {"lm": len(batch.target_ids), "next_sentence": 6}, int(batch.lengths.sum()))
    assert run.outcome == Outcome(40, stopped=False)


@settings(max_examples=15)
@given(st.integers(0, 1000), st.sampled_from(TASK_IDS), st.lists(st.integers(1, 5), max_size=3, unique=True))
def test_any_accumulation_gives_the_gradient_of_the_whole_batch(seed: int, task_id: int, cuts: list[int]) -> None:
    whole = make_batch("cut", seed, task_id=task_id)
    bounds = [0, *sorted(cuts), 6]
    parts = [take(whole, slice(a, b)) for a, b in itertools.pairwise(bounds)]
    one, many = Run(ListFeed([[whole]]), 1), Run(ListFeed([parts]), 1)
    assert_close(one.gradients[0], many.gradients[0])
    assert one.steps[0].losses == pytest.approx(many.steps[0].losses, rel=1e-5)


def ragged_gradients(rows: int, folder: Path, worker: Worker) -> None:
    run = Run(ToyFeed(worker, rows=rows), 3, worker)
    if worker.rank == 0:
        save_file({f"{i}/{name}": g.contiguous() for i, found in enumerate(run.gradients) for name, g in found.items()}, folder / "gradients")
        save_file({"loss": torch.tensor([[s.losses["lm"], s.tokens, s.grad_norm] for s in run.steps])}, folder / "steps")


@pytest.mark.parametrize("rows", [6, 5, 2])  # of 2 rows, the first of 3 ranks gets none
def test_one_two_and_three_ranks_give_equal_gradients(rows: int, tmp_path: Path) -> None:
    found = {}
    for world in (1, 2, 3):
        folder = tmp_path / str(world)
        folder.mkdir()
        assert processes(functools.partial(ragged_gradients, rows), folder, world) == [0] * world
        found[world] = load_file(folder / "gradients"), load_file(folder / "steps")["loss"]
    names = {name.partition("/")[2] for name in found[1][0] if name.startswith("0/")}
    assert not any(name.startswith("heads.") for name in names)  # task 0 has no head: absent on every rank, not zero
    for world in (2, 3):
        first = {name: g for name, g in found[world][0].items() if name.startswith("0/")}
        assert_close(first, {name: g for name, g in found[1][0].items() if name.startswith("0/")})
        torch.testing.assert_close(found[world][1], found[1][1], rtol=1e-4, atol=1e-5)


def test_dropout_depends_on_seed_and_step_alone() -> None:
    batches = [[make_batch("same")]] * 2
    one, two = Run(ListFeed(batches), 2, dropout=0.3), Run(ListFeed(batches), 2, dropout=0.3)
    assert one.steps[1].losses == two.steps[1].losses
    assert Run(ListFeed(batches), 1, dropout=0.3, dropout_seed=4).steps[0].losses != one.steps[0].losses
    resumed = Run(ListFeed(batches), 2, dropout=0.3, start_step=1)
    assert resumed.steps[0].losses != one.steps[0].losses  # the same batch and weights in step 2 drop other values


def poison(model: ErnieForPretraining, value: float, where: str) -> None:
    """Add `value` to a gradient, or to the losses, of the steps named in model.poisoned (from 1)."""
    state = {"step": 0}
    losses = model.losses

    def poisoned(batch: object, key: int | None) -> object:
        state["step"] += 1
        found = losses(batch, key)
        if state["step"] in model.poisoned_steps and where == "loss":
            found["lm"] = dataclasses.replace(found["lm"], sum=found["lm"].sum + value)
        return found

    model.losses = poisoned
    if where == "gradient":
        model.lm_head.bias.register_hook(lambda g: g + value if state["step"] in model.poisoned_steps else g)


def poisoning(steps: set[int], value: float, where: str) -> object:
    def hook(model: ErnieForPretraining) -> None:
        model.poisoned_steps = steps
        poison(model, value, where)

    return hook


@pytest.mark.parametrize(("value", "where"), [(float("nan"), "loss"), (float("inf"), "loss"), (float("nan"), "gradient"), (float("inf"), "gradient")])
def test_a_step_with_non_finite_numbers_is_left_out_as_if_it_had_not_been(value: float, where: str) -> None:
    batches = [[make_batch(i)] for i in range(4)]
    run = Run(ListFeed(batches), 4, hook=poisoning({2}, value, where))
    without = Run(ListFeed(batches[:1] + batches[2:]), 3)
    assert [s.skipped for s in run.steps] == ["", NONFINITE, "", ""]
    assert all(torch.equal(a, b) for a, b in zip(run.weights().values(), without.weights().values(), strict=True))


def test_three_bad_steps_in_a_row_end_training_with_exit_code_seven() -> None:
    with pytest.raises(DivergedError, match="steps 3 to 5") as e:
        Run(ListFeed([[make_batch(i)] for i in range(9)]), 9, hook=poisoning({1, 3, 4, 5}, float("nan"), "loss"))
    assert (e.value.code, e.value.exit_code) == ("E-DIVERGED", 7)


def test_bad_steps_before_a_resume_count() -> None:
    health = Health("fp32")
    for step in (1, 2):
        health.judge(step, "toy", {"lm": float("nan")}, float("nan"), 1.0)
    resumed = Health("fp32")
    resumed.load_state(json.loads(json.dumps(health.state())))
    with pytest.raises(DivergedError, match="steps 1 to 3"):
        Run(ListFeed([[make_batch(3)]]), 3, start_step=2, health=resumed, hook=poisoning({1}, float("nan"), "loss"))


def test_a_batch_with_nothing_scored_changes_nothing_and_is_no_fault() -> None:
    empty = dataclasses.replace(make_batch(0), target_positions=np.empty(0, np.int64), target_ids=np.empty(0, np.int64), labels=np.full(6, -1))
    start = ErnieForPretraining(make_config(), HEADS, seed=1).state_dict()
    run = Run(ListFeed([[empty], []]), 2)
    assert all(torch.equal(p, start[name]) for name, p in run.weights().items())
    assert [(s.losses, s.skipped) for s in run.steps] == [({}, "")] * 2


def test_saves_come_before_validations_and_both_after_the_last_step() -> None:
    run = Run(ListFeed([[make_batch(i)] for i in range(5)]), 5, save_every=2, validate_every=4)
    assert run.calls == [("save", 2, False), ("save", 4, False), ("validate", 4), ("save", 5, False), ("validate", 5)]


def test_a_stop_saves_at_once_and_says_so() -> None:
    asked = iter([False, True])
    run = Run(ListFeed([[make_batch(i)] for i in range(5)]), 5, save_every=4, validate_every=1, should_stop=lambda: next(asked))
    assert run.calls == [("validate", 1), ("save", 2, True)]
    assert run.outcome == Outcome(2, stopped=True)


def test_the_learning_rate_of_step_n_is_asked_for_n_counted_from_zero() -> None:
    run = Run(ListFeed([[make_batch(i)] for i in range(3)]), 3, lr_at=lambda step: [0.5, 0.25, 0.125][step] / 100)
    assert [s.learning_rate for s in run.steps] == [0.005, 0.0025, 0.00125]


def test_loss_weights_scale_the_gradient_and_not_the_reported_loss() -> None:
    batch = make_batch("weights", task_id=0)
    one = Run(ListFeed([[batch]]), 1)
    half = Run(ListFeed([[batch]]), 1, loss_weights=WEIGHTS | {"lm": 0.5})
    assert_close({name: g / 2 for name, g in one.gradients[0].items()}, half.gradients[0])
    assert one.steps[0].losses == half.steps[0].losses


def test_evaluation_over_parts_equals_evaluation_of_the_whole_and_brute_force() -> None:
    model = ErnieForPretraining(make_config(), HEADS, seed=1)
    whole = make_batch("evaluation", task_id=2)
    parts = [take(whole, slice(0, 2)), take(whole, slice(2, 6))]
    one = evaluate(model, [whole], worker=WORKER, precision="fp32")
    two = evaluate(model, parts, worker=WORKER, precision="fp32")
    for name in ("lm", "token_document"):
        a, b = one[name], two[name]
        assert (a.count, a.accuracy) == (b.count, b.accuracy)
        assert a.loss == pytest.approx(b.loss, rel=1e-5)
        assert a.global_ppl == pytest.approx(np.exp(a.loss))
    means = [evaluate(model, [p], worker=WORKER, precision="fp32")["lm"].loss for p in parts]
    assert two["lm"].batch_ppl == pytest.approx(np.mean(np.exp(means)))
    assert two["lm"].auc is None
    assert two["token_document"].auc == pytest.approx(brute_force_auc(model, whole), abs=1e-6)
    assert two["token_document"].average_precision == pytest.approx(one["token_document"].average_precision)


def brute_force_auc(model: ErnieForPretraining, batch: Batch) -> float:
    from ernie_core.model.embeddings import TorchBatch

    hidden, _ = model.encoder(TorchBatch.from_numpy(batch, torch.device("cpu")), None)
    logits = model.heads["token_document"](hidden).detach()
    labels = batch.token_labels["token_document"]
    scores = (logits[..., 1] - logits[..., 0]).numpy()
    ones, zeros = scores[labels == 1], scores[labels == 0]
    return float(np.mean((ones[:, None] > zeros) + 0.5 * (ones[:, None] == zeros)))


def ranked_evaluation(folder: Path, worker: Worker) -> None:
    model = ErnieForPretraining(make_config(), HEADS, seed=1)
    whole = make_batch("evaluation", task_id=2)
    parts = [take(whole, slice(0, 2)), take(whole, slice(2, 6))][worker.rank :: worker.world]
    figures = {"token_document": lambda labels, predicted: {"of_ones": float((predicted == labels)[labels == 1].mean())}}
    found = dataclasses.asdict(evaluate(model, parts, worker=worker, precision="fp32", figures=figures)["token_document"])
    values = [*found.pop("figures").values(), *found.values()]
    save_file({"found": torch.tensor(values, dtype=torch.float64)}, folder / f"rank{worker.rank}-{worker.world}")


def test_every_rank_gets_the_evaluation_of_all_ranks(tmp_path: Path) -> None:
    assert processes(ranked_evaluation, tmp_path, 1) + processes(ranked_evaluation, tmp_path, 3) == [0] * 4  # the third rank has no batch
    alone = load_file(tmp_path / "rank0-1")["found"]
    assert len(alone) == 8
    for rank in range(3):
        torch.testing.assert_close(load_file(tmp_path / f"rank{rank}-3")["found"], alone, rtol=1e-12, atol=0)
