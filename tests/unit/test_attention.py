"""The fused and the written-out attention are one function, and the fused one's dropout keeps no state."""

from __future__ import annotations

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from ernie_core.model.attention import attention, fused, written_out

CPU = torch.device("cpu")


def inputs(device: torch.device) -> tuple[torch.Tensor, ...]:
    draw = torch.Generator().manual_seed(1)
    q, k, v = (torch.randn(3, 2, 9, 4, generator=draw).to(device).requires_grad_() for _ in range(3))
    padding = torch.arange(9) >= torch.tensor([9, 4, 1])[:, None]
    return q, k, v, torch.zeros(3, 9).masked_fill(padding, -10000.0)[:, None, None, :].to(device)


def test_both_give_the_same_values_and_gradients() -> None:
    found = []
    for attend in (written_out, fused):
        q, k, v, bias = inputs(CPU)
        out = attend(q, k, v, bias, 0.1, None, 3)
        out.square().sum().backward()
        found.append((out.detach(), q.grad, k.grad, v.grad))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("backend", [SDPBackend.MATH, SDPBackend.FLASH_ATTENTION], ids=str)
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16], ids=str)
def test_each_kernel_behind_the_fused_one_has_the_written_out_ones_gradients(backend: SDPBackend, precision: torch.dtype) -> None:
    found = []
    for attend in (written_out, fused):
        *inner, bias = inputs(CPU)
        q, k, v = (tensor.detach().to(precision).requires_grad_() for tensor in inner)
        with sdpa_kernel(backend):
            attend(q, k, v, bias, 0.1, None, 3).float().square().sum().backward()
        found.append((q.grad, k.grad, v.grad))
    bound = 1e-5 if precision == torch.float32 else 0.05
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, atol=bound, rtol=bound)


@pytest.mark.parametrize("device", [CPU, pytest.param(torch.device("cuda"), marks=pytest.mark.gpu)], ids=str)
def test_under_dropout_the_fused_gradients_are_those_of_the_weights_that_were_kept(device: torch.device) -> None:
    *inner, bias = inputs(device)
    q, k, v = (tensor.detach()[:2, :1, :5, :2].double().requires_grad_() for tensor in inner)
    assert torch.autograd.gradcheck(lambda q, k, v: fused(q, k, v, bias[:2, ..., :5], 0.5, 7, 1), (q, k, v))


@pytest.mark.parametrize("device", [CPU, pytest.param(torch.device("cuda"), marks=pytest.mark.gpu)], ids=str)
def test_dropout_of_the_fused_kernel_depends_on_key_and_site_alone(device: torch.device) -> None:
    q, k, v, bias = inputs(device)
    first, other_site, again = (fused(q, k, v, bias, 0.5, 7, site) for site in (1, 2, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other_site)
    mean = torch.stack([fused(q, k, v, bias, 0.1, 7, site).detach() for site in range(4000)]).mean(0)
    torch.testing.assert_close(mean, fused(q, k, v, bias, 0.1, None, 0).detach(), atol=0.05, rtol=0.05)


@pytest.mark.gpu
def test_on_a_card_the_fused_kernel_is_used() -> None:
    q, k, v, bias = inputs(torch.device("cuda"))
    assert torch.equal(attention(q, k, v, bias, 0.5, 7, 1), fused(q, k, v, bias, 0.5, 7, 1))
