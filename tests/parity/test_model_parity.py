"""Our model against Hugging Face's ErnieForMaskedLM: equal hidden states, losses and gradients from equal weights, float32 on the CPU."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import transformers

from ernie_core.data.batches import Batch
from ernie_core.interop.huggingface import to_ours
from ernie_core.model.config import ErnieConfig
from ernie_core.model.embeddings import TorchBatch
from ernie_core.model.ernie import ErnieForPretraining
from ernie_core.seeding import generator

pytestmark = pytest.mark.parity
TASK_ID = 3


@pytest.fixture(scope="module", params=["gelu", "relu"])
def models(request: pytest.FixtureRequest) -> tuple[ErnieForPretraining, torch.nn.Module]:
    torch.manual_seed(0)
    config = ErnieConfig(
        90, 32, 3, 4, 24, 4, hidden_act=request.param, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, initializer_range=0.2
    )
    reference = transformers.ErnieForMaskedLM(transformers.ErnieConfig(
        vocab_size=90, hidden_size=32, num_hidden_layers=3, num_attention_heads=4, intermediate_size=128, max_position_embeddings=24,
        type_vocab_size=4, task_type_vocab_size=16, use_task_id=True, hidden_act=request.param, hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0, layer_norm_eps=1e-5, initializer_range=0.2, pad_token_id=0, attn_implementation="eager",
    ))  # fmt: skip
    pooler = transformers.ErnieModel(reference.config).pooler
    reference.ernie.pooler = pooler  # ErnieForMaskedLM is built without one
    with torch.no_grad():
        for p in reference.parameters():
            p.add_(0.05 * torch.randn_like(p))  # biases and norms, too, must matter
    ours = ErnieForPretraining(config, {}, seed=1)
    values = to_ours(dict(reference.named_parameters()), config, "reference")
    with torch.no_grad():
        for name, p in ours.named_parameters():
            p.copy_(values[name])
    return ours, reference


def batch() -> Batch:
    draw = generator("parity")
    lengths = np.array([16, 9, 3, 12])
    real = np.arange(16) < lengths[:, None]
    targets = np.flatnonzero(real & (draw.random((4, 16)) < 0.3))
    ids = np.where(real, draw.integers(5, 90, (4, 16)), 0)
    types, positions = np.where(real, draw.integers(0, 4, (4, 16)), 0), np.where(real, np.arange(16), 0)
    return Batch(
        ids, types, positions, lengths, TASK_ID, targets, draw.integers(5, 90, len(targets)), np.full(4, -1), {}, np.arange(4, dtype=np.uint64)
    )


def reference_arguments(data: TorchBatch) -> dict[str, torch.Tensor]:
    return {
        "input_ids": data.token_ids, "token_type_ids": data.sentence_type_ids, "position_ids": data.position_ids,
        "attention_mask": (torch.arange(16) < data.lengths[:, None]).long(), "task_type_ids": torch.full_like(data.token_ids, TASK_ID),
    }  # fmt: skip


def test_hidden_states_and_pooled_rows_are_equal(models: tuple[ErnieForPretraining, torch.nn.Module]) -> None:
    ours, reference = models
    data = TorchBatch.from_numpy(batch(), torch.device("cpu"))
    with torch.no_grad():
        hidden, pooled = ours.encoder(data, None)
        expected = reference.ernie(**reference_arguments(data))
    real = torch.arange(16) < data.lengths[:, None]
    torch.testing.assert_close(hidden[real], expected.last_hidden_state[real], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(pooled, expected.pooler_output, atol=1e-4, rtol=1e-4)


def test_masked_loss_and_every_gradient_are_equal(models: tuple[ErnieForPretraining, torch.nn.Module]) -> None:
    ours, reference = models
    data = TorchBatch.from_numpy(batch(), torch.device("cpu"))
    labels = torch.full((64,), -100)
    labels[data.target_positions] = data.target_ids
    for model in models:
        model.zero_grad()
    expected = reference(**reference_arguments(data), labels=labels.view(4, 16)).loss
    expected.backward()
    found = ours.losses(data, None)["lm"]
    (found.sum / found.count).backward()
    torch.testing.assert_close(found.sum.detach() / found.count, expected.detach(), atol=1e-5, rtol=1e-5)
    gradients = to_ours({name: p.grad for name, p in reference.named_parameters() if p.grad is not None}, ours.config, "gradients")
    compared = 0
    for name, p in ours.named_parameters():
        if not name.startswith("encoder.pooler"):
            torch.testing.assert_close(p.grad, gradients[name], atol=1e-4, rtol=1e-4, msg=lambda m, name=name: f"{name}: {m}")
            compared += 1
    assert compared == 6 + 3 * 12 + 5  # embeddings and their norm, layers, masked-LM head: none was left out
