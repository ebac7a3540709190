"""Benchmarks' files and their encoding: every bad row is named. Tagged sentences: see test_sequence_labelling."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from ernie_core.benchmarks.base import Benchmark, Example, all_benchmarks, overlap, read_subset
from ernie_core.benchmarks.classification import REVIEWS
from ernie_core.errors import InputError
from ernie_core.tokenization import Tokenizer
from ernie_core.vocab import SPECIAL_TOKENS, Vocab

TOKENS = (*SPECIAL_TOKENS, *"张三到北京大学好一二", "ab", "##cd", "##c", "##d", "e", "1", "##2", "n", "##y")


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer(Vocab(TOKENS))


def _write(folder: Path, text: str | bytes) -> Path:
    path = folder / "dev.tsv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_the_folder_scan_finds_the_benchmarks() -> None:
    assert list(all_benchmarks()) == ["daily_ner", "reviews"]


BAD_ROWS = [
    (REVIEWS, "label\ttext_a\n1\t好\n2\t坏\n", ":3", "one of 0, 1", "label '2'"),
    (REVIEWS, "label\ttext_a\n1.0\t好\n", ":2", "one of 0, 1", "label '1.0'"),
    (REVIEWS, "label\ttext_a\nnan\t好\n", ":2", "one of 0, 1", "label 'nan'"),
    (REVIEWS, "label\ttext_a\npositive\t好\n", ":2", "one of 0, 1", "label 'positive'"),
    (REVIEWS, "label\ttext_a\n\t好\n", ":2", "one of 0, 1", "label ''"),
    (REVIEWS, "label\ttext_a\n1\t好\t坏\n", ":2", "2 columns", "3: 1\\t好\\t坏"),
    (REVIEWS, "label\ttext_a\n1\n", ":2", "2 columns", "1: 1"),
    (REVIEWS, "label\ttext_a\n1\t\n", ":2", "a text in text_a", "nothing"),
    (REVIEWS, "1\t好\n0\t坏\n", ":1", "label TAB text_a", "1 TAB 好"),
    (REVIEWS, b"label\ttext_a\n1\t\xff\n", ":2, byte 2", "", "1\\t\\xff"),
    (REVIEWS, "", ":1", "label TAB text_a", "nothing"),
]


@pytest.mark.parametrize(("benchmark", "text", "place", "expected", "found"), BAD_ROWS)
def test_a_wrong_row_is_named_with_what_is_allowed(
    benchmark: Benchmark, text: str | bytes, place: str, expected: str, found: str, tmp_path: Path
) -> None:
    path = _write(tmp_path, text)
    with pytest.raises(InputError) as error:
        read_subset(benchmark, path)
    assert error.value.exit_code == 3
    assert error.value.where == f"{path}{place}"
    assert error.value.expected.startswith(expected)
    assert error.value.found.startswith(found)


@pytest.mark.parametrize("text", ["label\ttext_a\n", "label\ttext_a\n-100\t好\n"])
def test_a_file_without_labelled_rows_is_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="E-BENCH-EMPTY"):
        read_subset(REVIEWS, _write(tmp_path, text))
    with pytest.raises(InputError, match="E-BENCH-MISSING"):
        read_subset(REVIEWS, tmp_path / "no.tsv")


def test_rows_are_read_in_any_order_of_columns_and_ignored_ones_are_counted(tmp_path: Path) -> None:
    subset = read_subset(REVIEWS, _write(tmp_path, "text_a\tlabel\r\n好\t1\r\n坏\t-100\r\n一 \u2028二\t0"))
    assert subset.examples == (Example(("好",), (1,)), Example(("一 \u2028二",), (0,)))
    assert subset.ignored == 1


def test_texts_that_stand_in_both_subsets_are_counted_after_normalising() -> None:
    train = [Example(("ＡＢ 好",), (1,)), Example(("二",), (0,))]
    assert overlap(train, [Example(("ab 好",), (0,)), Example(("ab好",), (0,)), Example(("ab  好",), (1,))]) == 2


def test_a_classified_text_is_cut_at_the_end_and_keeps_its_label(tokenizer: Tokenizer) -> None:
    examples = [Example(("张三到北京",), (1,)), Example(("好",), (0,))]
    encoded = REVIEWS.encode(examples, REVIEWS, tokenizer, 5)
    long, short = encoded.samples
    assert long.token_ids == [tokenizer.vocab.cls_id, *tokenizer.encode("张三到"), tokenizer.vocab.sep_id]
    assert (long.label, short.label, len(short.token_ids), encoded.truncated) == (1, 0, 3, 1)
    assert encoded.outcomes(np.array([1, 1])).tolist() == [[1, 1], [0, 1]]


def test_real_reviews_are_read_and_encoded_whole(test_data: Path, tmp_path: Path) -> None:
    tokenizer = Tokenizer(Vocab.load(test_data / "ernie_reference" / "vocab_zh.txt"))
    path = _write(tmp_path, gzip.decompress((test_data / "chnsenticorp" / "dev.tsv.gz").read_bytes()))
    subset = read_subset(REVIEWS, path)
    assert len(subset.examples) == 1200
    encoded = REVIEWS.encode(subset.examples, REVIEWS, tokenizer, 512)
    assert REVIEWS.metric.of(encoded.outcomes(np.array([s.label for s in encoded.samples]))) == 1.0
