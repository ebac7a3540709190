"""Pretraining against Hugging Face's ErnieForPreTraining in a plain loop: real tokens a second, same rows, weights and arithmetic: `make bench`."""

from __future__ import annotations

import gzip
import statistics
import time
from functools import partial
from pathlib import Path

import numpy as np
import plain_pretraining as peer
import pytest
import torch
from numpy.typing import NDArray

from ernie_core.data.batches import collate
from ernie_core.data.masking import mask_rows
from ernie_core.data.order import Cursor, TaskOrder
from ernie_core.data.rows import Rows
from ernie_core.data.text_format import decode_text
from ernie_core.model.config import ErnieConfig
from ernie_core.model.ernie import ErnieForPretraining
from ernie_core.model.heads import Head
from ernie_core.schemas import Sample
from ernie_core.seeding import generator
from ernie_core.training.feed import FeedStep
from ernie_core.training.loop import train
from ernie_core.training.optim import adamw
from ernie_core.training.worker import LocalWorker

pytestmark = pytest.mark.usefixtures("two_threads")
ROWS = 32
HEADS = {"next_sentence": Head("sentence", 2, peer.TASK_ID)}
TINY = ErnieConfig(18000, 312, 4, 12, 128, 4, hidden_dropout_prob=0.1, attention_probs_dropout_prob=0.1)
BASE = ErnieConfig(18000, 768, 12, 12, 128, 4, hidden_dropout_prob=0.1, attention_probs_dropout_prob=0.1)
CASES = [
    ("tiny 4x312", TINY, "made", "plain loop", "bf16", 20, 3.8), ("tiny 4x312", TINY, "made", "plain loop", "fp32", 8, 7.0),
    ("tiny 4x312", TINY, "demo set", "plain loop", "bf16", 20, 3.0), ("tiny 4x312", TINY, "demo set", "plain loop", "fp32", 8, 5.5),
    ("tiny 4x312", TINY, "made", "Trainer", "bf16", 20, 3.8), ("tiny 4x312", TINY, "made", "Trainer", "fp32", 8, 7.0),
    ("base 12x768", BASE, "made", "plain loop", "bf16", 4, 2.1), ("base 12x768", BASE, "made", "plain loop", "fp32", 2, 5.5),
]  # fmt: skip
"""Name, shape, rows, the peer's loop and arithmetic, its steps in a round, and the bound; ours is in bf16 always."""


def demo_rows(test_data: Path) -> Rows:
    """Return the rows of at most 128 tokens of the ERNIE demo set, 9,989 of 10,000."""
    source = test_data / "ernie_reference" / "demo_train_set.gz"
    rows = decode_text(gzip.decompress(source.read_bytes()), str(source))
    return rows.take(np.flatnonzero(rows.lengths <= 128))


def made_rows(count: int) -> Rows:
    """Rows of two segments, lengths uniform from 20 to 128, words of one or two tokens."""
    draw, made = generator("bench"), []
    for _ in range(count):
        size = int(draw.integers(20, 129))
        cut = int(draw.integers(8, size - 8))
        ids = [1, *draw.integers(5, 17964, size - 2).tolist(), 2]
        ids[cut] = 2
        seg = [0 if i in (0, cut, size - 1) else int(draw.random() < 0.3) for i in range(size)]
        seg = [-1 if i in (0, cut, size - 1) else 0 if i - 1 in (0, cut) else s for i, s in enumerate(seg)]
        made.append(
            Sample(ids, [0] * (cut + 1) + [1] * (size - cut - 1), list(range(size)), seg, seg, [min(s, 0) for s in seg], int(draw.integers(0, 2)))
        )
    return Rows.from_samples(made)


class OurFeed:
    """Global batches as pretraining makes them: length bins, a budget of as many tokens as the peer's batches hold places."""

    def __init__(self, rows: Rows, config: ErnieConfig, batch_tokens: int) -> None:
        self.rows, self.config, self.step = rows, config, 0
        self.order = TaskOrder([rows.lengths], seed=1, task="bench", window_groups=16, batch_tokens=batch_tokens)
        self.cursor = Cursor()
        self.places = self.tokens = 0

    def chosen(self) -> NDArray[np.int64]:
        """Return the numbers of the next batch's rows."""
        batch, self.cursor = self.order.next(self.cursor)
        return batch.rows

    def next(self) -> FeedStep:
        few = self.rows.take(self.chosen())
        masked = mask_rows(few, unit="word", seed=self.step, epoch=0, vocab_size=self.config.vocab_size, num_special=5, mask_id=3)
        batch = collate(few, masked, task_id=peer.TASK_ID, pad_id=0)
        self.step += 1
        self.places += batch.token_ids.size
        tokens = int(batch.lengths.sum())
        self.tokens += tokens
        return FeedStep("next_sentence", peer.TASK_ID, 0, 0, (0, 1), "none", "word", [batch], few.sample_ids, tokens, "")


