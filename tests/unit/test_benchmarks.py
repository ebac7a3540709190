"""What every benchmark shares, and the encoding of classified texts and pairs. Files: test_benchmark_layouts; tags: test_sequence_labelling."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ernie_core.benchmarks.base import Benchmark, Example, all_benchmarks
from ernie_core.benchmarks.chinese import LCQMC
from ernie_core.benchmarks.classification import REVIEWS, cut_pair
from ernie_core.benchmarks.glue import STSB
from ernie_core.benchmarks.layouts import ERNIE_TEXT
from ernie_core.benchmarks.rows import overlap, read_rows, to_lines
from ernie_core.errors import InputError
from ernie_core.tokenization import Tokenizer
from ernie_core.vocab import SPECIAL_TOKENS, Vocab

TOKENS = (*SPECIAL_TOKENS, *"张三到北京大学好一二")


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer(Vocab(TOKENS))


def test_the_folder_scan_finds_the_benchmarks() -> None:
    assert {"chnsenticorp", "cola", "daily_ner", "reviews", "stsb"} <= set(all_benchmarks())


def test_rows_that_stand_in_both_subsets_are_found_after_normalising() -> None:
    train = [Example(("ＡＢ 好",), (1,)), Example(("二", "三"), (0,))]
    rows = [Example(("ab 好",), (0,)), Example(("ab好",), (0,)), Example(("ab  好",), (1,)), Example(("二三",), (0,)), Example(("二 ", "三"), (1,))]
    assert overlap(train, rows) == [True, False, True, False, True]


PASSED = [
    (REVIEWS, Example(("a\u2028\n\t b",), (1,), id="7"), '"labels": ["1"]'),
    (REVIEWS, Example(("好",), id="x"), '{"id": "x", "texts": ["好"]}'),
    (STSB, Example(("a", "b"), value=3.8, id="0"), '"value": 3.8'),
    (LCQMC, Example(("谁", "我"), (0,), group="谁", id="0"), '"group": "谁"'),
]


@pytest.mark.parametrize(("benchmark", "row", "part"), PASSED)
def test_rows_pass_from_import_to_trial_as_lines(benchmark: Benchmark, row: Example, part: str, tmp_path: Path) -> None:
    path = tmp_path / "dev.jsonl"
    path.write_bytes(to_lines([row, row], benchmark))
    assert part in path.read_text(encoding="utf-8")
    assert read_rows(path, benchmark) == (row, row)


@pytest.mark.parametrize("line", ['{"id": "0", "texts": ["好"], "labels": ["2"]}', '{"texts": ["好"]}', "[]", "{"])
def test_a_wrong_line_between_import_and_trial_is_named(line: str, tmp_path: Path) -> None:
    path = tmp_path / "dev.jsonl"
    path.write_bytes(to_lines([Example(("好",), (1,), id="0")], REVIEWS) + line.encode() + b"\n")
    with pytest.raises(InputError, match="E-BENCH-ROW") as error:
        read_rows(path, REVIEWS)
    assert error.value.where == f"{path}:2"


def test_a_classified_text_is_cut_at_the_end_and_keeps_its_label(tokenizer: Tokenizer) -> None:
    examples = [Example(("张三到北京",), (1,)), Example(("好",), (0,)), Example(("好",))]
    encoded = REVIEWS.encode(examples, REVIEWS, tokenizer, 5)
    long, short, hidden = encoded.samples
    assert long.token_ids == [tokenizer.vocab.cls_id, *tokenizer.encode("张三到"), tokenizer.vocab.sep_id]
    assert (long.label, short.label, hidden.label, len(short.token_ids), encoded.truncated) == (1, 0, -1, 3, 1)


def test_a_classification_is_scored_and_answered_by_its_highest_logit(tokenizer: Tokenizer) -> None:
    encoded = REVIEWS.encode([Example(("好",), (1,)), Example(("好",), (0,))], REVIEWS, tokenizer, 5)
    outputs = np.array([[-1.0, 1.0], [0.0, np.log(3)]], np.float32)
    assert REVIEWS.metric.of(encoded.outcomes(outputs)) == 0.5
    first, second = encoded.answers(outputs)
    assert (first["label"], second["label"]) == ("1", "1")
    assert second["probabilities"] == pytest.approx([0.25, 0.75], abs=1e-6)


def test_a_pair_is_read_as_two_segments(tokenizer: Tokenizer) -> None:
    (sample,) = LCQMC.encode([Example(("张三到北京", "好一"), (1,))], LCQMC, tokenizer, 8).samples
    ids = tokenizer.vocab
    assert sample.token_ids == [ids.cls_id, *tokenizer.encode("张三到"), ids.sep_id, *tokenizer.encode("好一"), ids.sep_id]
    assert sample.sentence_type_ids == [0, 0, 0, 0, 0, 1, 1, 1]
    assert sample.position_ids == list(range(8))
    assert sample.seg_labels == [-1, 0, 0, 0, -1, 0, 0, -1]


@given(st.integers(0, 12), st.integers(0, 12), st.integers(0, 24))
def test_pairs_are_cut_as_ernie_cuts_them_one_token_at_a_time(first: int, second: int, room: int) -> None:
    a, b = list(range(first)), list(range(second))
    while len(a) + len(b) > room:
        (a if len(a) > len(b) else b).pop()
    assert cut_pair(list(range(first)), list(range(second)), room) == (a, b)


def test_real_reviews_are_read_and_encoded_whole(test_data: Path) -> None:
    tokenizer = Tokenizer(Vocab.load(test_data / "ernie_reference" / "vocab_zh.txt"))
    subset = ERNIE_TEXT.read(test_data / "chnsenticorp" / "dev.tsv", REVIEWS)
    assert len(subset.examples) == 1200
    encoded = REVIEWS.encode(subset.examples, REVIEWS, tokenizer, 512)
    perfect = np.eye(2, dtype=np.float32)[[s.label for s in encoded.samples]]
    assert REVIEWS.metric.of(encoded.outcomes(perfect)) == 1.0
