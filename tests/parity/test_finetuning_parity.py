"""Fine-tuning a model of transformers beside a plain loop over the same model: the same batches give the same losses, step by step."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from ernie_core.benchmarks.base import Benchmark, Encoded, Example, all_benchmarks
from ernie_core.benchmarks.rows import fewer
from ernie_core.data.rows import Rows
from ernie_core.model.ernie import BENCHMARK, ErnieForBenchmark
from ernie_core.seeding import generator
from ernie_core.tokenization import Tokenizer, load_tokenizer
from ernie_core.training.checkpoint import load_weights, read_config
from ernie_core.training.finetune import predict
from ernie_core.training.loop import train
from ernie_core.training.optim import adamw
from ernie_core.training.schedule import learning_rate
from ernie_core.training.trial_feed import TrialFeed
from ernie_core.training.worker import LocalWorker
from ernie_core.vocab import SPECIAL_TOKENS, Vocab
from pipelines.initial import own_folder

pytestmark = pytest.mark.parity
REAL = os.environ.get("ERNIE_TEST_BERT")
"""Folder of real weights to try instead of a small random model."""
BATCH, STEPS, RATE = 8, 40, 1e-4 if REAL else 1e-3
WORDS = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "good", "bad"]


@pytest.fixture(scope="module")
def theirs_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small BERT as transformers saves it, or real weights."""
    if REAL:
        return Path(REAL)
    folder = tmp_path_factory.mktemp("bert")
    tokens = (*SPECIAL_TOKENS, *WORDS)
    (folder / "vocab.txt").write_bytes(Vocab(tokens).to_bytes())
    transformers.BertTokenizer(vocab=str(folder / "vocab.txt")).save_pretrained(folder)
    torch.manual_seed(3)
    config = transformers.BertConfig(vocab_size=len(tokens), hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=128,
                                     max_position_embeddings=64, initializer_range=0.1)  # fmt: skip
    transformers.BertModel(config).save_pretrained(folder)
    return folder


def made_up(benchmark: Benchmark, tokenizer: Tokenizer) -> Encoded:
    """Rows of one or two texts; a text with "good" has label 1, of a regression more of it a higher value."""
    examples = []
    for i in range(BATCH * 20):
        draw = generator("parity", i)
        texts = tuple(" ".join(WORDS[k] for k in draw.integers(0, len(WORDS), int(draw.integers(2, 14)))) for _ in range(2))
        value = float(sum(t.count("good") for t in texts))
        regression = benchmark.kind == "regression"
        examples.append(Example(texts, () if regression else (int(value > 0),), value if regression else None, id=str(i)))
    return benchmark.encode(fewer(examples, None, 0, ""), benchmark, tokenizer, 64)


class Theirs(torch.nn.Module):
    """AutoModel with the mean of its tokens, or its pooler, and the output layer of ours."""

    def __init__(self, folder: Path, ours: ErnieForBenchmark) -> None:
        super().__init__()
        self.encoder = transformers.AutoModel.from_pretrained(folder, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
        self.output = torch.nn.Linear(ours.output.in_features, ours.output.out_features)
        self.output.load_state_dict(ours.output.state_dict())
        self.mean = ours.pooling == "mean"

    def forward(self, ids: torch.Tensor, types: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        found = self.encoder(input_ids=ids, token_type_ids=types, attention_mask=mask)
        features = (found.last_hidden_state * mask[..., None]).sum(1) / mask.sum(1, keepdim=True) if self.mean else found.pooler_output
        logits: torch.Tensor = self.output(features)
        return logits


def tensors(token_ids: np.ndarray, types: np.ndarray, lengths: np.ndarray) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    mask = torch.from_numpy((np.arange(token_ids.shape[1]) < lengths[:, None]).astype(np.int64))
    return torch.from_numpy(token_ids).long(), torch.from_numpy(types).long(), mask


def plain_losses(model: Theirs, feed: TrialFeed, regression: bool) -> list[float]:
    """Train as transformers' examples do, on the batches of `feed`, and return each step's loss."""
    groups = [{"params": [p for p in model.parameters() if (p.ndim > 1) is decayed], "weight_decay": 0.01 * decayed} for decayed in (True, False)]
    optimizer = torch.optim.AdamW(groups, lr=RATE, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: learning_rate(step, STEPS, RATE, 0.1) / RATE)
    losses = []
    for _ in range(STEPS):
        (batch,) = feed.next().batches
        logits, labels = model(*tensors(batch.token_ids, batch.sentence_type_ids, batch.lengths)), torch.from_numpy(batch.labels)
        loss = torch.nn.functional.mse_loss(logits[:, 0], labels.float()) if regression else torch.nn.functional.cross_entropy(logits, labels.long())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize(("name", "pooling"), [("mrpc", "mean"), ("mrpc", "cls"), ("stsb", "mean")])
def test_losses_and_predictions_are_those_of_a_plain_loop(name: str, pooling: str, theirs_folder: Path, tmp_path: Path) -> None:
    benchmark, start = all_benchmarks()[name], own_folder(theirs_folder, tmp_path / "start")
    encoded = made_up(benchmark, load_tokenizer(start / "vocab.txt"))
    rows = Rows.from_samples(encoded.samples)
    config = replace(read_config(start), hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    model = ErnieForBenchmark(config, benchmark.kind, benchmark.num_outputs, 1, pooling)
    load_weights(start, model, new=("output.",), unused=("lm_head.", "heads."))
    theirs = Theirs(theirs_folder, model)
    feed, again = (TrialFeed(rows, BATCH, 1, 0, encoded.values) for _ in range(2))
    losses: list[float] = []
    train(
        model, feed, adamw(model, weight_decay=0.01, beta2=0.98), worker=LocalWorker(), start_step=0, total_steps=STEPS,
        lr_at=lambda step: learning_rate(step, STEPS, RATE, 0.1), loss_weights={BENCHMARK: 1.0}, clip_norm=1.0, precision="fp32", dropout_seed=1,
        on_step=lambda r: losses.append(r.losses[BENCHMARK]), save_every=0, save=lambda *_: None, validate_every=0, validate=lambda _: None,
        should_stop=lambda: False,
    )  # fmt: skip
    expected = plain_losses(theirs, again, benchmark.kind == "regression")
    print(
        f"\n{name} {pooling}: loss {losses[0]:.6f} to {losses[-1]:.6f}, largest difference {np.abs(np.array(losses) - expected).max():.1e} in {STEPS} steps"
    )
    assert losses[-1] < losses[0], "it learns"
    np.testing.assert_allclose(losses, expected, atol=1e-4, rtol=1e-4)
    ids = [(np.array([s.token_ids]), np.array([s.sentence_type_ids]), np.array([len(s.token_ids)])) for s in encoded.samples]
    with torch.no_grad():
        found = np.concatenate([theirs.eval()(*tensors(*row)).numpy() for row in ids])
    np.testing.assert_allclose(predict(model, rows, pad_id=0, precision="fp32"), found, atol=1e-3)