def ours(model: ErnieForPretraining, feed: OurFeed, steps: int, precision: str) -> tuple[float, list[float]]:
    losses: list[float] = []
    begun = time.perf_counter()
    train(
        model, feed, adamw(model, weight_decay=0.01, beta2=0.98), worker=LocalWorker(), start_step=0, total_steps=steps, lr_at=lambda _: 1e-4,
        loss_weights={"lm": 1.0, "next_sentence": 1.0}, clip_norm=1.0, precision=precision, dropout_seed=1,
        on_step=lambda r: losses.append(sum(r.losses.values())), save_every=0, save=lambda *_: None, validate_every=0, validate=lambda _: None,
        should_stop=lambda: False,
    )  # fmt: skip
    return time.perf_counter() - begun, losses


@pytest.mark.bench
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(("name", "config", "source", "loop", "precision", "steps", "least"), CASES, ids=["-".join([c[0], *c[2:5]]) for c in CASES])
def test_tokens_a_second_against(
    name: str, config: ErnieConfig, source: str, loop: str, precision: str, steps: int, least: float, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    rows = made_rows(4096) if source == "made" else demo_rows(request.getfixturevalue("test_data"))
    model = ErnieForPretraining(config, HEADS, seed=1)
    theirs = peer.reference_model(model, config)
    _equal_losses(model, theirs, rows, config)
    feed = OurFeed(rows, config, ROWS * 128)
    batches = peer.batches(rows, ROWS, 1)
    rates: dict[str, list[float]] = {"theirs": [], "ours": []}
    for number in range(4):  # the first to warm up
        count = steps if number else 2
        chosen = batches[number * steps : number * steps + count]
        run = peer.train if loop == "plain loop" else partial(peer.train_by_trainer, folder=tmp_path)
        seconds, losses, tokens, places = run(theirs, rows, chosen, precision, config)
        before = feed.tokens, feed.places
        our_seconds, our_losses = ours(
            model, feed, max(1, round(tokens / (ROWS * 118))), "bf16"
        )  # as many tokens: bins fill 92 to 96 % of the budget
        if number:
            rates["theirs"].append(tokens / seconds)
            rates["ours"].append((feed.tokens - before[0]) / our_seconds)
        held = {"theirs": (losses, 1 - tokens / places), "ours": (our_losses, 1 - (feed.tokens - before[0]) / (feed.places - before[1]))}
    found = {side: statistics.median(values) for side, values in rates.items()}
    histogram = np.histogram(rows.lengths, bins=[1, 20, 40, 60, 80, 100, 129])[0].tolist()
    print(f"\n{name}, {source}, {loop}, theirs {precision}, ours bf16, 2 threads; {len(rows)} rows (by 20 tokens: {histogram}); medians of 3")
    for side, (losses, padding) in held.items():
        print(
            f"  {side:<6} {found[side]:8.0f} real tokens/s, padding {padding:.1%}, losses {losses[0]:.3f} … {losses[-1]:.3f} over {len(losses)} steps"
        )
    ratio = found["ours"] / found["theirs"]
    print(f"  ratio {ratio:.2f} (bound {least})")
    assert ratio >= least


def _equal_losses(model: ErnieForPretraining, theirs: torch.nn.Module, rows: Rows, config: ErnieConfig) -> None:
    """Both sides give one loss for one batch, without dropout."""
    from ernie_core.model.embeddings import TorchBatch

    chosen = np.arange(8)
    arguments, _ = peer.inputs(rows, chosen, 0, config)
    masked = mask_rows(rows.take(chosen), unit="word", seed=0, epoch=0, vocab_size=config.vocab_size, num_special=5, mask_id=3)
    batch = collate(rows.take(chosen), masked, task_id=peer.TASK_ID, pad_id=0)
    theirs.eval()
    with torch.no_grad():
        mine = sum(float(loss.sum) / loss.count for loss in model.losses(TorchBatch.from_numpy(batch, torch.device("cpu")), None).values())
        assert mine == pytest.approx(float(theirs(**arguments).loss), rel=1e-4)
    theirs.train()


@pytest.mark.parity
def test_both_sides_of_the_bench_train(tmp_path: Path) -> None:
    """A bench is run by hand and seldom: here with a shape so small that every test run sees whether it still works."""
    small = ErnieConfig(18000, 24, 1, 2, 128, 4)
    rows = made_rows(64)
    model = ErnieForPretraining(small, HEADS, seed=1)
    theirs = peer.reference_model(model, small)
    _equal_losses(model, theirs, rows, small)
    feed = OurFeed(rows, small, 8 * 128)
    _, losses = ours(model, feed, 2, "fp32")
    _, their_losses, tokens, _ = peer.train(theirs, rows, peer.batches(rows, 8, 1)[:2], "fp32", small)
    _, trainer_losses, trainer_tokens, _ = peer.train_by_trainer(theirs, rows, peer.batches(rows, 8, 1)[:2], "fp32", small, tmp_path)
    assert losses + their_losses + trainer_losses == [pytest.approx(10.5, abs=0.3)] * 6
    assert min(tokens, feed.tokens) > 500
    assert trainer_tokens == tokens
