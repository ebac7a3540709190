from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ernie_core.model.dropout import dropout

torch.set_num_threads(1)
ONES = torch.ones(1000, 1000)


def test_the_share_of_dropped_values_and_the_scale_are_right() -> None:
    out = dropout(ONES, 0.1, 5, 0)
    assert float((out == 0).float().mean()) == pytest.approx(0.1, abs=0.0015)  # five standard deviations of a million draws
    assert out.unique().tolist() == [0.0, pytest.approx(1 / 0.9, rel=1e-4)]


def test_bfloat16_values_keep_their_mean() -> None:
    out = dropout(torch.linspace(0.5, 1.5, 1_000_000).to(torch.bfloat16), 0.1, 5, 0)
    assert float(out.double().mean()) == pytest.approx(1.0, abs=2e-3)


def test_equal_keys_and_sites_give_equal_masks_whatever_ran_before() -> None:
    first = dropout(ONES, 0.5, 5, 1)
    torch.rand(7)
    assert torch.equal(dropout(ONES, 0.5, 5, 1), first)


@pytest.mark.parametrize(("key", "site"), [(6, 1), (5, 2), (2**64 - 1, 1)])
def test_another_key_or_site_gives_an_independent_mask(key: int, site: int) -> None:
    a, b = dropout(ONES, 0.5, 5, 1) == 0, dropout(ONES, 0.5, key, site) == 0
    assert float((a == b).float().mean()) == pytest.approx(0.5, abs=0.0025)


def test_without_key_or_probability_values_pass_unchanged() -> None:
    assert dropout(ONES, 0.5, None, 1) is ONES
    assert dropout(ONES, 0.0, 5, 1) is ONES


@given(st.lists(st.integers(1, 7), min_size=1, max_size=3), st.floats(0.0, 0.99), st.integers(0, 2**64 - 1))
def test_any_shape_keeps_its_shape_and_the_gradient_has_the_same_mask(shape: list[int], probability: float, key: int) -> None:
    x = torch.ones(shape, requires_grad=True)
    out = dropout(x, probability, key, 3)
    (gradient,) = torch.autograd.grad(out.sum(), x)
    assert torch.equal(out.detach(), gradient)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_every_type_of_number_drops_the_same_values(dtype: torch.dtype) -> None:
    out = dropout(torch.full((40, 50), 3.0, dtype=dtype), 0.25, 5, 1)
    assert out.dtype == dtype
    assert torch.equal(out == 0, dropout(torch.ones(40, 50), 0.25, 5, 1) == 0)
    assert out[out != 0].unique().tolist() == [4.0]
