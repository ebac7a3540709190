from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from training_helper import HEADS, make_batch, make_config, take

from ernie_core.errors import IntegrityError, RecipeError
from ernie_core.model.config import ErnieConfig
from ernie_core.model.embeddings import TorchBatch
from ernie_core.model.encoder import Encoder
from ernie_core.model.ernie import ErnieForBenchmark, ErnieForPretraining
from ernie_core.model.heads import Head

CPU = torch.device("cpu")
torch.set_num_threads(1)


def gradients(model: torch.nn.Module) -> set[str]:
    return {name for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize(("task_id", "expected"), [(0, {"lm"}), (7, {"lm", "next_sentence"}), (2, {"lm", "token_document"})])
def test_a_batch_gives_the_losses_its_rows_hold_and_counts_agree(task_id: int, expected: set[str]) -> None:
    model = ErnieForPretraining(make_config(), HEADS, seed=1)
    batch = make_batch("counts", task_id=task_id)
    losses = model.losses(TorchBatch.from_numpy(batch, CPU), None)
    assert set(losses) == expected
    assert model.counts(batch) == {name: loss.count for name, loss in losses.items()}


def test_a_head_whose_task_is_absent_keeps_no_gradient() -> None:
    model = ErnieForPretraining(make_config(), HEADS, seed=1)
    losses = model.losses(TorchBatch.from_numpy(make_batch("absent", task_id=0), CPU), None)
    losses["lm"].sum.backward()
    untouched = {name for name, _ in model.named_parameters()} - gradients(model)
    assert untouched == {
        "heads.next_sentence.weight", "heads.next_sentence.bias", "heads.token_document.weight", "heads.token_document.bias",
        "encoder.pooler.weight", "encoder.pooler.bias",
    }  # fmt: skip


def test_a_batch_without_anything_scored_gives_no_loss() -> None:
    model = ErnieForPretraining(make_config(), HEADS, seed=1)
    batch = dataclasses.replace(
        make_batch("none", task_id=7), target_positions=np.empty(0, np.int64), target_ids=np.empty(0, np.int64), labels=np.full(6, -1)
    )
    assert model.losses(TorchBatch.from_numpy(batch, CPU), None) == {}
    assert model.counts(batch) == {}


def test_padding_changes_no_row() -> None:
    model = ErnieForPretraining(make_config(), HEADS, seed=1)
    batch = make_batch("padding")
    row = int(batch.lengths.argmin())
    length = int(batch.lengths[row])
    alone = take(batch, slice(row, row + 1))
    cut = dataclasses.replace(
        alone,
        token_ids=alone.token_ids[:, :length],
        sentence_type_ids=alone.sentence_type_ids[:, :length],
        position_ids=alone.position_ids[:, :length],
    )
    padded, pooled = model.encoder(TorchBatch.from_numpy(batch, CPU), None)
    short, short_pooled = model.encoder(TorchBatch.from_numpy(cut, CPU), None)
    torch.testing.assert_close(padded[row, :length], short[0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(pooled[row], short_pooled[0], atol=1e-5, rtol=1e-5)


def test_a_further_head_changes_the_start_of_no_other_parameter() -> None:
    few = ErnieForPretraining(make_config(), HEADS, seed=1).state_dict()
    more = ErnieForPretraining(make_config(), HEADS | {"aaa": Head("sentence", 3, 9)}, seed=1).state_dict()
    assert set(more) - set(few) == {"heads.aaa.weight", "heads.aaa.bias"}
    assert all(torch.equal(more[name], few[name]) for name in few)


def test_the_start_is_a_truncated_normal_of_the_configured_width() -> None:
    model = ErnieForPretraining(make_config(vocab_size=5000), HEADS, seed=1)
    word = model.encoder.embeddings.word.weight.detach()
    # A normal cut at two standard deviations has 0.8796 of its standard deviation left (variance 1 - 4 phi(2) / (2 Phi(2) - 1)).
    assert float(word.std()) == pytest.approx(0.02 * 0.8796, rel=0.01)
    assert float(word.abs().max()) <= 0.04
    assert model.state_dict()["encoder.layers.0.ffn_norm.weight"].eq(1).all()
    assert model.state_dict()["encoder.layers.0.qkv.bias"].eq(0).all()


def test_a_task_that_enters_gets_a_fresh_head_and_embedding_row_and_nothing_else() -> None:
    model = ErnieForPretraining(make_config(), HEADS, seed=1)
    start = {name: p.clone() for name, p in model.state_dict().items()}
    with torch.no_grad():
        for p in model.parameters():
            p.add_(1.0)
    model.start_task("next_sentence", 7, seed=1)
    now = model.state_dict()
    changed = {name for name in now if not torch.equal(now[name], start[name] + 1)}
    assert changed == {"heads.next_sentence.weight", "heads.next_sentence.bias", "encoder.embeddings.task.weight"}
    assert torch.equal(now["heads.next_sentence.weight"], start["heads.next_sentence.weight"])
    rows = (now["encoder.embeddings.task.weight"] != start["encoder.embeddings.task.weight"] + 1).any(1)
    assert rows.nonzero().flatten().tolist() == [7]


@pytest.mark.parametrize("kind", ["classification", "regression", "tagging"])
def test_a_benchmark_model_learns_the_rows_it_is_shown(kind: str) -> None:
    model = ErnieForBenchmark(make_config(), kind, 1 if kind == "regression" else 2, seed=1)
    batch = make_batch("benchmark", task_id=2 if kind == "tagging" else 7)
    if kind == "regression":
        batch = dataclasses.replace(batch, labels=batch.labels.astype(np.float32))
    data = TorchBatch.from_numpy(batch, CPU)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    losses = []
    for _ in range(60):
        loss = model.losses(data, None)["benchmark"]
        optimizer.zero_grad()
        loss.sum.backward()
        optimizer.step()
        losses.append(loss.sum.item() / loss.count)
    assert losses[-1] < 0.1 < losses[0]
    assert model.counts(batch) == {"benchmark": loss.count}
    assert model.predict(data).shape == {"classification": (6, 2), "regression": (6, 1), "tagging": (6, 16, 2)}[kind]


def test_the_reference_configurations_are_read(test_data: Path) -> None:
    folder = test_data / "ernie_reference"
    chinese = ErnieConfig.from_json((folder / "ernie_config_zh_1.0_base.json").read_text(), "zh")
    english = ErnieConfig.from_json((folder / "ernie_config_en_2.0_base.json").read_text(), "en")
    assert (chinese.vocab_size, chinese.hidden_act, chinese.max_position_embeddings, chinese.sent_type_vocab_size) == (18000, "relu", 513, 2)
    assert (english.vocab_size, english.hidden_act, english.sent_type_vocab_size, english.use_task_id) == (30522, "gelu", 4, False)


def test_the_parameters_of_the_chinese_base_model_are_as_many_as_published(test_data: Path) -> None:
    config = ErnieConfig.from_json((test_data / "ernie_reference/ernie_config_zh_1.0_base.json").read_text(), "zh")
    with torch.device("meta"):
        encoder = Encoder(config)
    assert sum(p.numel() for p in encoder.parameters()) == 99_866_112  # ernie.md 5.3


def test_a_configuration_survives_its_json() -> None:
    config = make_config(0.25, hidden_act="relu")
    assert ErnieConfig.from_json(config.to_json(), "x") == config


@pytest.mark.parametrize(
    ("change", "named"),
    [({"hidden_size": 18, "num_attention_heads": 4}, "hidden_size"), ({"hidden_act": "gelo"}, "hidden_act"), ({"vocab_size": 0}, "vocab_size")],
)
def test_an_impossible_shape_is_refused_by_name(change: dict[str, object], named: str) -> None:
    with pytest.raises(RecipeError, match=named) as e:
        make_config(**change)
    assert e.value.code == "E-MODEL-CONFIG"


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "{",
        json.dumps({"vocab_size": 5}),
        json.dumps(dataclasses.asdict(make_config()) | {"intermediate_size": 5}),
        json.dumps(dataclasses.asdict(make_config()) | {"position_embedding_type": "relative_key"}),
    ],
)
def test_a_file_that_is_no_configuration_is_refused(text: str) -> None:
    with pytest.raises(IntegrityError, match="E-MODEL-CONFIG"):
        ErnieConfig.from_json(text, "config.json")


def test_mean_pooling_reads_all_real_tokens_and_leaves_the_pooler_alone() -> None:
    model = ErnieForBenchmark(make_config(), "classification", 2, seed=1, pooling="mean")
    batch = make_batch("benchmark", task_id=7)
    data = TorchBatch.from_numpy(batch, CPU)
    hidden, _ = model.encoder(data, None)
    means = torch.stack([row[: int(n)].mean(0) for row, n in zip(hidden, batch.lengths, strict=True)])
    assert len(set(batch.lengths.tolist())) > 1, "no row is padded"
    assert torch.allclose(model.predict(data), model.output(means), atol=1e-6)
    model.losses(data, None)["benchmark"].sum.backward()
    assert model.encoder.pooler.weight.grad is None
    assert all(p.grad is not None for p in model.encoder.layers.parameters())
