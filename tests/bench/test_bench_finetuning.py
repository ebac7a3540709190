"""Fine-tuning against Hugging Face's Trainer with dynamic padding: rows a second on ChnSentiCorp, same model, rows and arithmetic: `make bench`."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
import torch
import transformers

from ernie_core.benchmarks.base import Encoded
from ernie_core.benchmarks.chinese import CHNSENTICORP
from ernie_core.benchmarks.layouts import ERNIE_TEXT
from ernie_core.benchmarks.rows import fewer
from ernie_core.data.rows import Rows
from ernie_core.interop.huggingface import to_theirs
from ernie_core.model.config import ErnieConfig
from ernie_core.model.ernie import BENCHMARK, ErnieForBenchmark
from ernie_core.tokenization import Tokenizer
from ernie_core.training.finetune import predict
from ernie_core.training.loop import train
from ernie_core.training.optim import adamw
from ernie_core.training.trial_feed import TrialFeed
from ernie_core.training.worker import LocalWorker
from ernie_core.vocab import Vocab

pytestmark = pytest.mark.usefixtures("two_threads")
BATCH, LENGTH, ROWS = 24, 256, 480
SHAPE = {"hidden_size": 312, "num_hidden_layers": 4, "num_attention_heads": 12, "max_position_embeddings": 513}


@pytest.fixture(scope="module")
def data(test_data: Path) -> tuple[ErnieConfig, Encoded]:
    vocab = Vocab.load(test_data / "ernie_reference" / "vocab_zh.txt")
    rows = fewer(ERNIE_TEXT.read(test_data / "chnsenticorp" / "train.tsv", CHNSENTICORP).examples, ROWS, 7, "bench")
    config = ErnieConfig(vocab_size=18000, sent_type_vocab_size=2, use_task_id=False, **SHAPE)
    return config, CHNSENTICORP.encode(rows, CHNSENTICORP, Tokenizer(vocab), LENGTH)


def reference(model: ErnieForBenchmark, config: ErnieConfig) -> torch.nn.Module:
    """Return the peer with the encoder's weights of ours."""
    theirs = transformers.ErnieForSequenceClassification(transformers.ErnieConfig(
        vocab_size=config.vocab_size, hidden_size=config.hidden_size, num_hidden_layers=config.num_hidden_layers,
        num_attention_heads=config.num_attention_heads, intermediate_size=config.intermediate_size, max_position_embeddings=config.max_position_embeddings,
        type_vocab_size=2, use_task_id=False, hidden_act=config.hidden_act, layer_norm_eps=config.layer_norm_eps, num_labels=2, pad_token_id=0,
    ))  # fmt: skip
    values, _ = to_theirs({k: v for k, v in model.state_dict().items() if k.startswith("encoder.")})
    values |= {"classifier.weight": model.output.weight.detach(), "classifier.bias": model.output.bias.detach()}
    _, unexpected = theirs.load_state_dict(values, strict=False)
    assert not unexpected, unexpected
    return theirs


class Padding:
    """Pads a batch to its longest row, as DataCollatorWithPadding does with a tokenizer of ours in its place."""

    def __call__(self, rows: list[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
        width = max(len(r["input_ids"]) for r in rows)

        def padded(name: str) -> torch.Tensor:
            return torch.tensor([r[name] + [0] * (width - len(r[name])) for r in rows])

        return {**{n: padded(n) for n in ("input_ids", "token_type_ids", "attention_mask")}, "labels": torch.tensor([r["labels"] for r in rows])}


@pytest.mark.bench
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_rows_a_second_against_the_trainer(precision: str, data: tuple[ErnieConfig, Encoded], tmp_path: Path) -> None:
    os.environ["ACCELERATE_USE_CPU"] = "true"
    config, encoded = data
    model = ErnieForBenchmark(config, "classification", 2, seed=1)
    theirs = reference(model, config)
    rows = Rows.from_samples(encoded.samples)
    feed = TrialFeed(rows, BATCH, 1, 0)
    steps = ROWS // BATCH
    losses: list[float] = []
    begun = time.perf_counter()
    train(
        model, feed, adamw(model, weight_decay=0.01, beta2=0.98), worker=LocalWorker(), start_step=0, total_steps=steps, lr_at=lambda _: 5e-5,
        loss_weights={BENCHMARK: 1.0}, clip_norm=1.0, precision=precision, dropout_seed=1, on_step=lambda r: losses.append(r.losses[BENCHMARK]),
        save_every=0, save=lambda *_: None, validate_every=0, validate=lambda _: None, should_stop=lambda: False,
    )  # fmt: skip
    ours_s = time.perf_counter() - begun
    items = [
        {"input_ids": s.token_ids, "token_type_ids": s.sentence_type_ids, "attention_mask": [1] * len(s.token_ids), "labels": s.label}
        for s in encoded.samples
    ]
    arguments = transformers.TrainingArguments(
        output_dir=str(tmp_path), per_device_train_batch_size=BATCH, per_device_eval_batch_size=BATCH, max_steps=steps, learning_rate=5e-5, bf16=precision == "bf16",
        use_cpu=True, report_to=[], logging_steps=1, save_strategy="no", disable_tqdm=True, lr_scheduler_type="constant", remove_unused_columns=False,
    )  # fmt: skip
    trainer = transformers.Trainer(model=theirs, args=arguments, train_dataset=items, data_collator=Padding())
    begun = time.perf_counter()
    trainer.train()
    theirs_s = time.perf_counter() - begun
    their_losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    begun = time.perf_counter()
    predict(model, rows, pad_id=0, precision=precision)
    ours_predict = time.perf_counter() - begun
    begun = time.perf_counter()
    trainer.predict(items)
    theirs_predict = time.perf_counter() - begun
    mean = sum(losses) / len(losses), sum(their_losses) / len(their_losses)
    print(
        f"\nChnSentiCorp, 4x312, {precision}, 2 threads, {ROWS} rows of at most {LENGTH} tokens (mean {rows.lengths.mean():.0f}) in batches of {BATCH}"
    )
    print(f"  training: theirs {ROWS / theirs_s:.1f} rows/s, ours {ROWS / ours_s:.1f}: {theirs_s / ours_s:.2f} times (bound 1.8); mean loss theirs {mean[1]:.3f}, ours {mean[0]:.3f}")  # fmt: skip
    print(
        f"  prediction: theirs {ROWS / theirs_predict:.1f} rows/s, ours {ROWS / ours_predict:.1f}: {theirs_predict / ours_predict:.2f} times (bound 2)"
    )
    assert mean[0] == pytest.approx(mean[1], abs=0.1)
    assert theirs_s / ours_s >= 1.8
    assert theirs_predict / ours_predict >= 2
