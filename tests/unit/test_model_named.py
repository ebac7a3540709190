"""The published shapes by name, recomputation, and the operations that the MFU counts."""

from __future__ import annotations

import copy
import dataclasses

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from training_helper import HEADS, make_batch, make_config

from ernie_core.model.embeddings import TorchBatch
from ernie_core.model.encoder import Encoder
from ernie_core.model.ernie import ErnieForPretraining
from ernie_core.model.named import NAMED, fitted
from ernie_core.seeding import key
from ernie_core.training.flops import matmul_peak, step_flops
from pipelines.recipe_schema import Model

CPU = torch.device("cpu")


@pytest.mark.parametrize(("name", "count"), [("ernie1_base_zh", 99_866_112), ("ernie2_base_en", 109_483_776), ("ernie2_large_en", 335_143_936)])
def test_encoder_and_pooler_have_as_many_parameters_as_the_reference_s(name: str, count: int) -> None:
    with torch.device("meta"):
        encoder = Encoder(dataclasses.replace(NAMED[name], use_task_id=False))
    assert sum(p.numel() for p in encoder.parameters()) == count


def test_the_published_rows_are_kept_for_the_published_vocabulary_only() -> None:
    assert fitted("ernie1_base_zh", 17964, 128).vocab_size == 18000
    assert fitted("ernie1_base_zh", 6000, 128).vocab_size == 6000
    assert fitted("ernie1_base_zh", 21128, 128).vocab_size == 21128
    assert fitted("ernie1_base_zh", 17964, 128).max_position_embeddings == 513
    assert fitted("laptop_small", 6000, 512).max_position_embeddings == 512


def test_a_recipe_names_a_shape_and_may_not_contradict_it() -> None:
    model = Model.model_validate({"named": "ernie1_base_zh", "dropout": 0.1})
    assert (model.num_hidden_layers, model.hidden_size, model.hidden_act, model.dropout) == (12, 768, "relu", 0.1)
    assert Model.model_validate(model.model_dump()) == model
    with pytest.raises(ValueError, match="take out hidden_size"):
        Model.model_validate({"named": "ernie1_base_zh", "hidden_size": 256})
    with pytest.raises(ValueError, match="unknown model 'ernie3'; one of ernie"):
        Model.model_validate({"named": "ernie3"})


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_recomputation_gives_the_same_bits_with_dropout(precision: torch.dtype) -> None:
    kept = ErnieForPretraining(make_config(0.1), HEADS, seed=1)
    again = copy.deepcopy(kept)
    again.encoder.recompute = True
    calls = []
    again.encoder.layers[0].register_forward_pre_hook(lambda *_: calls.append(1))
    found = []
    for model in (kept, again):
        with torch.autocast("cpu", dtype=precision, enabled=precision != torch.float32):
            losses = model.losses(TorchBatch.from_numpy(make_batch("recompute"), CPU), key("d"))
        torch.stack([loss.sum for loss in losses.values()]).sum().backward()
        found.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    assert len(calls) == 2, "a layer runs in forward and once more in backward"
    assert found[0].keys() == found[1].keys()
    assert all(torch.equal(grad, found[1][name]) for name, grad in found[0].items())


def test_operations_are_those_that_torch_counts_where_nothing_is_padded() -> None:
    config = make_config()
    model = ErnieForPretraining(config, {}, seed=1)
    batch = make_batch("flops", task_id=0)
    full = dataclasses.replace(batch, lengths=batch.lengths * 0 + batch.token_ids.shape[1])
    counter = FlopCounterMode(display=False)
    with counter:
        model.losses(TorchBatch.from_numpy(full, CPU), None)["lm"].sum.backward()
    pooler = 2 * len(full.lengths) * config.hidden_size**2  # its forward is run, its backward is not: no sentence head reads it
    counted = counter.get_total_flops()
    assert counted - pooler + 6 * len(full.lengths) * config.hidden_size**2 == pytest.approx(step_flops(config, full), rel=0.01)
    assert step_flops(config, batch) < step_flops(config, full)


def test_the_peak_of_a_matrix_product_is_a_rate_that_a_machine_can_have() -> None:
    assert 1e8 < matmul_peak("fp32", CPU) < 1e15
