"""fp16: the loss is scaled, a step that overflows is left out whole, and the scale finds its way."""

from __future__ import annotations

import pytest
import torch
from test_loop import ListFeed, Run, assert_close
from training_helper import make_batch

from ernie_core.errors import DivergedError
from ernie_core.training import precision
from ernie_core.training.precision import GROWTH_STEPS, LEAST_SCALE, MOST_SCALE, START_SCALE, LossScale


def overflow(scaling: LossScale) -> bool:
    """An overflow of the gradients; whether it is excused."""
    return scaling.update(losses_finite=True, gradients_finite=False)


def good(scaling: LossScale, steps: int = 1) -> None:
    for _ in range(steps):
        scaling.update(losses_finite=True, gradients_finite=True)


def test_an_overflow_halves_the_scale_and_many_good_steps_double_it() -> None:
    scaling = LossScale("fp16")
    assert overflow(scaling), "the scale could go down: no sign of divergence"
    assert scaling.scale == START_SCALE / 2
    good(scaling, GROWTH_STEPS - 1)
    assert scaling.scale == START_SCALE / 2
    again = LossScale("fp16")
    again.load_state(scaling.state())
    assert again.scale == scaling.scale
    for one in (scaling, again):
        good(one)
        assert one.scale == START_SCALE
    while scaling.scale > LEAST_SCALE:
        assert overflow(scaling)
    assert not overflow(scaling), "at the least scale it is not the scale's fault"
    scaling.load_state({"scale": MOST_SCALE, "good": GROWTH_STEPS - 1})
    good(scaling)
    assert scaling.scale == MOST_SCALE


def test_losses_that_are_not_finite_are_never_the_scale_s_fault() -> None:
    scaling = LossScale("fp16")
    assert not scaling.update(losses_finite=False, gradients_finite=False)
    assert scaling.scale == START_SCALE / 2


@pytest.mark.parametrize("name", ["bf16", "fp32"])
def test_other_arithmetic_is_never_scaled(name: str) -> None:
    scaling = LossScale(name)
    assert not overflow(scaling)
    assert scaling.scale == 1.0


def test_a_step_that_overflows_changes_nothing_and_training_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "START_SCALE", 2.0**36)
    before: dict[str, torch.Tensor] = {}

    def watch(model: torch.nn.Module) -> None:
        before.update({name: p.detach().clone() for name, p in model.named_parameters()})

    run = Run(ListFeed([[make_batch("same")]] * 60), 60, hook=watch, precision="fp16")
    left_out = [s.step for s in run.steps if s.skipped]
    assert left_out[:4] == [1, 2, 3, 4], "more than three overflows in a row are no divergence"
    assert len(left_out) < 30
    assert [s.loss_scale for s in run.steps[:4]] == [2.0**36, 2.0**35, 2.0**34, 2.0**33]
    assert run.steps[-1].losses["lm"] < 0.5 * run.steps[0].losses["lm"]
    alone = Run(ListFeed([[make_batch("same")]] * 4), 4, precision="fp16")
    assert all(s.skipped for s in alone.steps)
    assert all(torch.equal(value, before[name]) for name, value in alone.weights().items())


def test_the_scale_does_not_change_the_gradients() -> None:
    plain = Run(ListFeed([[make_batch("one")]]), 1, precision="fp32")
    scaled = Run(ListFeed([[make_batch("one")]]), 1, precision="fp16")
    assert_close(plain.gradients[0], scaled.gradients[0], 3e-3)
    assert scaled.steps[0].loss_scale == START_SCALE
    assert scaled.steps[0].losses["lm"] == pytest.approx(plain.steps[0].losses["lm"], rel=2e-3)


def test_numbers_that_stay_bad_at_the_least_scale_end_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "START_SCALE", 4.0)

    def poison(model: torch.nn.Module) -> None:
        with torch.no_grad():
            next(model.parameters()).fill_(float("nan"))

    with pytest.raises(DivergedError):
        Run(ListFeed([[make_batch("same")]] * 9), 9, hook=poison, precision="fp16")


@pytest.mark.parametrize(("has_it", "pays", "found"), [(True, True, "bf16"), (True, False, "fp32"), (False, True, "fp32")])
def test_auto_is_bf16_where_a_processor_has_it_and_is_faster_in_it(has_it: bool, pays: bool, found: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: has_it)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    monkeypatch.setattr(precision, "bf16_pays", lambda: pays)
    assert precision.resolve("auto") == found
    assert precision.resolve("fp32") == "fp32"
    assert precision.resolve("bf16") == "bf16"


@pytest.mark.parametrize(("bf16_ms", "pays"), [(2, False), (8, False), (32, False), (1, True)])
def test_bf16_pays_where_its_product_takes_less_than_two_thirds_of_the_time(bf16_ms: float, pays: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]

    def product(a: torch.Tensor, _b: torch.Tensor) -> None:
        """Let time pass: 2 ms in fp32."""
        now[0] += bf16_ms / 1e3 if a.dtype == torch.bfloat16 else 2e-3

    monkeypatch.setattr(precision.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(torch, "mm", product)
    assert precision.bf16_pays.__wrapped__() is pays
