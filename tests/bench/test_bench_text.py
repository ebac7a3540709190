"""Words against jieba and ids against tokenizers, on a sample of all Chinese text, both with one thread: `make bench`."""

from __future__ import annotations

import gc
import os
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import chinese_text
import jieba
import pytest
from tokenizers import BertWordPieceTokenizer

from corpus_prep.segment import load_segmenter
from ernie_core.normalise import normalise
from ernie_core.tokenization import Tokenizer
from ernie_core.vocab import Vocab

EVERY = 64  # one line of this many
ROUNDS = 5


@pytest.fixture(scope="module")
def lines(test_data: Path) -> list[str]:
    return [normalise(line)[0] for path in chinese_text.files(test_data) for line in chinese_text.lines(path)[::EVERY]]


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(os.environ, "TOKENIZERS_PARALLELISM", "false")
    gc.freeze()
    yield
    gc.unfreeze()


def seconds(work: Callable[[], Any]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def ratio(name: str, lines: list[str], count: int, theirs: Callable[[], Any], ours: Callable[[], Any]) -> float:
    """Print and return the median of their CPU time through ours, taken in turns."""
    pairs = [(seconds(theirs), seconds(ours)) for _ in range(ROUNDS)]
    their, our = (statistics.median(column) for column in zip(*pairs, strict=True))
    megabytes = sum(len(line.encode()) for line in lines) / 1e6
    print(f"\n{name}: {len(lines):,} lines, {megabytes:.1f} MB, {count:,} tokens on both sides, one thread, median CPU time of {ROUNDS}")
    print(f"  theirs {their:.2f} s ({megabytes / their:.2f} MB/s), ours {our:.2f} s ({megabytes / our:.2f} MB/s): {their / our:.1f} times")
    return their / our


@pytest.mark.bench
@pytest.mark.timeout(600)
def test_words_against_jieba(lines: list[str]) -> None:
    segmenter = load_segmenter()
    jieba.initialize()
    ours = segmenter.words(lines)
    assert ours == [jieba.lcut(line) for line in lines]
    count = sum(map(len, ours))
    assert ratio("words, jieba HMM", lines, count, lambda: [jieba.lcut(line) for line in lines], lambda: segmenter.words(lines)) >= 11


@pytest.mark.bench
@pytest.mark.timeout(600)
def test_ids_against_tokenizers(lines: list[str], test_data: Path, tmp_path: Path) -> None:
    vocab = Vocab.load(test_data / "ernie_reference" / "vocab_zh.txt")
    (tmp_path / "vocab.txt").write_bytes(vocab.to_bytes())
    # the text is normalised before: the peer's own lower-casing and accents are off
    peer = BertWordPieceTokenizer(str(tmp_path / "vocab.txt"), clean_text=True, handle_chinese_chars=True, strip_accents=False, lowercase=False)
    tokenizer = Tokenizer(vocab)
    count = len(tokenizer.encode_batch(lines).ids)
    assert count == sum(len(e.ids) for e in peer.encode_batch(lines, add_special_tokens=False))

    def encode() -> None:
        tokenizer._runs.clear()  # no run of letters is known from the round before
        tokenizer.encode_batch(lines)

    assert ratio("ids with offsets", lines, count, lambda: peer.encode_batch(lines, add_special_tokens=False), encode) >= 8
