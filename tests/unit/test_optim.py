from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from ernie_core.training.optim import adamw, clip_gradients, load_optimizer_tensors, optimizer_tensors, reset, set_learning_rate

torch.set_num_threads(1)


def model_with_gradients(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Embedding(7, 4), nn.Linear(4, 3), nn.LayerNorm(3))
    model(torch.arange(5)).square().sum().backward()
    return model


def test_a_step_is_adam_and_then_decoupled_decay_with_the_value_before() -> None:
    model = model_with_gradients()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    gradients = {name: p.grad.clone() for name, p in model.named_parameters()}
    optimizer = adamw(model, weight_decay=0.1, beta2=0.98)
    set_learning_rate(optimizer, 0.01)
    optimizer.step()
    for name, p in model.named_parameters():
        # First step: both moments over their bias corrections are the gradient and its square (ernie.md 6.2).
        decay = 0.1 if p.ndim > 1 else 0.0
        expected = before[name] - 0.01 * gradients[name] / (gradients[name].abs() + 1e-8) - before[name] * decay * 0.01
        torch.testing.assert_close(p.detach(), expected, atol=1e-6, rtol=1e-5)


def test_biases_and_layer_norms_are_not_decayed_and_embeddings_are() -> None:
    optimizer = adamw(model_with_gradients(), weight_decay=0.1, beta2=0.98)
    assert {tuple(p.shape): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]} == {
        (7, 4): 0.1,
        (3, 4): 0.1,
        (3,): 0.0,
    }


def test_a_parameter_without_gradient_is_neither_moved_nor_decayed() -> None:
    model = model_with_gradients()
    optimizer = adamw(model, weight_decay=0.1, beta2=0.98)
    set_learning_rate(optimizer, 0.01)
    model[0].weight.grad = None
    before = model[0].weight.detach().clone()
    optimizer.step()
    assert torch.equal(model[0].weight, before)
    assert not any("0.weight" in name for name in optimizer_tensors(model, optimizer))


@pytest.mark.parametrize("largest", [1e-3, 1e3])
def test_gradients_are_scaled_to_the_largest_norm_only_when_above_it(largest: float) -> None:
    model = model_with_gradients()
    before = math.sqrt(sum(float(p.grad.square().sum()) for p in model.parameters()))
    assert clip_gradients(model.parameters(), largest) == pytest.approx(before, rel=1e-5)
    after = math.sqrt(sum(float(p.grad.square().sum()) for p in model.parameters()))
    assert after == pytest.approx(min(before, largest), rel=1e-3)


def test_moments_put_back_continue_to_the_bit_and_reset_forgets_them() -> None:
    model, other = model_with_gradients(), model_with_gradients()
    optimizer, second = adamw(model, weight_decay=0.1, beta2=0.98), adamw(other, weight_decay=0.1, beta2=0.98)
    for o in (optimizer, second):
        set_learning_rate(o, 0.01)
    optimizer.step()
    load_optimizer_tensors(other, second, {name: t.clone() for name, t in optimizer_tensors(model, optimizer).items()})
    other.load_state_dict(model.state_dict())
    optimizer.step()
    second.step()
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))
    reset(optimizer)
    assert optimizer_tensors(model, optimizer) == {}
